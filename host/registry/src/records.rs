//! The records in sled: their keys, their form, and what they say. No sled here: `check` keeps the same records
//! in memory to compare them.
//!
//! Keys are `v1/model/<name>`, `v1/version/<name>\0<number>` and `v1/revision/<name>\0<number>` with numbers in eight
//! big-endian bytes, so that they sort, `v1/record/<kind>\0<name>`, and `v1/applied`. A value is one byte, the form's
//! number, and JSON.
//!
//! Form 2 is form 1 with a configuration in a model's record. Other records stay in form 1, so that a folder in which
//! nothing was configured opens in an older modelhost too. Form 3 is for records that belong to no model, and from the first of
//! them on for `v1/applied`, by which an older modelhost sees that there are some. Form 4 is for versions that are ensembles.

use std::collections::BTreeMap;

use modelhost_core::{AliasName, Digest, ModelConfiguration, ModelName, VersionNumber};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::RegistryError;
use crate::model::{Revision, Version};
use crate::record::RecordKind;
use crate::sealed;

/// The newest form of values that this host reads.
pub(crate) const FORMAT: u8 = 4;
const WITHOUT_CONFIGURATION: u8 = 1;
const WITH_CONFIGURATION: u8 = 2;
pub(crate) const WITH_RECORDS: u8 = 3;
const WITH_ENSEMBLE: u8 = 4;
pub(crate) const MODELS: &[u8] = b"v1/model/";
pub(crate) const VERSIONS: &[u8] = b"v1/version/";
const REVISIONS: &[u8] = b"v1/revision/";
const RECORDS: &[u8] = b"v1/record/";
pub(crate) const APPLIED: &[u8] = b"v1/applied";

/// A record that belongs to no model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) generation: u64,
    pub(crate) value: Value,
}

/// All of a model that changes. What it refers to, versions and revisions, never does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) generation: u64,
    pub(crate) next_version: VersionNumber,
    pub(crate) versions: BTreeMap<VersionNumber, Digest>,
    pub(crate) aliases: BTreeMap<AliasName, VersionNumber>,
    pub(crate) deployment: Option<Revision>,
    #[serde(default, skip_serializing_if = "ModelConfiguration::is_default")]
    pub(crate) configuration: ModelConfiguration,
}

impl Head {
    /// Of a model that nothing has happened to yet.
    pub(crate) fn new() -> Head {
        Head {
            generation: 0,
            next_version: VersionNumber(1),
            versions: BTreeMap::new(),
            aliases: BTreeMap::new(),
            deployment: None,
            configuration: ModelConfiguration::default(),
        }
    }

    /// The bytes of the record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let is_plain = self.configuration.is_default();
        in_form(if is_plain { WITHOUT_CONFIGURATION } else { WITH_CONFIGURATION }, self)
    }
}

/// The last line of the journal that the records include.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) sequence: u64,
    /// Of that line's first byte.
    pub(crate) offset: u64,
}

/// A record to be set, or to be removed where there is no value.
pub(crate) type Write = (Vec<u8>, Option<Vec<u8>>);

/// Where records are kept.
pub(crate) trait Records {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RegistryError>;
    /// All of these or none.
    fn write(&mut self, writes: &[Write]) -> Result<(), RegistryError>;
}

/// Records in memory, for comparison.
pub(crate) type Replica = BTreeMap<Vec<u8>, Vec<u8>>;

impl Records for Replica {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RegistryError> {
        Ok(self.get(key).cloned())
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), RegistryError> {
        for (key, value) in writes {
            match value {
                Some(value) => self.insert(key.clone(), value.clone()),
                None => self.remove(key),
            };
        }
        Ok(())
    }
}

pub(crate) fn model_key(model: &ModelName) -> Vec<u8> {
    [MODELS, model.as_str().as_bytes()].concat()
}

pub(crate) fn version_key(model: &ModelName, number: VersionNumber) -> Vec<u8> {
    [VERSIONS, model.as_str().as_bytes(), b"\0", &number.0.to_be_bytes()].concat()
}

pub(crate) fn revision_key(model: &ModelName, number: u64) -> Vec<u8> {
    [&revisions_of(model), number.to_be_bytes().as_slice()].concat()
}

