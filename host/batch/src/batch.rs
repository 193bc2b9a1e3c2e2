//! All of batch in one place: opens what the data folder holds, and is what the HTTP API asks.

use std::sync::Arc;

use modelhost_registry::Registry;
use modelhost_serving::ModelHost;

use crate::Error;
use crate::datasets::Datasets;
use crate::jobs::Jobs;
use crate::leftovers::Leftovers;
use crate::schedules::Schedules;
use crate::settings::BatchSettings;
use crate::tables::Tables;
use crate::work::Work;

/// Datasets, and what is done with them. Shared in an [`Arc`].
pub struct Batch {
    host: Arc<ModelHost>,
    registry: Arc<Registry>,
    settings: BatchSettings,
    work: Work,
    datasets: Arc<Datasets>,
    tables: Arc<Tables>,
    jobs: Arc<Jobs>,
    schedules: Arc<Schedules>,
}

impl Batch {
    /// Opens what the data folder of this host holds, and removes files that an interrupted process left.
    ///
    /// # Errors
    /// A data folder that cannot be read, or settings that cannot work.
    pub async fn open(host: Arc<ModelHost>, settings: BatchSettings) -> Result<Arc<Batch>, Error> {
        let registry = host.registry().clone();
        let work = Work::start(host.background_threads())?;
        let leftovers = Leftovers::at_start(&registry)?;
        let executable = host.executable();
        let datasets =
            Datasets::open(registry.clone(), &settings, executable, &leftovers, work.clone()).await?;
        let tables =
            Tables::open(host.clone(), registry.clone(), datasets.clone(), &leftovers, work.clone()).await?;
        let jobs = Jobs::open(
            host.clone(),
            datasets.clone(),
            tables.clone(),
            registry.clone(),
            &settings,
            &leftovers,
            work.clone(),
        )
        .await?;
        if leftovers.are_set_aside() {
            registry.forget_rebuild()?;
        }
        let schedules = Schedules::open(jobs.clone(), registry.clone(), work.clone());
        Ok(Arc::new(Batch { host, registry, settings, work, datasets, tables, jobs, schedules }))
    }

    /// The models, which jobs ask.
    pub fn host(&self) -> &Arc<ModelHost> {
        &self.host
    }

    /// The records; blocks.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// What the operator set.
    pub fn settings(&self) -> &BatchSettings {
        &self.settings
    }

    /// The threads for batch work.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// The jobs.
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    /// The schedules.
    pub fn schedules(&self) -> &Arc<Schedules> {
        &self.schedules
    }

    /// The datasets.
    pub fn datasets(&self) -> &Arc<Datasets> {
        &self.datasets
    }

    /// The prediction tables.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }
}
