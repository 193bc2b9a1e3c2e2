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

    /// All schedules, by name. Those with records that cannot be read are left out.
    pub(super) fn all(&self) -> Result<Vec<Schedule>, Error> {
        let records = self.registry.records(RecordKind::Schedule, "")?;
        Ok(records.iter().filter_map(|record| readable(record, "a schedule")).collect())
    }

    pub(super) fn get(&self, name: &ScheduleName) -> Result<Option<Schedule>, Error> {
        self.registry.record(RecordKind::Schedule, name.as_str())?.as_ref().map(read).transpose()
    }

    pub(super) fn existing(&self, name: &ScheduleName) -> Result<Schedule, Error> {
        let missing = || Error::new(ErrorCode::NotFound, format!("schedule \"{name}\" does not exist"));
        self.get(name)?.ok_or_else(missing)
    }

    /// The runs of a schedule that are kept, the oldest first. Those with records that cannot be read are left out.
    pub(super) fn runs(&self, name: &ScheduleName) -> Result<Vec<Run>, Error> {
        let records = self.registry.records(RecordKind::ScheduleRun, &format!("{name}@"))?;
        Ok(records.iter().filter_map(|record| readable(record, "a run of a schedule")).collect())
    }

    pub(super) fn run(&self, name: &ScheduleName, number: u64) -> Result<Option<Run>, Error> {
        let record = self.registry.record(RecordKind::ScheduleRun, &run_key(name, number))?;
        Ok(record.and_then(|record| readable(&record, "a run of a schedule")))
    }

    /// The run with the highest number.
    pub(super) fn last_run(&self, schedule: &Schedule) -> Result<Option<Run>, Error> {
        match schedule.next_run.checked_sub(1) {
            None | Some(0) => Ok(None),
            Some(number) => self.run(&schedule.name, number),
        }
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
            && self.registry.record(RecordKind::ScheduleRun, &oldest)?.is_some()
        {
            updates.push(RecordUpdate::delete(RecordKind::ScheduleRun, &oldest, None));
        }
        self.registry.update(updates)?;
        Ok(())
    }

    /// Changes what is recorded of a run, where it is there.
    pub(super) fn change_run(
        &self,
        name: &ScheduleName,
        number: u64,
        change: impl FnOnce(Run) -> Run,
    ) -> Result<(), Error> {
        match self.run(name, number)? {
            Some(run) => {
                self.registry.update(vec![run_update(name, &change(run))?])?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A schedule and all of its runs.
    pub(super) fn delete(&self, name: &ScheduleName) -> Result<(), Error> {
        let runs = self.registry.records(RecordKind::ScheduleRun, &format!("{name}@"))?;
        let runs = runs.iter().map(|run| RecordUpdate::delete(RecordKind::ScheduleRun, &run.name, None));
        let schedule = RecordUpdate::delete(RecordKind::Schedule, name.as_str(), None);
        self.registry.update(runs.chain([schedule]).collect())?;
        Ok(())
    }
}

/// What a record says, unless it cannot be read: one of many must not hide the others.
fn readable<T: DeserializeOwned>(record: &Record, what: &str) -> Option<T> {
    let value = read(record);
    value.inspect_err(|error| tracing::error!(record = record.name, %error, "{what} is left out")).ok()
}

fn schedule_update(schedule: &Schedule) -> Result<RecordUpdate, Error> {
    Ok(RecordUpdate::put(RecordKind::Schedule, schedule.name.as_str(), value(schedule)?, None))
}

fn run_update(name: &ScheduleName, run: &Run) -> Result<RecordUpdate, Error> {
    Ok(RecordUpdate::put(RecordKind::ScheduleRun, &run_key(name, run.number), value(run)?, None))
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
