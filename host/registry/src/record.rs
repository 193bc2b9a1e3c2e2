//! Records of things that are no models: datasets, jobs, prediction tables, schedules. What is in one is its owner's
//! affair; here it is a JSON value with a name and a generation, as durable as everything else.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::RegistryError;
use crate::journal::{Change, Entry, RecordChange};
use crate::records;
use crate::registry::Registry;
use crate::replay;

const MAX_NAME_BYTES: usize = 256;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// A dataset: what of it changes.
    Dataset,
    /// A version of a dataset.
    DatasetVersion,
    /// A batch job.
    Job,
    /// A prediction table.
    PredictionTable,
    /// A schedule.
    Schedule,
    /// A run of a schedule.
    ScheduleRun,
}

impl RecordKind {
    /// Every kind.
    pub(crate) const ALL: [RecordKind; 6] = [
        RecordKind::Dataset,
        RecordKind::DatasetVersion,
        RecordKind::Job,
        RecordKind::PredictionTable,
        RecordKind::Schedule,
        RecordKind::ScheduleRun,
    ];

    /// As in the journal.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RecordKind::Dataset => "dataset",
            RecordKind::DatasetVersion => "dataset-version",
            RecordKind::Job => "job",
            RecordKind::PredictionTable => "prediction-table",
            RecordKind::Schedule => "schedule",
            RecordKind::ScheduleRun => "schedule-run",
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A record as it was at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Unique among those of its kind.
    pub name: String,
    /// Grows with each change, and never comes back, even where the record is deleted and made again.
    pub generation: u64,
    /// What its owner keeps in it.
    pub value: Value,
}

/// A change of one record.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordUpdate {
    /// Of what kind the record is.
    pub kind: RecordKind,
    /// Which one.
    pub name: String,
    /// What is in it from now on. None: it is deleted.
    pub value: Option<Value>,
    /// The generation that the caller has read, 0 where there must be no such record. None: any.
    pub expected: Option<u64>,
}

impl RecordUpdate {
    /// Puts this value in the place of the one of that generation.
    pub fn put(kind: RecordKind, name: &str, value: Value, expected: Option<u64>) -> RecordUpdate {
        RecordUpdate { kind, name: name.to_owned(), value: Some(value), expected }
    }

    /// Deletes the record of that generation.
    pub fn delete(kind: RecordKind, name: &str, expected: Option<u64>) -> RecordUpdate {
        RecordUpdate { kind, name: name.to_owned(), value: None, expected }
    }
}

impl Registry {
    /// A record; none where there is none.
    ///
    /// # Errors
    /// Failures of the store.
    pub fn record(&self, kind: RecordKind, name: &str) -> Result<Option<Record>, RegistryError> {
        let stored = replay::stored(&&self.store, kind, name)?;
        let record = |stored: records::Stored| Record {
            name: name.to_owned(),
            generation: stored.generation,
            value: stored.value,
        };
        Ok(stored.map(record))
    }

    /// All records of a kind whose names begin so, by name.
    ///
    /// # Errors
    /// Failures of the store.
    pub fn records(&self, kind: RecordKind, prefix: &str) -> Result<Vec<Record>, RegistryError> {
        let prefix = records::record_key(kind, prefix);
        self.store
            .scan::<records::Stored>(&prefix)
            .map(|record| {
                let (key, records::Stored { generation, value }) = record?;
                Ok(Record { name: records::name_of_record(&key, kind)?, generation, value })
            })
            .collect()
    }

    /// Makes all of these changes, each of another record, or none of them. Returns the generation that all of them
    /// have now.
    ///
    /// # Errors
    /// [`RegistryError::PreconditionFailed`] where a record is of another generation than expected,
    /// [`RegistryError::NotFound`] for one that is to be deleted and is not there, [`RegistryError::Misuse`] for a name
    /// that no record can have or that comes twice, and failures of the disk.
    pub fn update(&self, updates: Vec<RecordUpdate>) -> Result<u64, RegistryError> {
        check_names(&updates)?;
        let mut writer = self.writer.lock();
        let sequence = writer.next_sequence;
        let mut generation = sequence;
        for update in &updates {
            let present = self.record(update.kind, &update.name)?.map_or(0, |record| record.generation);
            check(update, present)?;
            // A rebuild that dropped changes has given their numbers back.
            generation = generation.max(present + 1);
        }
        let changes = updates.into_iter().map(|RecordUpdate { kind, name, value, .. }| RecordChange {
            kind,
            name,
            value,
        });
        let change = Change::Records(changes.collect());
        let (format, time) = (change.format(), Timestamp::now());
        self.write(&mut writer, &Entry { format, sequence, time, model: None, generation, change })?;
        Ok(generation)
    }
}

fn check(update: &RecordUpdate, present: u64) -> Result<(), RegistryError> {
    if update.value.is_none() && present == 0 {
        return Err(RegistryError::NotFound { what: format!("{} \"{}\"", update.kind, update.name) });
    }
    match update.expected {
        Some(expected) if expected != present => {
            Err(RegistryError::PreconditionFailed { expected, actual: present })
        }
        _ => Ok(()),
    }
}

fn check_names(updates: &[RecordUpdate]) -> Result<(), RegistryError> {
    for (index, update) in updates.iter().enumerate() {
        let RecordUpdate { kind, name, .. } = update;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
            return Err(RegistryError::Misuse(format!("{kind} {name:?} has a name that no record can have")));
        }
        let earlier = updates.get(..index).unwrap_or_default();
        if earlier.iter().any(|other| (other.kind, &other.name) == (*kind, name)) {
            return Err(RegistryError::Misuse(format!("{kind} {name:?} is changed twice at once")));
        }
    }
    Ok(())
}
