//! How people name a version in a document: `income@3`, `income@champion`, or `income` for what is deployed.

use std::str::FromStr;

use modelhost_core::{InvalidName, ModelName, VersionNumber};

use crate::live::VersionSelector;

/// A version as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelReference {
    /// The model.
    pub model: ModelName,
    /// Which version of it.
    pub version: VersionSelector,
}

/// A text that names no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// A name that no model, or no alias, can have.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A number that no version can have.
    #[error("{0:?} is no number of a version")]
    Number(String),
}

impl FromStr for ModelReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<ModelReference, InvalidReference> {
        let Some((name, version)) = text.split_once('@') else {
            return Ok(ModelReference { model: text.parse()?, version: VersionSelector::Deployed });
        };
        let model = name.parse()?;
        if version.is_empty() || version.bytes().any(|byte| !byte.is_ascii_digit()) {
            return Ok(ModelReference { model, version: VersionSelector::Alias(version.parse()?) });
        }
        match version.parse() {
            Ok(number) if number > 0 => {
                Ok(ModelReference { model, version: VersionSelector::Number(VersionNumber(number)) })
            }
            _ => Err(InvalidReference::Number(version.chars().take(64).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_an_alias_or_what_is_deployed() {
        let selector = |text: &str| text.parse::<ModelReference>().map(|reference| reference.version);
        assert_eq!(selector("income"), Ok(VersionSelector::Deployed));
        assert_eq!(selector("income@3"), Ok(VersionSelector::Number(VersionNumber(3))));
        assert_eq!(selector("income@champion"), Ok(VersionSelector::Alias("champion".parse().unwrap())));
        for text in ["", "@3", "income@", "income@0", "income@99999999999999999999", "income@3@4", "a/b"] {
            assert!(selector(text).is_err(), "{text}");
        }
    }
}
