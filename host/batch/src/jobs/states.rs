//! How a job goes from one state to the next: what operators want, and what comes of work.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use modelhost_serving::Error;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::execution::{Ended, Execution, write_whole};
use super::planning::Planned;
use super::progress::Progress;
use super::publishing::{check_same_columns, failed_file, publish};
use super::record::{Job, JobId, JobState, JobView, ResolvedModel, RowCounts, SplitCounts};
use super::specification::{JobSpecification, RetryChanges};
use super::store::JobStore;
use super::{Active, FailedRow, Jobs, Wish, conflict, holder, remove_parts};
use crate::datasets::DatasetVersion;

/// The rows that a job has to answer for, where not all.
const ONLY: &str = "rows.json";

impl Job {
    /// A job that has no number yet.
    pub(super) fn new(
        specification: JobSpecification,
        dataset: &DatasetVersion,
        model: ResolvedModel,
        by: Option<String>,
    ) -> Job {
        Job {
            id: JobId(0),
            state: JobState::Queued,
            specification,
            dataset: dataset.reference(),
            model,
            output: None,
            retry_of: None,
            by,
            run_of: None,
            created: Timestamp::now(),
            started: None,
            ended: None,
            error: None,
            rows: RowCounts { total: dataset.rows, incomplete: dataset.rows, ..RowCounts::default() },
            splits: SplitCounts::default(),
        }
    }
}

/// Says which rows a job has to answer for.
///
/// # Errors
/// Failures of the disk.
pub(super) fn write_only(folder: &Path, rows: &[u64]) -> Result<(), Error> {
    write_whole(&folder.join(ONLY), &serde_json::to_vec(rows).map_err(Error::internal)?)
}

