//! How a job goes from one state to the next: what operators want, and what comes of work.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use modelhost_core::ErrorCode;
use modelhost_serving::Error;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::execution::{Ended, Execution, Haste, write_whole};
use super::planning::{Needed, Planned};
use super::progress::Progress;
use super::publishing::{check_same_columns, failed_file, publish};
use super::record::{Job, JobId, JobState, JobView, ResolvedModel, RowCounts, SplitCounts};
use super::specification::{JobSpecification, ResumeChanges, RetryChanges};
use super::starts::Starts;
use super::store::JobStore;
use super::{Active, FailedRow, Jobs, Wish, conflict, holder, remove_parts};
use crate::datasets::{DatasetReference, DatasetVersion};

/// The rows that a job has to answer for, where not all.
const ONLY: &str = "rows.json";
/// How long an operator waits until a job has done what he wants.
const WISH_PATIENCE: Duration = Duration::from_secs(30);
/// What has become of a job is recorded again and again until it is, at most this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
            earlier: None,
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

impl Active {
    /// Tells a job what is wanted of it, and waits until it has stopped, for whatever reason.
    async fn wish(&self, id: JobId, wish: Wish) -> Result<(), Error> {
        {
            let mut wished = self.wish.lock();
            // What is thrown away cannot be kept any more.
            if *wished != Some(Wish::Cancel) {
                *wished = Some(wish);
            }
        }
        self.stop.cancel();
        let stopped = tokio::time::timeout(WISH_PATIENCE, self.ended.cancelled()).await;
        stopped.map_err(|_| {
            let message =
                format!("job {id} was told to stop, and still publishes or writes: look again later");
            Error::new(ErrorCode::Unavailable, message)
        })
    }
}

impl Jobs {
    /// Stops a job; what is done stays done.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] where it neither runs nor waits for a place; [`ErrorCode::Unavailable`] where it takes long.
    pub async fn pause(self: &Arc<Self>, id: JobId) -> Result<JobView, Error> {
        loop {
            let changing = self.changing.lock().await;
            let job = self.job(id).await?;
            match job.state {
                JobState::Paused => return Ok(self.view(job)),
                JobState::Queued | JobState::Running => {}
                state => return Err(conflict(format!("job {id} is {}: it cannot be paused", state.name()))),
            }
            let active = self.active_of(id)?;
            drop(changing);
            active.wish(id, Wish::Pause).await?;
        }
    }

    /// Lets a job go on that was paused or has failed.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] in every other state; what it needs may be gone, where it has failed.
    pub async fn resume(self: &Arc<Self>, id: JobId, changes: ResumeChanges) -> Result<JobView, Error> {
        let _changing = self.changing.lock().await;
        let job = self.job(id).await?;
        match job.state {
            JobState::Queued | JobState::Running if changes == ResumeChanges::default() => {
                return Ok(self.view(job));
            }
            JobState::Paused | JobState::Failed => {}
            state => return Err(conflict(format!("job {id} is {}: it cannot be resumed", state.name()))),
        }
        let specification = changes.of(job.specification.clone());
        specification.check()?;
        let holds = self.hold_for(&job).await?;
        let job = Job { state: JobState::Queued, specification, error: None, ended: None, ..job };
        self.record(&job).await?;
        self.holds.lock().insert(id, holds);
        self.launch(job.clone(), None, Duration::ZERO);
        Ok(self.view(job))
    }

    /// Stops a job for good, and throws away what it has done.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] where it has succeeded; [`ErrorCode::Unavailable`] where it takes long.
    pub async fn cancel(self: &Arc<Self>, id: JobId) -> Result<JobView, Error> {
        loop {
            let changing = self.changing.lock().await;
            let job = self.job(id).await?;
            match job.state {
                JobState::Cancelled => return Ok(self.view(job)),
                JobState::Queued | JobState::Running => {}
                JobState::Paused | JobState::Failed => {
                    self.settle(job, JobState::Cancelled, None).await?;
                    return self.get(id).await;
                }
                state => {
                    return Err(conflict(format!("job {id} is {}: it cannot be cancelled", state.name())));
                }
            }
            let active = self.active_of(id)?;
            drop(changing);
            // It may fail before it is cancelled.
            active.wish(id, Wish::Cancel).await?;
        }
    }

    /// A job that is queued or runs by its record. Whoever calls holds `changing`: the two change together.
    fn active_of(&self, id: JobId) -> Result<Arc<Active>, Error> {
        let active = self.active.lock().get(&id).cloned();
        active.ok_or_else(|| Error::internal(format!("job {id} should be at work, and nothing works on it")))
    }

