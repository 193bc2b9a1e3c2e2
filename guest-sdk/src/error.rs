//! Whose fault a failed request is, and how other errors become such an answer through `?`.

use std::fmt;

use crate::bindings::exports::modelhost::plugin::predictor as contract;

/// Why a plugin could not answer. The message reaches the client (and, for [`Error::Internal`], the operator's log):
/// one sentence that names the tensor or parameter and says what was expected.
///
/// Any standard error becomes [`Error::Internal`] through `?`. That is why this type is not itself a
/// [`std::error::Error`].
///
/// ```
/// use modelhost_guest::Error;
///
/// fn year(text: &str) -> Result<i64, Error> {
///     let year = text.parse()?; // a ParseIntError becomes `Error::Internal`
///     if year < 1900 {
///         return Err(Error::invalid_input(format!("input \"year\" is {year}: expected 1900 or later")));
///     }
///     Ok(year)
/// }
///
/// assert!(matches!(year("MMXX"), Err(Error::Internal(_))));
/// assert!(matches!(year("1066"), Err(Error::InvalidInput(_))));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The client's fault: the request can never succeed as it is.
    InvalidInput(String),
    /// Nobody's fault: the same request may succeed later.
    Unavailable(String),
    /// The plugin's fault.
    Internal(String),
}

impl Error {
    /// The client's fault: the request can never succeed as it is.
    ///
    /// ```
    /// let error = modelhost_guest::Error::invalid_input("input \"age\" is negative");
    /// assert_eq!(error.message(), "input \"age\" is negative");
    /// ```
    pub fn invalid_input(message: impl Into<String>) -> Error {
        Error::InvalidInput(message.into())
    }

    /// Nobody's fault: the same request may succeed later.
    ///
    /// ```
    /// let error = modelhost_guest::Error::unavailable("the vocabulary is being replaced");
    /// assert!(matches!(error, modelhost_guest::Error::Unavailable(_)));
    /// ```
    pub fn unavailable(message: impl Into<String>) -> Error {
        Error::Unavailable(message.into())
    }

    /// The plugin's fault.
    ///
    /// ```
    /// let error = modelhost_guest::Error::internal("the vocabulary is empty");
    /// assert!(matches!(error, modelhost_guest::Error::Internal(_)));
    /// ```
    pub fn internal(message: impl Into<String>) -> Error {
        Error::Internal(message.into())
    }

    /// The sentence, without whose fault it is.
    ///
    /// ```
    /// assert_eq!(modelhost_guest::Error::internal("no rows").message(), "no rows");
    /// ```
    pub fn message(&self) -> &str {
        match self {
            Error::InvalidInput(message) | Error::Unavailable(message) | Error::Internal(message) => message,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Error {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Error::Internal(message)
    }
}

impl Error {
    /// The form in the contract. Not a `From`: that would make the generated type a way to build errors.
    pub(crate) fn into_contract(self) -> contract::Error {
        match self {
            Error::InvalidInput(message) => contract::Error::InvalidInput(message),
            Error::Unavailable(message) => contract::Error::Unavailable(message),
            Error::Internal(message) => contract::Error::Internal(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("no number of rows")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_standard_error_keeps_its_causes() {
        let outer = Outer("x".parse::<i32>().unwrap_err());
        assert_eq!(Error::from(outer), Error::internal("no number of rows: invalid digit found in string"));
    }
}
