//! Names of models, aliases and everything else that has one, and version numbers: what they may look like, in one place.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that cannot be used, with the rule it breaks.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{kind} {name:?} is not allowed: {rule}")]
pub struct InvalidName {
    kind: &'static str,
    name: String,
    rule: &'static str,
}

const MAX_NAME_LENGTH: usize = 63;
const NAME_RULE: &str =
    "use 1 to 63 characters of a-z, A-Z, 0-9, '-', '_' and '.', beginning and ending with a letter or digit";
const ALIAS_RULE: &str =
    "an alias must hold a character that is not a digit, so that it is never taken for a number";

fn is_plain_name(name: &str) -> bool {
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= MAX_NAME_LENGTH
        && ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn check(kind: &'static str, name: &str) -> Result<Box<str>, InvalidName> {
    if is_plain_name(name) {
        Ok(name.into())
    } else {
        // A hostile name may be long; the start is enough to recognise it.
        Err(InvalidName { kind, name: name.chars().take(2 * MAX_NAME_LENGTH).collect(), rule: NAME_RULE })
    }
}

macro_rules! name_type {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                name.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }
    };
}

macro_rules! plain_name_type {
    ($name:ident, $kind:literal) => {
        name_type!($name);

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<$name, InvalidName> {
                check($kind, name).map($name)
            }
        }
    };
}

/// The name of a model, such as `sentiment`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(Box<str>);

plain_name_type!(ModelName, "model name");

/// The name of a dataset, such as `bookings`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetName(Box<str>);

plain_name_type!(DatasetName, "dataset name");

/// The name of a prediction table, such as `top-items`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName(Box<str>);

plain_name_type!(TableName, "table name");

/// The name of a schedule, such as `nightly`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScheduleName(Box<str>);

plain_name_type!(ScheduleName, "schedule name");

/// A movable name for a version, such as `champion`; never a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AliasName(Box<str>);

name_type!(AliasName);

impl FromStr for AliasName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<AliasName, InvalidName> {
        let checked = check("alias", name)?;
        if checked.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidName { kind: "alias", name: name.into(), rule: ALIAS_RULE });
        }
        Ok(AliasName(checked))
    }
}

/// The number of a version: 1, 2, 3 … per model or dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionNumber(pub u64);

impl fmt::Display for VersionNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_allowed() {
        for name in ["a", "income", "onnx-v1.2", "A_b", "7", &"x".repeat(63)] {
            assert!(name.parse::<ModelName>().is_ok(), "{name}");
        }
        assert!("champion".parse::<AliasName>().is_ok());
        assert!("v2".parse::<AliasName>().is_ok());
    }

    #[test]
    fn names_that_are_refused() {
        for name in ["", ".", "..", "-a", "a-", "a/b", "a b", "ä", "a\0", &"x".repeat(64)] {
            assert!(name.parse::<ModelName>().is_err(), "{name}");
        }
        assert!("2".parse::<AliasName>().is_err());
    }
}
