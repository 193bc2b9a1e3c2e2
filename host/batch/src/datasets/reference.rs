//! How a version of a dataset is named: `bookings@3`, `bookings@latest`, or `bookings`, which is the latest too.

use std::fmt;
use std::str::FromStr;

use modelhost_core::{DatasetName, InvalidName, VersionNumber};
use serde::{Deserialize, Serialize};

const LATEST: &str = "latest";

/// A dataset, and which version of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetReference {
    /// Which dataset.
    pub name: DatasetName,
    /// Which version; none for the latest at the time of asking.
    pub version: Option<VersionNumber>,
}

/// A text that names no version of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// The part before the `@`.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The part after the `@`.
    #[error("{0:?} is no version of a dataset: expected a number, or latest")]
    Version(String),
}

impl DatasetReference {
    /// This version and no other.
    pub fn exact(name: DatasetName, version: VersionNumber) -> DatasetReference {
        DatasetReference { name, version: Some(version) }
    }

    /// Whichever is the latest.
    pub fn latest(name: DatasetName) -> DatasetReference {
        DatasetReference { name, version: None }
    }

    /// From the two parts of an address: a version is a number or `latest`.
    ///
    /// # Errors
    /// [`InvalidReference::Version`].
    pub fn with_version(name: DatasetName, version: &str) -> Result<DatasetReference, InvalidReference> {
        if version == LATEST {
            return Ok(DatasetReference::latest(name));
        }
        let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        let number = if is_number { version.parse().ok() } else { None };
        let number = number.filter(|number| *number > 0).ok_or_else(|| {
            // A hostile text may be long; the start is enough to recognise it.
            InvalidReference::Version(version.chars().take(40).collect())
        })?;
        Ok(DatasetReference::exact(name, VersionNumber(number)))
    }
}

impl FromStr for DatasetReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<DatasetReference, InvalidReference> {
        match text.split_once('@') {
            None => Ok(DatasetReference::latest(text.parse()?)),
            Some((name, version)) => DatasetReference::with_version(name.parse()?, version),
        }
    }
}

impl fmt::Display for DatasetReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(formatter, "{}@{version}", self.name),
            None => write!(formatter, "{}@{LATEST}", self.name),
        }
    }
}

impl TryFrom<String> for DatasetReference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<DatasetReference, InvalidReference> {
        text.parse()
    }
}

impl From<DatasetReference> for String {
    fn from(reference: DatasetReference) -> String {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_that_are_understood() {
        let parse = |text: &str| text.parse::<DatasetReference>().unwrap();
        assert_eq!(parse("bookings"), parse("bookings@latest"));
        assert_eq!(parse("bookings@3").version, Some(VersionNumber(3)));
        assert_eq!(parse("bookings@003").to_string(), "bookings@3");
    }

    #[test]
    fn references_that_are_refused() {
        for text in
            ["", "@", "a@", "@3", "a@0", "a@-1", "a@+1", "a@newest", "a@3@4", "a b", "a@99999999999999999999"]
        {
            assert!(text.parse::<DatasetReference>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(text in ".{0,80}") {
            let _ = text.parse::<DatasetReference>();
        }

        #[test]
        fn what_is_written_is_read_again(
            name in "[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?",
            version in proptest::option::of(1_u64..),
        ) {
            let reference =
                DatasetReference { name: name.parse().unwrap(), version: version.map(VersionNumber) };
            prop_assert_eq!(reference.to_string().parse::<DatasetReference>().unwrap(), reference);
        }
    }
}