/// What the keys of all revisions of a model begin with. No name holds a zero byte.
pub(crate) fn revisions_of(model: &ModelName) -> Vec<u8> {
    [REVISIONS, model.as_str().as_bytes(), b"\0"].concat()
}

/// The key of a record that belongs to no model, or what the keys of all begin with whose names begin so.
pub(crate) fn record_key(kind: RecordKind, name: &str) -> Vec<u8> {
    [RECORDS, kind.as_str().as_bytes(), b"\0", name.as_bytes()].concat()
}

/// The name of the record that has this key.
pub(crate) fn name_of_record(key: &[u8], kind: RecordKind) -> Result<String, RegistryError> {
    let name = key.strip_prefix(record_key(kind, "").as_slice());
    name.and_then(|name| String::from_utf8(name.to_vec()).ok()).ok_or_else(|| unreadable(key))
}

/// The model whose record has this key.
pub(crate) fn model_of(key: &[u8]) -> Result<ModelName, RegistryError> {
    name_in(key, MODELS).ok_or_else(|| unreadable(key))
}

/// The model whose version has this key.
pub(crate) fn model_of_version(key: &[u8]) -> Result<ModelName, RegistryError> {
    let end = key.len().saturating_sub(size_of::<u64>() + 1);
    name_in(key.get(..end).unwrap_or_default(), VERSIONS).ok_or_else(|| unreadable(key))
}

fn name_in(key: &[u8], prefix: &[u8]) -> Option<ModelName> {
    std::str::from_utf8(key.strip_prefix(prefix)?).ok()?.parse().ok()
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    in_form(WITHOUT_CONFIGURATION, value)
}

/// The bytes of a version's record.
pub(crate) fn encode_version(version: &Version) -> Vec<u8> {
    let form = if version.ensemble.is_some() { WITH_ENSEMBLE } else { WITHOUT_CONFIGURATION };
    in_form(form, version)
}

pub(crate) fn in_form<T: Serialize>(form: u8, value: &T) -> Vec<u8> {
    let mut bytes = vec![form];
    bytes.extend(sealed::to_json(value));
    bytes
}

/// The record of this key from its bytes.
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, RegistryError> {
    match bytes.split_first() {
        Some((1..=FORMAT, json)) => serde_json::from_slice(json).map_err(|_| unreadable(key)),
        Some((&found, _)) if found > FORMAT => {
            Err(RegistryError::NewerFormat { what: display(key), found: found.into(), known: FORMAT.into() })
        }
        _ => Err(unreadable(key)),
    }
}

fn unreadable(key: &[u8]) -> RegistryError {
    RegistryError::Corrupt(format!("{} cannot be read", display(key)))
}

/// A key in a sentence.
pub(crate) fn display(key: &[u8]) -> String {
    format!("the record {}", key.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_number_and_tell_their_model() {
        let model: ModelName = "income".parse().unwrap();
        let longer: ModelName = "income-2".parse().unwrap();
        assert!(version_key(&model, VersionNumber(9)) < version_key(&model, VersionNumber(10)));
        assert!(version_key(&model, VersionNumber(255)) < version_key(&model, VersionNumber(256)));
        assert_eq!(model_of_version(&version_key(&longer, VersionNumber(1))).unwrap(), longer);
        assert_eq!(model_of(&model_key(&longer)).unwrap(), longer);
        assert!(!revision_key(&longer, 1).starts_with(&revisions_of(&model)));
        assert!(model_of_version(b"v1/version/").is_err());
        assert!(model_of_version(b"").is_err());
    }

    #[test]
    fn values_say_their_form() {
        let mut bytes = encode(&Applied { sequence: 1, offset: 2 });
        assert_eq!(decode::<Applied>(APPLIED, &bytes).unwrap(), Applied { sequence: 1, offset: 2 });
        bytes[0] = FORMAT + 1;
        assert!(matches!(
            decode::<Applied>(APPLIED, &bytes),
            Err(RegistryError::NewerFormat { found: 5, known: 4, .. })
        ));
        assert!(matches!(decode::<Applied>(APPLIED, b""), Err(RegistryError::Corrupt(_))));
        assert!(matches!(decode::<Applied>(APPLIED, b"\x01{"), Err(RegistryError::Corrupt(_))));
    }
}