fn read_only(folder: &Path) -> Result<Option<Vec<u64>>, Error> {
    match fs::read(folder.join(ONLY)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(Error::internal),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Jobs {
    /// Stops a job; what is done stays done.
    ///
    /// # Errors
    /// [`modelhost_core::ErrorCode::Conflict`] where it neither runs nor waits for a place.
    pub async fn pause(&self, id: JobId) -> Result<JobView, Error> {
        let job = self.job(id).await?;
        match job.state {
            JobState::Paused => Ok(self.view(job)),
            JobState::Queued | JobState::Running => self.wish(id, Wish::Pause).await,
            state => Err(conflict(format!("job {id} is {}: it cannot be paused", shown(state)))),
        }
    }

    /// Lets a job go on that was paused or has failed.
    ///
    /// # Errors
    /// [`modelhost_core::ErrorCode::Conflict`] in every other state; what it needs may be gone, where it has failed.
    pub async fn resume(self: &Arc<Self>, id: JobId) -> Result<JobView, Error> {
        let _changing = self.changing.lock().await;
        let job = self.job(id).await?;
        match job.state {
            JobState::Queued | JobState::Running => return Ok(self.view(job)),
            JobState::Paused | JobState::Failed => {}
            state => return Err(conflict(format!("job {id} is {}: it cannot be resumed", shown(state)))),
        }
        if job.state == JobState::Failed {
            let dataset = self.dataset_of(&job)?;
            let holds = self.planner.hold(&dataset, &job.model, &holder(id)).await?;
            self.holds.lock().insert(id, holds);
        }
        let job = Job { state: JobState::Queued, error: None, ended: None, ..job };
        self.record(&job).await?;
        self.launch(job.clone(), None);
        Ok(self.view(job))
    }

    /// Stops a job for good, and throws away what it has done.
    ///
    /// # Errors
    /// [`modelhost_core::ErrorCode::Conflict`] where it has succeeded.
    pub async fn cancel(&self, id: JobId) -> Result<JobView, Error> {
        let job = self.job(id).await?;
        match job.state {
            JobState::Cancelled => Ok(self.view(job)),
            JobState::Queued | JobState::Running => self.wish(id, Wish::Cancel).await,
            JobState::Paused | JobState::Failed => {
                let _changing = self.changing.lock().await;
                self.settle(job, JobState::Cancelled, None).await?;
                self.get(id).await
            }
            state => Err(conflict(format!("job {id} is {}: it cannot be cancelled", shown(state)))),
        }
    }

    /// Starts a job for the rows that failed in another one. Its output is a new version: the rows of the old one's, and
    /// then those that succeed now.
    ///
    /// # Errors
    /// [`modelhost_core::ErrorCode::Conflict`] where the other one has not succeeded or no row of it failed.
    pub async fn retry(
        self: &Arc<Self>,
        id: JobId,
        changes: RetryChanges,
        by: Option<String>,
    ) -> Result<JobView, Error> {
        let jobs = self.clone();
        self.work.run(async move { jobs.retry_here(id, changes, by).await }).await
    }

    async fn retry_here(
        self: &Arc<Self>,
        id: JobId,
        changes: RetryChanges,
        by: Option<String>,
    ) -> Result<JobView, Error> {
        let earlier = self.job(id).await?;
        if earlier.state != JobState::Succeeded {
            let state = shown(earlier.state);
            return Err(conflict(format!(
                "job {id} is {state}: only the failed rows of a job that has succeeded can be tried again"
            )));
        }
        if earlier.rows.failed == 0 {
            return Err(conflict(format!("no row of job {id} failed")));
        }
        let output = self.output_of(&earlier)?;
        let rows = failed_rows(&failed_file(&self.folder_of(id)))?;
        let before = earlier.specification.clone();
        let specification = JobSpecification {
            dataset: earlier.dataset.to_string(),
            model: changes.model.unwrap_or(before.model),
            inputs: changes.inputs.unwrap_or(before.inputs),
            call_timeout_ms: changes.call_timeout_ms.or(before.call_timeout_ms),
            // Whatever may fail is known to be few.
            max_failed_share: Some(1.0),
            ..earlier.specification.clone()
        };
        let (dataset, model) = self.planner.resolve(&specification).await?;
        let held = self.planner.hold(&dataset, &model, &holder(id)).await?;
        let output_held = self.planner.datasets.hold(&output, &holder(id))?;
        let planned = self.planner.plan(&specification, dataset.clone(), model.clone()).await?;
        check_same_columns(&planned, &output)?;
        let counted = rows.len() as u64;
        let job = Job {
            retry_of: Some(id),
            rows: RowCounts { total: counted, incomplete: counted, ..RowCounts::default() },
            ..Job::new(specification, &dataset, model, by)
        };
        let job = self.add(job, Some(&rows)).await?;
        let named = self.planner.hold(&dataset, &job.model, &holder(job.id)).await?;
        drop((held, output_held));
        self.holds.lock().insert(job.id, named);
        self.launch(job.clone(), Some(planned));
        Ok(self.view(job))
    }

    /// Forgets a job that has ended. What it has published stays.
    ///
    /// # Errors
    /// [`modelhost_core::ErrorCode::Conflict`] where it has not.
    pub async fn delete(&self, id: JobId) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let job = self.job(id).await?;
        if !job.state.is_final() {
            return Err(conflict(format!("job {id} is {}: cancel it first", shown(job.state))));
        }
        self.with_store(move |store| store.remove(id)).await?;
        remove_folder(&self.folder_of(id))
    }

    async fn wish(&self, id: JobId, wish: Wish) -> Result<JobView, Error> {
        let active = self.active.lock().get(&id).cloned();
        if let Some(active) = active {
            *active.wish.lock() = Some(wish);
            active.stop.cancel();
            active.ended.cancelled().await;
        }
        self.get(id).await
    }

    /// Lets a job work, as soon as there is a place for it.
    pub(super) fn launch(self: &Arc<Self>, job: Job, planned: Option<Planned>) {
        let active = Arc::new(Active {
            progress: Arc::new(Progress::recorded(&job.rows, &job.splits)),
            stop: CancellationToken::new(),
            wish: Mutex::new(None),
            ended: CancellationToken::new(),
        });
        self.active.lock().insert(job.id, active.clone());
        let jobs = self.clone();
        self.work.handle().spawn(async move {
            let id = job.id;
            if let Err(error) = jobs.drive(job, planned, &active).await {
                tracing::error!(job = %id, %error, "what has become of a job cannot be recorded");
            }
            jobs.active.lock().remove(&id);
            active.ended.cancel();
        });
    }

    async fn drive(
        self: &Arc<Self>,
        mut job: Job,
        planned: Option<Planned>,
        active: &Active,
    ) -> Result<(), Error> {
        let worked = tokio::select! {
            biased;
            () = active.stop.cancelled() => Ok(None),
            place = self.places.acquire() => {
                // Never closed.
                let _place = place;
                self.work_on(&mut job, planned, active).await
            }
        };
        let wish = *active.wish.lock();
        match (worked, wish) {
            (Ok(Some(output)), _) => {
                job.output = Some(output);
                self.settle(job, JobState::Succeeded, None).await
            }
            (Ok(None), Some(Wish::Cancel)) => self.settle(job, JobState::Cancelled, None).await,
            (Ok(None), _) => self.settle(job, JobState::Paused, None).await,
            (Err(error), _) => self.settle(job, JobState::Failed, Some(error)).await,
        }
    }

    /// Works on a job until it is published, or told to stop: none.
    async fn work_on(
        &self,
        job: &mut Job,
        planned: Option<Planned>,
        active: &Active,
    ) -> Result<Option<crate::datasets::DatasetReference>, Error> {
        job.state = JobState::Running;
        job.started.get_or_insert_with(Timestamp::now);
        self.record(job).await?;
        tracing::info!(job = %job.id, dataset = %job.dataset, model = %job.model.name, version = %job.model.version, "a job runs");
        let earlier = match job.retry_of {
            Some(id) => Some(self.output_of(&self.job(id).await?)?),
            None => None,
        };
        // Its files are to be in the new version.
        let _held = earlier
            .as_ref()
            .map(|earlier| self.planner.datasets.hold(earlier, &holder(job.id)))
            .transpose()?;
        let planned = match planned {
            Some(planned) => planned,
            None => {
                let dataset = self.dataset_of(job)?;
                self.planner.plan(&job.specification, dataset, job.model.clone()).await?
            }
        };
        let folder = self.folder_of(job.id);
        let execution = Arc::new(Execution {
            planned,
            only: read_only(&folder)?,
            folder: folder.clone(),
            progress: active.progress.clone(),
            stop: active.stop.clone(),
        });
        let ended = execution.clone().run().await;
        (job.rows, job.splits) = active.progress.counts();
        match ended? {
            Ended::Stopped => Ok(None),
            Ended::Complete => {
                let Execution { planned, .. } = &*execution;
                let output = publish(&self.planner.datasets, planned, job, &folder, earlier.as_ref()).await?;
                if let Some(table) = &planned.specification.output.table {
                    // Done again after a crash, it is the same version of it.
                    let version = self.planner.datasets.resolve(&output)?;
                    self.planner.tables.publish(table, &version).await?;
                }
                Ok(Some(output))
            }
        }
    }

    /// Records what has become of a job, and removes what it does not need any more.
    pub(super) async fn settle(
        &self,
        mut job: Job,
        state: JobState,
        error: Option<Error>,
    ) -> Result<(), Error> {
        job.state = state;
        job.ended = state.is_final().then(Timestamp::now);
        job.error = error.map(|error| error.message);
        let folder = self.folder_of(job.id);
        self.record(&job).await?;
        let Job { id, error, .. } = &job;
        tracing::info!(job = %id, state = shown(state), error = error.as_deref(), "a job stopped");
        if state.is_final() {
            self.holds.lock().remove(id);
        }
        match state {
            JobState::Succeeded => remove_parts(&folder),
            JobState::Cancelled => remove_folder(&folder),
            _ => Ok(()),
        }
    }

    async fn record(&self, job: &Job) -> Result<(), Error> {
        let job = job.clone();
        self.with_store(move |store: &JobStore| store.put(&job)).await
    }

    /// The dataset version that a job reads.
    pub(super) fn dataset_of(&self, job: &Job) -> Result<DatasetVersion, Error> {
        self.planner.datasets.resolve(&job.dataset)
    }

    /// The dataset version that a job has made, as it is now.
    fn output_of(&self, job: &Job) -> Result<DatasetVersion, Error> {
        let output = job.output.as_ref().ok_or_else(|| conflict(format!("job {} has no output", job.id)))?;
        let version = self.planner.datasets.resolve(output)?;
        if version.format == job.specification.output.format {
            return Ok(version);
        }
        Err(conflict(format!("the output of job {} is of another format than it writes", job.id)))
    }
}

fn failed_rows(path: &Path) -> Result<Vec<u64>, Error> {
    let text = fs::read_to_string(path)?;
    let row = |line: &str| serde_json::from_str::<FailedRow>(line).map(|failed| failed.row);
    let mut rows = text.lines().map(row).collect::<Result<Vec<_>, _>>().map_err(Error::internal)?;
    rows.sort_unstable();
    Ok(rows)
}

fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn shown(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}
