//! Batch jobs: a dataset version through a model version into a new dataset version, in parts that are committed one by
//! one, so that a job goes on where it was after whatever ended the host.
//!
//! The way of a job: [`specification`](JobSpecification) (what is asked for) → `planning` (versions, inputs, outputs) →
//! `execution` (pieces of splits, each `reading` → `query` → `scoring` → `parts`) → `publishing` (the new version). This
//! module owns the states of jobs and what of it is recorded.

mod calls;
pub(crate) mod convert;
mod core_share;
mod dry_run;
mod elements;
mod execution;
mod expressions;
mod fault;
mod inputs;
mod lists;
mod outputs;
mod parts;
mod planning;
mod progress;
mod publishing;
mod query;
mod reading;
mod record;
mod scoring;
mod sizes;
mod specification;
mod starts;
mod states;
mod store;
mod writing;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use modelhost_core::ErrorCode;
use modelhost_registry::{Registry, durable};
use modelhost_serving::{Error, ModelHost};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use dry_run::{DryRun, InputShown};
pub use fault::FailedRow;
pub use progress::Pace;
pub use record::{Job, JobId, JobState, JobView, ResolvedModel, RowCounts, RunOf, SplitCounts};
pub use specification::{
    ErrorPolicy, FilledColumn, InputMapping, JobSpecification, Output, ResumeChanges, RetryChanges,
};

use self::execution::parts_folder;
use self::planning::{Holds, Needed, Planned, Planner};
use self::progress::Progress;
use self::publishing::open_failed;
use self::starts::Starts;
use self::store::JobStore;
use crate::datasets::Datasets;
use crate::leftovers::Leftovers;
use crate::settings::BatchSettings;
use crate::tables::Tables;
use crate::work::Work;

/// Jobs that are tried at one moment; others wait. Each holds rows in memory.
const MAX_DRY_RUNS: usize = 2;

/// All jobs of one data folder.
pub struct Jobs {
    planner: Planner,
    store: JobStore,
    work: Work,
    /// A folder for each job that has files.
    folder: PathBuf,
    /// How many run at one moment.
    places: Semaphore,
    /// How many are tried at one moment.
    dry_runs: Semaphore,
    /// Those that are queued or run.
    active: Mutex<HashMap<JobId, Arc<Active>>>,
    /// What those that are not final need.
    holds: Mutex<HashMap<JobId, Holds>>,
    /// Jobs are made and changed one after the other: by its record a job is queued or runs where it is in `active`, and
    /// nowhere else.
    changing: tokio::sync::Mutex<()>,
}

/// A job that is queued or runs.
struct Active {
    progress: Arc<Progress>,
    stop: CancellationToken,
    wish: Mutex<Option<Wish>>,
    /// Told when what has become of it is recorded.
    ended: CancellationToken,
}

/// What an operator wants of a job that is queued or runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Pause,
    Cancel,
}

impl Jobs {
    /// Opens the jobs of a data folder. Those that had not ended go on.
    ///
    /// # Errors
    /// A data folder that cannot be read.
    pub(crate) async fn open(
        host: Arc<ModelHost>,
        datasets: Arc<Datasets>,
        tables: Arc<Tables>,
        registry: Arc<Registry>,
        settings: &BatchSettings,
        leftovers: &Leftovers,
        work: Work,
    ) -> Result<Arc<Jobs>, Error> {
        let folder = registry.folder("jobs")?;
        let jobs = Arc::new(Jobs {
            planner: Planner { host, datasets, tables, settings: settings.clone() },
            store: JobStore::new(registry),
            work,
            folder,
            places: Semaphore::new(settings.max_running_jobs.max(1)),
            dry_runs: Semaphore::new(MAX_DRY_RUNS),
            active: Mutex::default(),
            holds: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        });
        jobs.restore(leftovers).await?;
        Ok(jobs)
    }

