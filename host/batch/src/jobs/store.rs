//! The records of jobs in the registry. Every call blocks.

use std::sync::Arc;

use modelhost_core::ErrorCode;
use modelhost_registry::{RecordKind, RecordUpdate, Registry};
use modelhost_serving::Error;
use serde::{Deserialize, Serialize};

use super::record::{Job, JobId};

/// The record that counts; the names of all others are numbers.
const COUNTER: &str = "counter";

#[derive(Serialize, Deserialize)]
struct Counter {
    next: JobId,
}

/// The records.
#[derive(Clone)]
pub(super) struct JobStore {
    registry: Arc<Registry>,
}

impl JobStore {
    pub(super) fn new(registry: Arc<Registry>) -> JobStore {
        JobStore { registry }
    }

    /// All jobs, the oldest first.
    pub(super) fn all(&self) -> Result<Vec<Job>, Error> {
        let records = self.registry.records(RecordKind::Job, "")?;
        let jobs = records.into_iter().filter(|record| record.name != COUNTER);
        jobs.map(|record| serde_json::from_value(record.value).map_err(Error::internal)).collect()
    }

    /// A job.
    pub(super) fn get(&self, id: JobId) -> Result<Job, Error> {
        let record = self.registry.record(RecordKind::Job, &name_of(id))?;
        let record = record.ok_or_else(|| unknown(id))?;
        serde_json::from_value(record.value).map_err(Error::internal)
    }

    /// The number of the next job.
    pub(super) fn next_id(&self) -> Result<JobId, Error> {
        let counter = self.registry.record(RecordKind::Job, COUNTER)?;
        let counter = counter.map(|record| serde_json::from_value::<Counter>(record.value)).transpose();
        Ok(counter.map_err(Error::internal)?.map_or(JobId(1), |counter| counter.next))
    }

    /// Records a new job, which has the next number. Whoever calls lets nobody else do so meanwhile.
    pub(super) fn add(&self, job: &Job) -> Result<(), Error> {
        let next = Counter { next: JobId(job.id.0 + 1) };
        let next = serde_json::to_value(next).map_err(Error::internal)?;
        let value = serde_json::to_value(job).map_err(Error::internal)?;
        self.registry.update(vec![
            RecordUpdate::put(RecordKind::Job, COUNTER, next, None),
            RecordUpdate::put(RecordKind::Job, &name_of(job.id), value, Some(0)),
        ])?;
        Ok(())
    }

    /// Records what has become of a job.
    pub(super) fn put(&self, job: &Job) -> Result<(), Error> {
        let value = serde_json::to_value(job).map_err(Error::internal)?;
        self.registry.update(vec![RecordUpdate::put(RecordKind::Job, &name_of(job.id), value, None)])?;
        Ok(())
    }

    /// Removes a job.
    pub(super) fn remove(&self, id: JobId) -> Result<(), Error> {
        self.registry.update(vec![RecordUpdate::delete(RecordKind::Job, &name_of(id), None)])?;
        Ok(())
    }
}

/// Sorts as the number does.
fn name_of(id: JobId) -> String {
    format!("{:012}", id.0)
}

fn unknown(id: JobId) -> Error {
    Error::new(ErrorCode::NotFound, format!("job {id} does not exist"))
}
