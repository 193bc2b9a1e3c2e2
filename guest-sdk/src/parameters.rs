//! The parameters of a request, read with the type that the plugin expects. Never knows which parameters there
//! should be: a plugin asks for those that it understands.

use std::fmt;

use crate::Error;
use crate::bindings::exports::modelhost::plugin::predictor as contract;

/// The value of a parameter.
///
/// ```
/// use modelhost_guest::{Parameter, Request, Tensor};
///
/// let request = Request::new([("user", Tensor::column([7_i64]))]).with_parameter("k", Parameter::Integer(10));
/// assert_eq!(request.parameters().get("k"), Some(&Parameter::Integer(10)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// Text.
    Text(String),
}

impl fmt::Display for Parameter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parameter::Boolean(value) => write!(formatter, "{value}"),
            Parameter::Integer(value) => write!(formatter, "{value}"),
            // With a point even where the fraction is zero: 5.0 is not the integer 5.
            Parameter::Number(value) => write!(formatter, "{value:?}"),
            Parameter::Text(value) => write!(formatter, "{:?}", shortened(value)),
        }
    }
}

/// Text from outside may be of any length; the start is enough to recognise it.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// What a request says beside its tensors. A getter answers `None` where the parameter is absent, and an
/// invalid-input error, which names the parameter, where it has another type.
///
/// ```
/// use modelhost_guest::{Parameter, Request};
///
/// let request = Request::default().with_parameter("k", Parameter::Integer(5));
/// let k = request.parameters().integer("k")?.unwrap_or(10);
/// let exact = request.parameters().boolean("exact")?.unwrap_or(false);
/// assert_eq!((k, exact), (5, false));
/// # Ok::<(), modelhost_guest::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    entries: Vec<(String, Parameter)>,
}

impl Parameters {
    /// The value, whatever its type.
    ///
    /// ```
    /// assert_eq!(modelhost_guest::Parameters::default().get("k"), None);
    /// ```
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// A truth value.
    ///
    /// ```
    /// use modelhost_guest::{Parameter, Request};
    ///
    /// let request = Request::default().with_parameter("exact", Parameter::Boolean(true));
    /// assert_eq!(request.parameters().boolean("exact")?, Some(true));
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid input where the parameter has another type.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        self.typed(name, "true or false", |value| match value {
            Parameter::Boolean(value) => Some(*value),
            _ => None,
        })
    }

    /// A whole number.
    ///
    /// ```
    /// use modelhost_guest::{Parameter, Request};
    ///
    /// let request = Request::default().with_parameter("k", Parameter::Text("ten".into()));
    /// let error = request.parameters().integer("k").unwrap_err();
    /// assert_eq!(error.message(), "parameter \"k\" is \"ten\": expected an integer");
    /// ```
    ///
    /// # Errors
    /// Invalid input where the parameter has another type.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Error> {
        self.typed(name, "an integer", |value| match value {
            Parameter::Integer(value) => Some(*value),
            _ => None,
        })
    }

    /// A number; an integer counts as one.
    ///
    /// ```
    /// use modelhost_guest::{Parameter, Request};
    ///
    /// let request = Request::default().with_parameter("threshold", Parameter::Number(0.7));
    /// assert_eq!(request.parameters().number("threshold")?, Some(0.7));
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid input where the parameter has another type.
    pub fn number(&self, name: &str) -> Result<Option<f64>, Error> {
        self.typed(name, "a number", |value| match value {
            Parameter::Number(value) => Some(*value),
            Parameter::Integer(value) => Some(*value as f64),
            _ => None,
        })
    }

    /// Text.
    ///
    /// ```
    /// use modelhost_guest::{Parameter, Request};
    ///
    /// let request = Request::default().with_parameter("language", Parameter::Text("de".into()));
    /// assert_eq!(request.parameters().text("language")?, Some("de"));
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid input where the parameter has another type.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        self.typed(name, "text", |value| match value {
            Parameter::Text(value) => Some(value.as_str()),
            _ => None,
        })
    }

    /// All texts of that name: a parameter that the client gives as a list comes as one of the same name for each element.
    ///
    /// ```
    /// use modelhost_guest::{Parameter, Request};
    ///
    /// let request = Request::default()
    ///     .with_parameter("stop", Parameter::Text("\n".into()))
    ///     .with_parameter("stop", Parameter::Text("END".into()));
    /// assert_eq!(request.parameters().texts("stop")?, ["\n", "END"]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid input where one of them has another type.
    pub fn texts(&self, name: &str) -> Result<Vec<&str>, Error> {
        let named = self.entries.iter().filter(|(known, _)| known == name);
        named
            .map(|(_, value)| match value {
                Parameter::Text(value) => Ok(value.as_str()),
                other => Err(Error::invalid_input(format!("parameter {name:?} is {other}: expected text"))),
            })
            .collect()
    }

    fn typed<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Parameter) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wrong_type =
            || Error::invalid_input(format!("parameter {name:?} is {value}: expected {expected}"));
        read(value).map(Some).ok_or_else(wrong_type)
    }

    pub(crate) fn push(&mut self, name: String, value: Parameter) {
        self.entries.push((name, value));
    }

    pub(crate) fn from_contract(entries: Vec<(String, contract::Parameter)>) -> Parameters {
        let one = |(name, value)| {
            let value = match value {
                contract::Parameter::Boolean(value) => Parameter::Boolean(value),
                contract::Parameter::Integer(value) => Parameter::Integer(value),
                contract::Parameter::Number(value) => Parameter::Number(value),
                contract::Parameter::Text(value) => Parameter::Text(value),
            };
            (name, value)
        };
        Parameters { entries: entries.into_iter().map(one).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(value: Parameter) -> Parameters {
        Parameters { entries: vec![("p".into(), value)] }
    }

    #[test]
    fn absent_is_none_for_every_type() {
        let none = Parameters::default();
        assert_eq!(none.boolean("p"), Ok(None));
        assert_eq!(none.integer("p"), Ok(None));
        assert_eq!(none.number("p"), Ok(None));
        assert_eq!(none.text("p"), Ok(None));
    }

    #[test]
    fn another_type_is_the_clients_fault_and_named() {
        let message = |result: Result<Option<i64>, Error>| match result {
            Err(Error::InvalidInput(message)) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            message(parameters(Parameter::Number(5.0)).integer("p")),
            "parameter \"p\" is 5.0: expected an integer"
        );
        assert_eq!(
            message(parameters(Parameter::Boolean(true)).integer("p")),
            "parameter \"p\" is true: expected an integer"
        );
        assert!(parameters(Parameter::Integer(1)).boolean("p").is_err());
        assert!(parameters(Parameter::Integer(1)).text("p").is_err());
        assert!(parameters(Parameter::Text("1".into())).number("p").is_err());
    }

    #[test]
    fn an_integer_is_a_number_and_long_text_is_cut() {
        assert_eq!(parameters(Parameter::Integer(3)).number("p"), Ok(Some(3.0)));
        let error = parameters(Parameter::Text("x".repeat(10_000))).integer("p").unwrap_err();
        assert!(error.message().len() < 150, "{}", error.message().len());
    }
}
