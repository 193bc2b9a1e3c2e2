//! The records of datasets in the registry: for each a head, which only counts, and a record for each version. It
//! knows nothing of files. Every call blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use modelhost_core::{DatasetName, ErrorCode, VersionNumber};
use modelhost_registry::{Record, RecordKind, RecordUpdate, Registry};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reference::DatasetReference;
use super::version::DatasetVersion;
use crate::Error;

/// What of a dataset changes. It stays when all versions are deleted, so that no number is used twice.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Head {
    next_version: VersionNumber,
}

/// What there is.
pub(super) struct AllVersions {
    /// By name of the dataset, the oldest first.
    pub(super) by_name: BTreeMap<DatasetName, Vec<DatasetVersion>>,
    /// Whether every record could be read.
    pub(super) is_complete: bool,
}

/// The records.
#[derive(Clone)]
pub(super) struct Catalogue {
    registry: Arc<Registry>,
}

impl Catalogue {
    pub(super) fn new(registry: Arc<Registry>) -> Catalogue {
        Catalogue { registry }
    }

    /// Whether a change that failed may be there after a restart all the same.
    pub(super) fn is_stopped(&self) -> bool {
        self.registry.is_stopped()
    }

    /// The version that a reference names now.
    pub(super) fn resolve(&self, reference: &DatasetReference) -> Result<DatasetVersion, Error> {
        let found = match reference.version {
            Some(number) => self.version(&reference.name, number)?,
            None => self.versions(&reference.name)?.pop(),
        };
        found.ok_or_else(|| match reference.version {
            Some(_) if self.versions(&reference.name).is_ok_and(|versions| !versions.is_empty()) => {
                let DatasetReference { name, .. } = reference;
                let number = reference.version.unwrap_or(VersionNumber(0));
                Error::new(
                    ErrorCode::NotFound,
                    format!("version {number} of dataset \"{name}\" does not exist"),
                )
            }
            _ => unknown(&reference.name),
        })
    }

    pub(super) fn version(
        &self,
        name: &DatasetName,
        number: VersionNumber,
    ) -> Result<Option<DatasetVersion>, Error> {
        let record = self.registry.record(RecordKind::DatasetVersion, &version_key(name, number))?;
        record.map(|record| read(&record)).transpose()
    }

    /// The versions of a dataset, the oldest first. Of one with a record that cannot be read, which is the latest is not
    /// known.
    pub(super) fn versions(&self, name: &DatasetName) -> Result<Vec<DatasetVersion>, Error> {
        self.registry.records(RecordKind::DatasetVersion, &format!("{name}@"))?.iter().map(read).collect()
    }

    /// All versions of all datasets that can be read.
    pub(super) fn all(&self) -> Result<AllVersions, Error> {
        let mut all = AllVersions { by_name: BTreeMap::new(), is_complete: true };
        for record in self.registry.records(RecordKind::DatasetVersion, "")? {
            match read::<DatasetVersion>(&record) {
                Ok(version) => all.by_name.entry(version.name.clone()).or_default().push(version),
                Err(error) => {
                    tracing::error!(%error, "a version of a dataset is left out");
                    all.is_complete = false;
                }
            }
        }
        Ok(all)
    }

    /// Gives a version the next number of its dataset and records it.
    pub(super) fn add(&self, mut version: DatasetVersion) -> Result<DatasetVersion, Error> {
        let name = version.name.as_str().to_owned();
        let record = self.registry.record(RecordKind::Dataset, &name)?;
        let head = match &record {
            Some(record) => read::<Head>(record)?,
            None => Head { next_version: VersionNumber(1) },
        };
        version.number = head.next_version;
        let next = Head { next_version: VersionNumber(version.number.0.saturating_add(1)) };
        let expected = record.map_or(0, |record| record.generation);
        let key = version_key(&version.name, version.number);
        self.registry.update(vec![
            RecordUpdate::put(RecordKind::Dataset, &name, value(&next)?, Some(expected)),
            RecordUpdate::put(RecordKind::DatasetVersion, &key, value(&version)?, Some(0)),
        ])?;
        Ok(version)
    }

    pub(super) fn delete(&self, name: &DatasetName, number: VersionNumber) -> Result<(), Error> {
        let key = version_key(name, number);
        self.registry.update(vec![RecordUpdate::delete(RecordKind::DatasetVersion, &key, None)])?;
        Ok(())
    }
}

/// Sorts by number.
fn version_key(name: &DatasetName, number: VersionNumber) -> String {
    format!("{name}@{:020}", number.0)
}

fn unknown(name: &DatasetName) -> Error {
    Error::new(ErrorCode::NotFound, format!("dataset \"{name}\" does not exist"))
}

fn read<T: DeserializeOwned>(record: &Record) -> Result<T, Error> {
    T::deserialize(&record.value)
        .map_err(|error| Error::internal(format!("the record {} cannot be read: {error}", record.name)))
}

fn value(value: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(Error::internal)
}