    /// Starts a job for the rows that failed in another one. Its output is a new version: the rows of the old one's, and
    /// then those that succeed now.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] where the other one has not succeeded or no row of it failed.
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
            let state = earlier.state.name();
            return Err(conflict(format!(
                "job {id} is {state}: only the failed rows of a job that has succeeded can be tried again"
            )));
        }
        if earlier.rows.failed == 0 {
            return Err(conflict(format!("no row of job {id} failed")));
        }
        let output = self.output_of(&earlier)?;
        let _output_held = self.planner.datasets.hold(&output, &holder(id))?;
        let errors = failed_file(&self.folder_of(id));
        let rows = self.work.block(move || failed_rows(&errors)).await?;
        let specification = changes.of(&earlier);
        let (dataset, model) = self.planner.resolve(&specification).await?;
        let needed = Needed { dataset: &dataset, model: &model, earlier: Some(&output) };
        let _held = self.planner.hold(needed, &holder(id)).await?;
        let planned = self.planner.plan(&specification, dataset.clone(), model.clone()).await?;
        check_same_columns(&planned, &output)?;
        let counted = rows.len() as u64;
        let job = Job {
            retry_of: Some(id),
            earlier: Some(output.reference()),
            rows: RowCounts { total: counted, incomplete: counted, ..RowCounts::default() },
            ..Job::new(specification, &dataset, model, by)
        };
        self.begin(job, planned, Some(rows)).await
    }

    /// Forgets a job that has ended. What it has published stays.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] where it has not.
    pub async fn delete(&self, id: JobId) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let job = self.job(id).await?;
        if !job.state.is_final() {
            return Err(conflict(format!("job {id} is {}: cancel it first", job.state.name())));
        }
        self.with_store(move |store| store.remove(id)).await?;
        let folder = self.folder_of(id);
        self.work.block(move || remove_folder(&folder)).await
    }

    /// Lets a job work, as soon as there is a place for it and it has waited. Whoever calls holds `changing`, and what the
    /// job needs is held.
    pub(super) fn launch(self: &Arc<Self>, job: Job, planned: Option<Planned>, wait: Duration) {
        let active = Arc::new(Active {
            progress: Arc::new(Progress::recorded(&job.rows, &job.splits)),
            stop: CancellationToken::new(),
            wish: Mutex::new(None),
            ended: CancellationToken::new(),
        });
        self.active.lock().insert(job.id, active.clone());
        self.work.handle().spawn(self.clone().drive(job, planned, active, wait));
    }

    /// Works on a job until it stops, and records what has become of it.
    async fn drive(self: Arc<Self>, job: Job, planned: Option<Planned>, active: Arc<Active>, wait: Duration) {
        let job = Mutex::new(job);
        let worked = tokio::select! {
            biased;
            () = active.stop.cancelled() => Ok(Ended::Stopped),
            place = self.place(wait) => {
                let _place = place;
                // A mistake in planning or publishing must not leave a job that neither works nor has stopped.
                let working = AssertUnwindSafe(self.work_on(&job, planned, &active)).catch_unwind();
                working.await.unwrap_or_else(|_| Err(Error::internal("the work on a job panicked")))
            }
        };
        let wish = *active.wish.lock();
        let (state, error) = match (worked, wish) {
            (Ok(Ended::Complete), _) => (JobState::Succeeded, None),
            (Ok(Ended::Stopped), Some(Wish::Cancel)) => (JobState::Cancelled, None),
            (Ok(Ended::Stopped), _) => (JobState::Paused, None),
            (Err(error), _) => (JobState::Failed, Some(error.message)),
        };
        self.settle_for_good(job.into_inner(), state, error, &active).await;
    }

    async fn place(&self, wait: Duration) -> tokio::sync::SemaphorePermit<'_> {
        tokio::time::sleep(wait).await;
        match self.places.acquire().await {
            Ok(place) => place,
            // Never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Works on a job until it is published, or told to stop. What is to be recorded of it is in `job` at any time.
    async fn work_on(
        self: &Arc<Self>,
        job: &Mutex<Job>,
        planned: Option<Planned>,
        active: &Active,
    ) -> Result<Ended, Error> {
        let begun = {
            let mut job = job.lock();
            job.state = JobState::Running;
            job.started.get_or_insert_with(Timestamp::now);
            job.clone()
        };
        let folder = self.folder_of(begun.id);
        let starting = folder.clone();
        let (starts, only) = self
            .work
            .block(move || {
                let starts = Starts::of(&starting)?;
                starts.add(&starting)?;
                Ok((starts, read_only(&starting)?))
            })
            .await?;
        self.record(&begun).await?;
        tracing::info!(job = %begun.id, dataset = %begun.dataset, model = %begun.model.name, version = %begun.model.version, "a job runs");
        let planned = tokio::select! {
            biased;
            () = active.stop.cancelled() => return Ok(Ended::Stopped),
            planned = self.planned(&begun, planned) => planned?,
        };
        let execution = Arc::new(Execution {
            planned,
            only,
            folder,
            progress: active.progress.clone(),
            stop: active.stop.clone(),
            haste: Haste::new(starts.is_urgent()),
            most_files: self.planner.settings.max_dataset_files,
        });
        let ended = execution.clone().run().await;
        {
            let mut job = job.lock();
            (job.rows, job.splits) = active.progress.counts();
        }
        match ended? {
            Ended::Stopped => Ok(Ended::Stopped),
            Ended::Complete => self.publish(job, &execution.planned, active).await,
        }
    }

    async fn planned(&self, job: &Job, planned: Option<Planned>) -> Result<Planned, Error> {
        match planned {
            Some(planned) => Ok(planned),
            None => {
                let dataset = self.dataset_of(job)?;
                self.planner.plan(&job.specification, dataset, job.model.clone()).await
            }
        }
    }

    /// Publishes what a job has done, unless it is told to stop before.
    async fn publish(
        self: &Arc<Self>,
        job: &Mutex<Job>,
        planned: &Planned,
        active: &Active,
    ) -> Result<Ended, Error> {
        let begun = job.lock().clone();
        let earlier =
            begun.earlier.as_ref().map(|earlier| self.planner.datasets.resolve(earlier)).transpose()?;
        let folder = self.folder_of(begun.id);
        let published = publish(&self.planner, planned, &begun, folder, earlier, &active.stop).await?;
        let Some(output) = published else { return Ok(Ended::Stopped) };
        let table = planned.specification.output.table.as_ref();
        let recorded = {
            let mut job = job.lock();
            job.output = Some(output.clone());
            job.clone()
        };
        let Some(table) = table else { return Ok(Ended::Complete) };
        // Whatever becomes of the table, where the rows are is known.
        self.record(&recorded).await?;
        let version = self.planner.datasets.resolve(&output)?;
        let published = self.planner.tables.publish(table, &version).await;
        published.map_err(|error| {
            let message =
                format!("the predictions are {output}, which table {table} does not take: {}", error.message);
            Error::new(error.code, message)
        })?;
        Ok(Ended::Complete)
    }

    /// Records what has become of a job that worked, as often as it takes: a job that no record says to have stopped could
    /// not be resumed or cancelled.
    async fn settle_for_good(&self, job: Job, state: JobState, error: Option<String>, active: &Arc<Active>) {
        let mut pause = Duration::from_millis(100);
        loop {
            let changing = self.changing.lock().await;
            let Err(failure) = self.settle(job.clone(), state, error.clone()).await else {
                let mut all = self.active.lock();
                if all.get(&job.id).is_some_and(|found| Arc::ptr_eq(found, active)) {
                    all.remove(&job.id);
                }
                active.ended.cancel();
                return;
            };
            drop(changing);
            tracing::error!(job = %job.id, %failure, "what has become of a job cannot be recorded yet");
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Records what has become of a job, and removes what it does not need any more. Whoever calls holds `changing`.
    ///
    /// # Errors
    /// Where it cannot be recorded; then nothing is removed.
    pub(super) async fn settle(
        &self,
        mut job: Job,
        state: JobState,
        error: Option<String>,
    ) -> Result<(), Error> {
        job.state = state;
        job.ended = state.is_final().then(Timestamp::now);
        job.error = error;
        self.record(&job).await?;
        let Job { id, error, .. } = &job;
        tracing::info!(job = %id, state = state.name(), error = error.as_deref(), "a job stopped");
        if state.is_final() {
            self.holds.lock().remove(id);
        }
        let folder = self.folder_of(*id);
        let removed = self.work.block(move || match state {
            JobState::Succeeded => remove_parts(&folder),
            JobState::Cancelled => remove_folder(&folder),
            _ => Starts::forget(&folder),
        });
        if let Err(error) = removed.await {
            // The next start removes it.
            tracing::warn!(job = %id, %error, "files of a job that stopped cannot be removed");
        }
        Ok(())
    }

    pub(super) async fn record(&self, job: &Job) -> Result<(), Error> {
        let job = job.clone();
        self.with_store(move |store: &JobStore| store.put(&job)).await
    }

    /// The dataset version that a job reads.
    pub(super) fn dataset_of(&self, job: &Job) -> Result<DatasetVersion, Error> {
        self.planner.datasets.resolve(&job.dataset)
    }

    /// The dataset version that a job has made, as it is now.
    fn output_of(&self, job: &Job) -> Result<DatasetVersion, Error> {
        let output: &DatasetReference =
            job.output.as_ref().ok_or_else(|| conflict(format!("job {} has no output", job.id)))?;
        let version = self.planner.datasets.resolve(output)?;
        if version.format == job.specification.output.format {
            return Ok(version);
        }
        Err(conflict(format!("the output of job {} is of another format than it writes", job.id)))
    }
}

impl RetryChanges {
    /// What the job is asked to do that tries the failed rows of this one again.
    fn of(self, earlier: &Job) -> JobSpecification {
        let before = earlier.specification.clone();
        JobSpecification {
            dataset: earlier.dataset.to_string(),
            model: self.model.unwrap_or(before.model),
            inputs: self.inputs.unwrap_or(before.inputs),
            call_timeout_ms: self.call_timeout_ms.or(before.call_timeout_ms),
            // Whatever may fail is known to be few.
            max_failed_share: Some(1.0),
            ..earlier.specification.clone()
        }
    }
}

/// The numbers of the failed rows in a file of them, in order.
fn failed_rows(path: &Path) -> Result<Vec<u64>, Error> {
    let mut rows = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let failed: FailedRow = serde_json::from_str(&line?).map_err(Error::internal)?;
        rows.push(failed.row);
    }
    rows.sort_unstable();
    Ok(rows)
}

fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
