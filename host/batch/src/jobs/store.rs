//! The records of jobs in the registry. Every call blocks.

use std::sync::Arc;

use modelhost_core::ErrorCode;
use modelhost_registry::{Record, RecordKind, RecordUpdate, Registry};
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

    /// All jobs, the oldest first. Those with records that cannot be read are left out.
    pub(super) fn all(&self) -> Result<Vec<Job>, Error> {
        let records = self.registry.records(RecordKind::Job, "")?;
        let jobs = records.into_iter().filter(|record| record.name != COUNTER);
        let read = |Record { name, value, .. }| match serde_json::from_value(value) {
            Ok(job) => Some(job),
            Err(error) => {
                tracing::error!(job = name, %error, "a job is left out: its record cannot be read");
                None
            }
        };
        Ok(jobs.filter_map(read).collect())
    }

    /// The numbers of all jobs that have records.
    pub(super) fn ids(&self) -> Result<Vec<JobId>, Error> {
        let records = self.registry.records(RecordKind::Job, "")?;
        Ok(records.iter().filter_map(|record| record.name.parse().ok()).collect())
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

    /// The next job has this number, or a higher one.
    pub(super) fn begin_at(&self, next: JobId) -> Result<(), Error> {
        if self.next_id()? >= next {
            return Ok(());
        }
        let counter = serde_json::to_value(Counter { next }).map_err(Error::internal)?;
        self.registry.update(vec![RecordUpdate::put(RecordKind::Job, COUNTER, counter, None)])?;
        Ok(())
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
