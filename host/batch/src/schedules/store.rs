//! The records of schedules and of their runs in the registry. Every call blocks.

use std::sync::Arc;

use modelhost_core::{ErrorCode, ScheduleName};
use modelhost_registry::{Record, RecordKind, RecordUpdate, Registry};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::record::{Run, Schedule};
use crate::Error;

/// Runs of a schedule that are kept; older ones are forgotten.
pub(super) const KEPT_RUNS: u64 = 100;

/// The records.
#[derive(Clone)]
pub(super) struct ScheduleStore {
    registry: Arc<Registry>,
}

impl ScheduleStore {
    pub(super) fn new(registry: Arc<Registry>) -> ScheduleStore {
        ScheduleStore { registry }
    }

    /// All schedules, by name.
    pub(super) fn all(&self) -> Result<Vec<Schedule>, Error> {
        let records = self.registry.records(RecordKind::Schedule, "")?;
        // No name of a schedule holds the sign that names of runs hold.
        records.iter().filter(|record| !record.name.contains('@')).map(read).collect()
    }

    pub(super) fn get(&self, name: &ScheduleName) -> Result<Option<Schedule>, Error> {
        self.registry.record(RecordKind::Schedule, name.as_str())?.as_ref().map(read).transpose()
    }

    pub(super) fn existing(&self, name: &ScheduleName) -> Result<Schedule, Error> {
        let missing = || Error::new(ErrorCode::NotFound, format!("schedule \"{name}\" does not exist"));
        self.get(name)?.ok_or_else(missing)
    }

    /// The runs of a schedule that are kept, the oldest first.
    pub(super) fn runs(&self, name: &ScheduleName) -> Result<Vec<Run>, Error> {
        let records = self.registry.records(RecordKind::Schedule, &format!("{name}@"))?;
        records.iter().map(read).collect()
    }

    pub(super) fn put(&self, schedule: &Schedule) -> Result<(), Error> {
        self.registry.update(vec![schedule_update(schedule)?])?;
        Ok(())
    }

    /// A schedule and a run of it at once. A new run makes the oldest one that is kept go.
    pub(super) fn put_with_run(&self, schedule: &Schedule, run: &Run) -> Result<(), Error> {
        let mut updates = vec![schedule_update(schedule)?, run_update(&schedule.name, run)?];
        let oldest = run.number.checked_sub(KEPT_RUNS).map(|number| run_key(&schedule.name, number));
        if let Some(oldest) = oldest
            && self.registry.record(RecordKind::Schedule, &oldest)?.is_some()
        {
            updates.push(RecordUpdate::delete(RecordKind::Schedule, &oldest, None));
        }
        self.registry.update(updates)?;
        Ok(())
    }

    pub(super) fn put_run(&self, name: &ScheduleName, run: &Run) -> Result<(), Error> {
        self.registry.update(vec![run_update(name, run)?])?;
        Ok(())
    }

    /// A schedule and all of its runs.
    pub(super) fn delete(&self, name: &ScheduleName) -> Result<(), Error> {
        let runs = self.runs(name)?;
        let keys = runs.iter().map(|run| run_key(name, run.number)).chain([name.to_string()]);
        let deletions = keys.map(|key| RecordUpdate::delete(RecordKind::Schedule, &key, None));
        self.registry.update(deletions.collect())?;
        Ok(())
    }
}

fn schedule_update(schedule: &Schedule) -> Result<RecordUpdate, Error> {
    Ok(RecordUpdate::put(RecordKind::Schedule, schedule.name.as_str(), value(schedule)?, None))
}

fn run_update(name: &ScheduleName, run: &Run) -> Result<RecordUpdate, Error> {
    Ok(RecordUpdate::put(RecordKind::Schedule, &run_key(name, run.number), value(run)?, None))
}

/// Sorts by number.
fn run_key(name: &ScheduleName, number: u64) -> String {
    format!("{name}@{number:020}")
}

fn read<T: DeserializeOwned>(record: &Record) -> Result<T, Error> {
    T::deserialize(&record.value)
        .map_err(|error| Error::internal(format!("the record {} cannot be read: {error}", record.name)))
}

fn value(value: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(Error::internal)
}
