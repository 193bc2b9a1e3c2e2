//! The whole of modelhost below its HTTP API: opens the data folder, brings back what was deployed, and
//! finds the version that answers a request.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use modelhost_core::{EngineName, ModelName, VersionNumber};
use modelhost_inference::{BackgroundThreads, EngineStatus, Engines};
use modelhost_registry::{Model, Registry, Revision};
use modelhost_runtime::{Compiler, PredictionTables, Runtime};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::admission::Slots;
use crate::configuration::Defaults;
use crate::error::Error;
use crate::live::{LiveModel, LiveModels, VersionSelector, unknown_model};
use crate::loader::Loader;
use crate::operating_system;
use crate::request_traces::RequestTraces;
use crate::residency::{Limits, Residency};
use crate::servable::Servable;
use crate::settings::{ServingSettings, Settings};
use crate::statistics::Statistics;
use crate::verdicts::Verdicts;

/// A host: everything that the HTTP API offers, without HTTP.
pub struct ModelHost {
    executable: PathBuf,
    pub(crate) loader: Arc<Loader>,
    pub(crate) live: LiveModels,
    pub(crate) settings: ServingSettings,
    metrics: prometheus::Registry,
}

impl ModelHost {
    /// Opens the data folder and loads what is deployed. When this returns, the host is ready.
    ///
    /// # Errors
    /// A data folder that cannot be opened, or a machine that lacks what the settings ask for. A single
    /// version that does not load is no error here: its model answers that it is unavailable, and why.
    pub async fn open(settings: Settings) -> Result<Arc<ModelHost>, Error> {
        let data_dir = settings.data_dir.clone();
        let registry = tokio::task::spawn_blocking(move || Registry::open(&data_dir)).await??;
        operating_system::raise_descriptor_limit();
        let inference = settings.inference.clone();
        let engines = tokio::task::spawn_blocking(move || Engines::discover(&inference)).await?;
        let engines = engines.map_err(Error::internal)?;
        let onnxruntime = engines.get(EngineName::OnnxRuntime).ok().and_then(|engine| engine.library());
        let compiler = Compiler::new(
            settings.executable.clone(),
            settings.runtime.compilation.clone(),
            onnxruntime.map(Path::to_owned),
        );
        let slots = Slots::new(settings.runtime.max_concurrent_calls as usize);
        let defaults = Defaults::new(&settings.serving, settings.inference.dynamic_batching);
        let runtime = Runtime::new(settings.runtime, &settings.inference, engines)
            .map_err(|error| Error::internal(format!("the sandboxes cannot be set up: {error:#}")))?;
        let runtime = Arc::new(runtime);
        let metrics = prometheus::Registry::new();
        let statistics = Statistics::new(&metrics).map_err(Error::internal)?;
        let limits = limits_of(&settings.serving);
        let residency = Residency::new(limits, runtime.graph_cache().clone());
        let registry = Arc::new(registry);
        let host = Arc::new(ModelHost {
            executable: settings.executable,
            loader: Arc::new(Loader {
                registry,
                runtime: runtime.clone(),
                compiler,
                statistics,
                residency,
                verdicts: Verdicts::default(),
                traces: RequestTraces::default(),
            }),
            live: LiveModels::new(defaults, slots, runtime),
            settings: settings.serving,
            metrics,
        });
        host.restore().await?;
        tidy(&host.loader);
        Ok(host)
    }

