//! The whole of modelhost below its HTTP API: opens the data folder, brings back what was deployed, and
//! finds the version that answers a request.

use std::sync::Arc;

use modelhost_core::{ModelName, VersionNumber};
use modelhost_inference::Engines;
use modelhost_registry::{Model, Registry, Revision};
use modelhost_runtime::{Compiler, Runtime};
use tokio::task::JoinSet;

use crate::admission::Slots;
use crate::configuration::Defaults;
use crate::error::Error;
use crate::live::{Deployed, LiveModel, LiveModels, VersionSelector, unknown_model};
use crate::loader::Loader;
use crate::servable::Servable;
use crate::settings::{ServingSettings, Settings};
use crate::statistics::Statistics;

/// A host: everything that the HTTP API offers, without HTTP.
pub struct ModelHost {
    pub(crate) loader: Loader,
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
        let compiler = Compiler::new(settings.executable, settings.runtime.compilation.clone());
        let engines = Engines::embedded_only();
        let slots = Slots::new(settings.runtime.max_concurrent_calls as usize);
        let defaults = Defaults::new(&settings.serving, settings.inference.dynamic_batching);
        let runtime = Runtime::new(settings.runtime, &settings.inference, engines)
            .map_err(|error| Error::internal(format!("the sandboxes cannot be set up: {error:#}")))?;
        let runtime = Arc::new(runtime);
        let metrics = prometheus::Registry::new();
        let statistics = Statistics::new(&metrics).map_err(Error::internal)?;
        let max_idle = settings.serving.max_idle_versions;
        let host = Arc::new(ModelHost {
            loader: Loader::new(Arc::new(registry), runtime.clone(), compiler, statistics, max_idle),
            live: LiveModels::new(defaults, slots, runtime.clone()),
            settings: settings.serving,
            metrics,
        });
        host.restore().await?;
        Ok(host)
    }

    /// Where the metrics of the host are registered; the HTTP server adds its own.
    pub fn metrics_registry(&self) -> &prometheus::Registry {
        &self.metrics
    }

    /// All metrics in the Prometheus text format 0.0.4.
    pub fn encode_metrics(&self) -> String {
        let encoder = prometheus::TextEncoder::new();
        encoder.encode_to_string(&self.metrics.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be encoded");
            String::new()
        })
    }

    /// Whether requests can be answered. Opening a host makes it ready.
    pub fn is_ready(&self) -> bool {
        true
    }

    /// The version that answers a request, loaded if need be. What is deployed costs one atomic load.
    ///
    /// # Errors
    /// An unknown model, version or alias; a model without a deployment; a version that does not load.
    pub async fn servable(
        &self,
        model: &ModelName,
        selector: &VersionSelector,
    ) -> Result<Arc<Servable>, Error> {
        let live = self.live_model(model)?;
        let state = live.state();
        match selector {
            VersionSelector::Deployed => state.deployed(model),
            VersionSelector::Number(number) => self.numbered(&live, *number).await,
            VersionSelector::Alias(alias) => self.numbered(&live, state.alias(model, alias)?).await,
        }
    }

    async fn numbered(&self, live: &LiveModel, number: VersionNumber) -> Result<Arc<Servable>, Error> {
        let state = live.state();
        if let Some(servable) = state.deployed_with(number) {
            return Ok(servable);
        }
        self.loader.load(live, state.version(&live.name, number)?).await
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
        let mut loading = JoinSet::new();
        for record in models {
            let host = self.clone();
            loading.spawn(async move { host.restore_model(record).await });
        }
        while let Some(restored) = loading.join_next().await {
            restored?;
        }
        Ok(())
    }

    async fn restore_model(&self, record: Model) {
        let live = self.live.get_or_add(&record.name);
        live.set_record(Some(record.clone()));
        let deployed = match deployed_version(record.deployment.as_ref()) {
            None => Deployed::Nothing,
            Some(number) => match self.numbered(&live, number).await {
                Ok(servable) => Deployed::Ready(servable),
                Err(error) => {
                    tracing::error!(model = %record.name, version = %number, %error, "deployed version does not load");
                    Deployed::Failed(error)
                }
            },
        };
        live.set(Some(record), deployed);
    }
}

/// The version that answers under a revision: for now always one.
pub(crate) fn deployed_version(revision: Option<&Revision>) -> Option<VersionNumber> {
    revision?.traffic.iter().find(|share| share.percent > 0).map(|share| share.version)
}