    async fn restore(self: &Arc<Self>, leftovers: &Leftovers) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let known = self.with_store(JobStore::all).await?;
        if leftovers.are_set_aside()
            && let Err(error) = self.renumber().await
        {
            tracing::warn!(%error, "numbers of jobs whose records are lost may be given out again");
        }
        let recorded = self.with_store(JobStore::ids).await?;
        self.sweep(&known, &recorded, leftovers)?;
        for job in known.into_iter().filter(|job| !job.state.is_final()) {
            let id = job.id;
            let restored = match self.hold_for(&job).await {
                Ok(holds) => {
                    self.holds.lock().insert(job.id, holds);
                    if job.state == JobState::Paused { Ok(()) } else { self.go_on(job).await }
                }
                Err(error) => self.settle(job, JobState::Failed, Some(error.message)).await,
            };
            // One job that cannot go on keeps neither the others nor the host from it.
            if let Err(error) = restored {
                tracing::error!(job = %id, %error, "a job cannot go on, which cannot be recorded either");
            }
        }
        Ok(())
    }

    /// Lets a job go on that worked when the host ended, unless it may be why the host ended.
    async fn go_on(self: &Arc<Self>, job: Job) -> Result<(), Error> {
        let folder = self.folder_of(job.id);
        let starts = match self.work.block(move || Starts::of(&folder)).await {
            Ok(starts) => starts,
            // A folder that is damaged keeps one job from going on, and no host from starting.
            Err(error) => return self.settle(job, JobState::Failed, Some(error.message)).await,
        };
        if let Some(reason) = starts.too_many() {
            return self.settle(job, JobState::Paused, Some(reason)).await;
        }
        tracing::info!(job = %job.id, wait_s = starts.wait().as_secs(), "a job goes on");
        let job = Job { state: JobState::Queued, ..job };
        self.record(&job).await?;
        self.launch(job, None, starts.wait());
        Ok(())
    }

    /// Holds what a job needs, under its name.
    async fn hold_for(&self, job: &Job) -> Result<Holds, Error> {
        let datasets = &self.planner.datasets;
        let dataset = datasets.resolve(&job.dataset)?;
        let earlier = job.earlier.as_ref().map(|earlier| datasets.resolve(earlier)).transpose()?;
        let needed = Needed { dataset: &dataset, model: &job.model, earlier: earlier.as_ref() };
        self.planner.hold(needed, &holder(job.id)).await
    }

    /// Lets the numbers of new jobs follow those of all that have files.
    async fn renumber(&self) -> Result<(), Error> {
        let names =
            fs::read_dir(&self.folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let newest = names.filter_map(|name| name.parse::<JobId>().ok()).max();
        let next = newest.map_or(JobId(1), |newest| JobId(newest.0.saturating_add(1)));
        self.with_store(move |store| store.begin_at(next)).await
    }

    /// Clears away the files of jobs that are not there, and removes the parts of jobs that have published them.
    fn sweep(&self, known: &[Job], recorded: &[JobId], leftovers: &Leftovers) -> Result<(), Error> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let id = path.file_name().and_then(|name| name.to_str()?.parse::<JobId>().ok());
            let state = id.and_then(|id| known.iter().find(|job| job.id == id)).map(|job| job.state);
            let removed = match state {
                // One with a record that cannot be read keeps its files.
                None if id.is_some_and(|id| recorded.contains(&id)) => Ok(()),
                None => {
                    leftovers.clear(&path);
                    Ok(())
                }
                Some(JobState::Cancelled) => fs::remove_dir_all(&path).map_err(Error::from),
                Some(JobState::Succeeded) => remove_parts(&path),
                Some(_) => Ok(()),
            };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "files that a job does not need cannot be removed");
            }
        }
        Ok(())
    }

    /// Makes a job, which begins as soon as there is a place for it.
    ///
    /// # Errors
    /// One sentence: what is wrong with the specification, or does not fit together.
    pub async fn create(
        self: &Arc<Self>,
        specification: JobSpecification,
        by: Option<String>,
    ) -> Result<JobView, Error> {
        self.create_of(specification, by, None).await
    }

    /// The same, for a run of a schedule.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn create_for_run(
        self: &Arc<Self>,
        specification: JobSpecification,
        run: RunOf,
    ) -> Result<JobView, Error> {
        self.create_of(specification, Some(run.to_string()), Some(run)).await
    }

    async fn create_of(
        self: &Arc<Self>,
        specification: JobSpecification,
        by: Option<String>,
        run_of: Option<RunOf>,
    ) -> Result<JobView, Error> {
        let jobs = self.clone();
        // To its end, whether or not somebody still waits for the answer.
        self.work.run(async move { jobs.create_here(specification, by, run_of).await }).await
    }

    async fn create_here(
        self: &Arc<Self>,
        specification: JobSpecification,
        by: Option<String>,
        run_of: Option<RunOf>,
    ) -> Result<JobView, Error> {
        let (dataset, model) = self.planner.resolve(&specification).await?;
        let needed = Needed { dataset: &dataset, model: &model, earlier: None };
        let _holds = self.planner.hold(needed, "a job that begins").await?;
        let planned = self.planner.plan(&specification, dataset.clone(), model.clone()).await?;
        let job = Job { run_of, ..Job::new(specification, &dataset, model, by) };
        self.begin(job, planned, None).await
    }

    /// Gives a job its number and its folder, records it, and lets it work. `only` are the rows that it has to answer for,
    /// where not all.
    async fn begin(
        self: &Arc<Self>,
        job: Job,
        planned: Planned,
        only: Option<Vec<u64>>,
    ) -> Result<JobView, Error> {
        let _changing = self.changing.lock().await;
        let id = self.with_store(JobStore::next_id).await?;
        let job = Job { id, ..job };
        let holds = self.hold_for(&job).await?;
        let (folder, recorded) = (self.folder_of(id), job.clone());
        self.work.block(move || make_folder(&folder, only.as_deref())).await?;
        self.with_store(move |store| store.add(&recorded)).await?;
        self.holds.lock().insert(id, holds);
        self.launch(job.clone(), Some(planned), Duration::ZERO);
        Ok(self.view(job))
    }

    /// Tries a job on the first rows. Nothing is kept of it.
    ///
    /// # Errors
    /// As making the job.
    pub async fn dry_run(&self, specification: JobSpecification) -> Result<DryRun, Error> {
        // Never closed.
        let _turn = self.dry_runs.acquire().await;
        let planner = self.planner.clone();
        self.work.run_while_awaited(async move { planner.dry_run(&specification).await }).await
    }

    /// All jobs, the oldest first.
    ///
    /// # Errors
    /// Failures of the registry.
    pub async fn list(&self) -> Result<Vec<JobView>, Error> {
        let all = self.with_store(JobStore::all).await?;
        Ok(all.into_iter().map(|job| self.view(job)).collect())
    }

    /// A job.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn get(&self, id: JobId) -> Result<JobView, Error> {
        Ok(self.view(self.job(id).await?))
    }

    /// A job, once it neither waits for a place nor runs any more: it is final, or paused.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn ended(&self, id: JobId) -> Result<Job, Error> {
        loop {
            let active = self.active.lock().get(&id).cloned();
            match active {
                Some(active) => active.ended.cancelled().await,
                None => return self.job(id).await,
            }
        }
    }

    /// Files with the failed rows that are committed so far, in the order of the rows: one JSON object a line, each a
    /// [`FailedRow`]. They are open: whatever becomes of the job meanwhile, they can be read to their ends.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], and failures of the disk.
    pub async fn failed_rows(&self, id: JobId) -> Result<Vec<File>, Error> {
        let mut attempts = 0;
        loop {
            let job = self.job(id).await?;
            let (folder, is_over) = (self.folder_of(id), job.state == JobState::Succeeded);
            match self.work.block(move || open_failed(&folder, is_over)).await {
                // They may have gone just now, with a job that has ended.
                Err(_) if attempts < 2 => attempts += 1,
                opened => return opened,
            }
        }
    }

    async fn job(&self, id: JobId) -> Result<Job, Error> {
        self.with_store(move |store| store.get(id)).await
    }

    fn view(&self, mut job: Job) -> JobView {
        let active = self.active.lock().get(&job.id).cloned();
        let mut pace = Pace::default();
        if let Some(active) = active.filter(|_| job.state == JobState::Running) {
            (job.rows, job.splits) = active.progress.counts();
            pace = active.progress.pace();
        }
        JobView { job, pace }
    }

    fn folder_of(&self, id: JobId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&JobStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store.clone();
        self.work.block(move || work(&store)).await
    }
}

/// Who holds what a job needs, for the sentence that refuses its deletion.
fn holder(id: JobId) -> String {
    format!("job {id}")
}

/// The folder of a new job, durably. What is there is of a job that was not recorded.
fn make_folder(folder: &Path, only: Option<&[u64]>) -> Result<(), Error> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    durable::create_dir(folder)?;
    only.map_or(Ok(()), |rows| states::write_only(folder, rows))
}

/// Removes the parts that are published.
fn remove_parts(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(parts_folder(folder)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn conflict(message: String) -> Error {
    Error::new(ErrorCode::Conflict, message)
}
