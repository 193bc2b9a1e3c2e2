//! Changing how a model is served. The change is durable first and then holds at once, for requests that begin from
//! then on; those under way go on as they began.

use std::sync::Arc;

use modelhost_core::{EnginePreference, ErrorCode, ModelConfiguration, ModelName};
use modelhost_registry::Model;

use crate::error::Error;
use crate::host::{ModelHost, deployed_version};
use crate::live::LiveModel;
use crate::operate::finish;
use crate::residency::Resident;
use crate::servable::Servable;

/// What clients are told about how a model's requests are scheduled: its configuration, and where that says nothing, the
/// host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Rows that one execution of a graph takes at most.
    pub max_batch_size: u32,
    /// How long a call waits for others to join it.
    pub max_queue_delay_microseconds: u64,
    /// Requests that run at one moment.
    pub max_concurrent_requests: usize,
}

impl ModelHost {
    /// How a model's requests are scheduled.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub fn scheduled(&self, name: &ModelName) -> Result<Scheduled, Error> {
        Ok(self.live_model(name)?.scheduled())
    }

    /// How a model is served, as an operator configured it, and the generation of the model.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn configuration(&self, name: &ModelName) -> Result<(ModelConfiguration, u64), Error> {
        let record = self.record(name)?;
        Ok((record.configuration.clone(), record.generation))
    }

    /// Replaces the configuration of a model. Where another engine is to run its graphs, what is deployed is loaded on
    /// it first, and only then takes the place of what answers. Answers the model's generation.
    ///
    /// # Errors
    /// A value that cannot be, [`ErrorCode::Unprocessable`] where the deployed version does not load on the engine, an
    /// unknown model, or another generation than `expected`. Nothing has changed then.
    pub async fn configure(
        self: &Arc<Self>,
        name: &ModelName,
        configuration: ModelConfiguration,
        expected: Option<u64>,
    ) -> Result<u64, Error> {
        let live = self.live_model(name)?;
        let host = self.clone();
        finish(async move {
            let _changing = live.changing.lock().await;
            host.configure_locked(&live, configuration, expected).await
        })
        .await
    }

    async fn configure_locked(
        &self,
        live: &LiveModel,
        configuration: ModelConfiguration,
        expected: Option<u64>,
    ) -> Result<u64, Error> {
        let record = self.record(&live.name)?;
        check(&record, &configuration)?;
        let is_current = expected.is_none_or(|expected| expected == record.generation);
        let engine = Some(configuration.engine).filter(|engine| *engine != record.configuration.engine);
        // What will be refused is not prepared for; the registry refuses it, in its words.
        let loaded = match engine.filter(|_| is_current) {
            Some(engine) => Some(self.load_deployed_on(live, &record, engine).await?),
            None => None,
        };
        let name = live.name.clone();
        let change =
            move |registry: &modelhost_registry::Registry| registry.configure(&name, configuration, expected);
        let generation = self.with_registry(change).await?;
        let record = self.read_record(&live.name).await?;
        let Some(loaded) = loaded else {
            live.set_record(record);
            return Ok(generation);
        };
        live.set_record(record);
        let servables: Vec<Arc<Servable>> = live.servables.lock().values().cloned().collect();
        for servable in servables {
            match loaded.as_ref().filter(|(deployed, _)| Arc::ptr_eq(deployed, &servable)) {
                Some((_, resident)) => servable.replace(resident),
                // The next request loads it, with the engine that is configured now.
                None => servable.evict(),
            }
        }
        Ok(generation)
    }

    /// The deployed version, if there is one and it has graphs of its own: the steps of an ensemble run as their own models
    /// are configured.
    async fn load_deployed_on(
        &self,
        live: &LiveModel,
        record: &Model,
        engine: EnginePreference,
    ) -> Result<Option<(Arc<Servable>, Arc<Resident>)>, Error> {
        let number = deployed_version(record.deployment.as_ref());
        let Some(version) = number.and_then(|number| record.version(number)) else { return Ok(None) };
        if version.ensemble.is_some() {
            return Ok(None);
        }
        let refused = |error: Error| match error.code {
            ErrorCode::Internal => error,
            _ => Error::new(
                ErrorCode::Unprocessable,
                format!("version {} does not load with engine {}: {error}", version.number, name_of(engine)),
            ),
        };
        let servable = self.loader.servable(&self.live, live, version);
        let resident = servable.load_anew(engine).await.map_err(refused)?;
        Ok(Some((servable, resident)))
    }
}

fn name_of(engine: EnginePreference) -> &'static str {
    engine.engine().map_or("auto", |engine| engine.as_str())
}

/// Refuses values out of range, and graphs that no version carries: most likely a typing error, which would silently
/// do nothing. A name that is configured already stays allowed, for its version may have been deleted.
fn check(record: &Model, configuration: &ModelConfiguration) -> Result<(), Error> {
    let invalid = |message: String| Error::new(ErrorCode::InvalidArgument, message);
    configuration.check().map_err(|error| invalid(error.to_string()))?;
    let mut carried: Vec<&str> = record
        .versions
        .iter()
        .flat_map(|version| version.graphs.iter().map(|graph| graph.description.name.as_str()))
        .collect();
    carried.sort_unstable();
    carried.dedup();
    let is_known =
        |name: &String| carried.contains(&name.as_str()) || record.configuration.graphs.contains_key(name);
    match configuration.graphs.keys().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(unknown) => {
            let unknown: String = unknown.chars().take(64).collect();
            let known = if carried.is_empty() { "none".to_owned() } else { carried.join(", ") };
            Err(invalid(format!("graphs: no version carries a graph {unknown:?}: expected {known}")))
        }
    }
}
