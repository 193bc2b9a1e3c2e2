//! Batch jobs: a dataset version through a model version into a new dataset version, in parts that are committed one by
//! one, so that a job goes on where it was after whatever ended the host.
//!
//! The way of a job: [`specification`](JobSpecification) (what is asked for) → `planning` (versions, inputs, outputs) →
//! `execution` (pieces of splits, each `reading` → `query` → `scoring` → `parts`) → `publishing` (the new version). This
//! module owns the states of jobs and what of it is recorded.

mod calls;
mod convert;
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
mod states;
mod store;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use modelhost_core::ErrorCode;
use modelhost_registry::{Registry, durable};
use modelhost_serving::{Error, ModelHost};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use dry_run::{DryRun, InputShown};
pub use fault::FailedRow;
pub use progress::Pace;
pub use record::{Job, JobId, JobState, JobView, ResolvedModel, RowCounts, SplitCounts};
pub use specification::{ErrorPolicy, FilledColumn, InputMapping, JobSpecification, Output, RetryChanges};

use self::execution::parts_folder;
use self::parts::Parts;
use self::planning::{Holds, Planner};
use self::progress::Progress;
use self::publishing::failed_file;
use self::store::JobStore;
use crate::datasets::Datasets;
use crate::settings::BatchSettings;
use crate::tables::Tables;
use crate::work::Work;

/// All jobs of one data folder.
pub struct Jobs {
    planner: Planner,
    store: JobStore,
    work: Work,
    /// A folder for each job that has files.
    folder: PathBuf,
    /// How many run at one moment.
    places: Semaphore,
    /// Those that are queued or run.
    active: Mutex<HashMap<JobId, Arc<Active>>>,
    /// What those that are not final need.
    holds: Mutex<HashMap<JobId, Holds>>,
    /// Jobs are made and changed one after the other.
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
        work: Work,
    ) -> Result<Arc<Jobs>, Error> {
        let folder = registry.folder("jobs")?;
        let jobs = Arc::new(Jobs {
            planner: Planner { host, datasets, tables, settings: settings.clone() },
            store: JobStore::new(registry),
            work,
            folder,
            places: Semaphore::new(settings.max_running_jobs.max(1)),
            active: Mutex::default(),
            holds: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        });
        jobs.restore().await?;
        Ok(jobs)
    }

    async fn restore(self: &Arc<Self>) -> Result<(), Error> {
        let known = self.with_store(JobStore::all).await?;
        self.sweep(&known)?;
        for job in known.into_iter().filter(|job| !job.state.is_final()) {
            let held = match self.dataset_of(&job) {
                Ok(dataset) => self.planner.hold(&dataset, &job.model, &holder(job.id)).await,
                Err(error) => Err(error),
            };
            match held {
                Ok(holds) => {
                    self.holds.lock().insert(job.id, holds);
                    if job.state != JobState::Paused {
                        tracing::info!(job = %job.id, "a job goes on");
                        self.launch(job, None);
                    }
                }
                Err(error) => self.settle(job, JobState::Failed, Some(error)).await?,
            }
        }
        Ok(())
    }

    /// Removes the files of jobs that are not there, and the parts of jobs that have published them.
    fn sweep(&self, known: &[Job]) -> Result<(), Error> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let id = path.file_name().and_then(|name| name.to_str()?.parse::<JobId>().ok());
            let state = id.and_then(|id| known.iter().find(|job| job.id == id)).map(|job| job.state);
            match state {
                None | Some(JobState::Cancelled) => fs::remove_dir_all(&path)?,
                Some(JobState::Succeeded) => remove_parts(&path)?,
                Some(_) => {}
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
        let jobs = self.clone();
        // To its end, whether or not somebody still waits for the answer.
        self.work.run(async move { jobs.create_here(specification, by).await }).await
    }

    async fn create_here(
        self: &Arc<Self>,
        specification: JobSpecification,
        by: Option<String>,
    ) -> Result<JobView, Error> {
        let (dataset, model) = self.planner.resolve(&specification).await?;
        let holds = self.planner.hold(&dataset, &model, "a job that begins").await?;
        let planned = self.planner.plan(&specification, dataset.clone(), model.clone()).await?;
        let job = Job::new(specification, &dataset, model, by);
        let job = self.add(job, None).await?;
        // From now on under the name of the job.
        let named = self.planner.hold(&dataset, &job.model, &holder(job.id)).await?;
        drop(holds);
        self.holds.lock().insert(job.id, named);
        self.launch(job.clone(), Some(planned));
        Ok(self.view(job))
    }

    /// Gives a job its number and its folder, and records it.
    async fn add(&self, job: Job, only: Option<&[u64]>) -> Result<Job, Error> {
        let _changing = self.changing.lock().await;
        let id = self.with_store(JobStore::next_id).await?;
        let job = Job { id, ..job };
        let folder = self.folder_of(id);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        durable::create_dir(&folder)?;
        if let Some(rows) = only {
            states::write_only(&folder, rows)?;
        }
        let recorded = job.clone();
        self.with_store(move |store| store.add(&recorded)).await?;
        Ok(job)
    }

    /// Tries a job on the first rows. Nothing is kept of it.
    ///
    /// # Errors
    /// As making the job.
    pub async fn dry_run(&self, specification: JobSpecification) -> Result<DryRun, Error> {
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
    /// [`FailedRow`].
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], and failures of the disk.
    pub async fn failed_rows(&self, id: JobId) -> Result<Vec<PathBuf>, Error> {
        let job = self.job(id).await?;
        let folder = self.folder_of(job.id);
        self.work
            .block(move || {
                let whole = failed_file(&folder);
                if job.state == JobState::Succeeded || !parts_folder(&folder).exists() {
                    return Ok(Vec::from_iter(whole.exists().then_some(whole)));
                }
                // The job may be at work: nothing is opened for writing here.
                let parts = Parts::at(parts_folder(&folder));
                let committed = parts.committed()?;
                Ok(committed.values().filter_map(|part| parts.failed_file(part)).collect())
            })
            .await
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

/// Removes the parts that are published.
fn remove_parts(folder: &std::path::Path) -> Result<(), Error> {
    match fs::remove_dir_all(parts_folder(folder)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn conflict(message: String) -> Error {
    Error::new(ErrorCode::Conflict, message)
}