    /// The `modelhost` binary that is started for work that is confined to a process of its own.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// What exists, durably; blocks.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.loader.registry
    }

    /// How threads run that do what nobody waits for.
    pub fn background_threads(&self) -> BackgroundThreads {
        self.loader.runtime.background_threads()
    }

    /// Where the metrics of the host are registered; the HTTP server adds its own.
    pub fn metrics_registry(&self) -> &prometheus::Registry {
        &self.metrics
    }

    /// All metrics in the Prometheus text format 0.0.4.
    pub fn encode_metrics(&self) -> String {
        self.measure_memory();
        let encoder = prometheus::TextEncoder::new();
        encoder.encode_to_string(&self.metrics.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be encoded");
            String::new()
        })
    }

    /// Says where plugins look predictions up. Only the first who says so is heard.
    pub fn set_prediction_tables(&self, tables: Arc<dyn PredictionTables>) {
        self.loader.runtime.set_prediction_tables(tables);
    }

    /// How long a call of a plugin may take, which a request can only shorten.
    pub fn wall_time_limit(&self) -> Duration {
        self.loader.runtime.settings().limits.wall_time()
    }

    /// What is known of every engine.
    pub fn engines(&self) -> Vec<EngineStatus> {
        self.loader.runtime.graph_cache().engines().status()
    }

    /// Whether requests can be answered. Opening a host makes it ready.
    pub fn is_ready(&self) -> bool {
        true
    }

    /// The version that answers a request, which loads it if need be. What is deployed costs one atomic load.
    ///
    /// # Errors
    /// An unknown model, version or alias; a model without a deployment, or whose deployed version does not load.
    pub fn servable(&self, model: &ModelName, selector: &VersionSelector) -> Result<Arc<Servable>, Error> {
        let live = self.live_model(model)?;
        let state = live.state();
        if *selector == VersionSelector::Deployed {
            return state.deployed(model);
        }
        state.check_loaded(model)?;
        let version = state.version(model, state.selected(model, selector)?)?;
        Ok(self.loader.servable(&self.live, &live, version))
    }

    /// The same, and it can answer: it was in memory before, or is now.
    ///
    /// # Errors
    /// The same, and [`ErrorCode::Unavailable`](modelhost_core::ErrorCode::Unavailable) where it does not load.
    pub async fn ready_servable(
        &self,
        model: &ModelName,
        selector: &VersionSelector,
    ) -> Result<Arc<Servable>, Error> {
        let servable = self.servable(model, selector)?;
        servable.check_ready().await?;
        Ok(servable)
    }

    /// What is in memory, for the metrics.
    fn measure_memory(&self) {
        for live in self.live.all() {
            let servables: Vec<Arc<Servable>> = live.servables.lock().values().cloned().collect();
            for servable in servables {
                servable.statistics().record_memory(&servable.memory_usage());
            }
        }
    }

    /// A model that has versions.
    pub(crate) fn live_model(&self, name: &ModelName) -> Result<Arc<LiveModel>, Error> {
        let live = self.live.get(name).ok_or_else(|| unknown_model(name))?;
        // A model whose last version was deleted stays in memory, but is not there any more.
        if live.state().record.is_none() { Err(unknown_model(name)) } else { Ok(live) }
    }

    /// The record of a model.
    pub(crate) fn record(&self, name: &ModelName) -> Result<Arc<Model>, Error> {
        self.live_model(name)?.state().record.clone().ok_or_else(|| unknown_model(name))
    }

    async fn restore(self: &Arc<Self>) -> Result<(), Error> {
        let registry = self.loader.registry.clone();
        let models = tokio::task::spawn_blocking(move || registry.models()).await??;
        let (ensembles, others): (Vec<Model>, Vec<Model>) = models.into_iter().partition(deploys_an_ensemble);
        let mut deployed: Vec<_> = others.into_iter().filter_map(|record| self.show(record)).collect();
        // An ensemble finds its steps only where their models are shown, which may deploy ensembles too.
        for record in &ensembles {
            self.live.get_or_add(&record.name).set(Some(record.clone()), None);
        }
        deployed.extend(ensembles.into_iter().filter_map(|record| self.show(record)));
        let deployed = Arc::new(Mutex::new(deployed.into_iter()));
        let mut loading = JoinSet::new();
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let (host, deployed) = (self.clone(), deployed.clone());
            loading.spawn(async move { host.load_deployed(&deployed).await });
        }
        while let Some(loaded) = loading.join_next().await {
            loaded?;
        }
        Ok(())
    }

    /// Shows a model with what is deployed of it, which is not in memory yet.
    fn show(&self, record: Model) -> Option<Arc<Servable>> {
        let live = self.live.get_or_add(&record.name);
        let version = deployed_version(record.deployment.as_ref()).and_then(|number| record.version(number));
        let servable = version.map(|version| self.loader.servable(&self.live, &live, version));
        live.set(Some(record), servable.clone());
        servable
    }

    /// Loads as many of these as there is room for; the rest is loaded when it is asked for.
    async fn load_deployed(&self, deployed: &Mutex<impl Iterator<Item = Arc<Servable>>>) {
        loop {
            let Some(servable) = deployed.lock().next() else { return };
            if !self.loader.residency.has_room_for(servable.expected_bytes()) {
                continue;
            }
            if let Err(error) = servable.make_ready().await {
                let Servable { model, version, .. } = &*servable;
                tracing::error!(%model, %version, %error, "deployed version does not load");
            }
        }
    }
}

fn limits_of(settings: &ServingSettings) -> Limits {
    let idle = settings.evict_idle_seconds;
    Limits {
        bytes: settings.loaded_bytes,
        plugins: operating_system::max_loaded_plugins(),
        idle: (idle > 0).then(|| Duration::from_secs(idle)),
    }
}

fn deploys_an_ensemble(record: &Model) -> bool {
    let number = deployed_version(record.deployment.as_ref());
    number.and_then(|number| record.version(number)).is_some_and(|version| version.ensemble.is_some())
}

/// Keeps the plugins in memory within their limits for as long as the host lives.
fn tidy(loader: &Arc<Loader>) {
    let interval = loader.residency.tidying_interval();
    let loader = Arc::downgrade(loader);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let Some(loader) = loader.upgrade() else { return };
            // Dropping plugins blocks.
            let _ = tokio::task::spawn_blocking(move || loader.residency.tidy()).await;
        }
    });
}

/// The version that answers under a revision: for now always one.
pub(crate) fn deployed_version(revision: Option<&Revision>) -> Option<VersionNumber> {
    revision?.traffic.iter().find(|share| share.percent > 0).map(|share| share.version)
}
