//! Makes a version that is in the registry ready to answer, from its files. Compiled code is reused; only
//! where it is missing, or was made by another compiler, the component is compiled again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use modelhost_core::{
    Digest, EngineName, EnginePreference, Ensemble, EnsembleStep, ErrorCode, ModelName, VersionNumber,
};
use modelhost_inference::Graph;
use modelhost_registry::{GraphArtifact, Registry, Version};
use modelhost_runtime::{Compiler, Graphs, Plugin, Runtime, Share};
use tempfile::{NamedTempFile, TempDir, TempPath};

use crate::ensemble::Pipeline;
use crate::error::Error;
use crate::live::{LiveModel, LiveModels};
use crate::request_traces::RequestTraces;
use crate::residency::{Residency, Resident};
use crate::samples::{Sample, read_samples};
use crate::servable::Servable;
use crate::statistics::Statistics;
use crate::verdicts::{Verdict, Verdicts};
use crate::warm_up::{Effort, warm_up};

/// Loads versions.
pub(crate) struct Loader {
    pub(crate) registry: Arc<Registry>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) compiler: Compiler,
    pub(crate) statistics: Statistics,
    pub(crate) residency: Residency,
    pub(crate) verdicts: Verdicts,
    pub(crate) traces: RequestTraces,
}

impl Loader {
    /// The version, whether it is in memory or not. There is one for each, for as long as it exists. An ensemble holds those
    /// of its steps.
    pub(crate) fn servable(
        self: &Arc<Self>,
        models: &LiveModels,
        model: &LiveModel,
        version: &Version,
    ) -> Arc<Servable> {
        if let Some(servable) = model.servables.lock().get(&version.number) {
            return servable.clone();
        }
        // Not under the lock: a step may be another version of the same model.
        let pipeline = version.ensemble.as_ref().map(|ensemble| self.pipeline(models, ensemble));
        let new = Arc::new(Servable::new(self.clone(), model, version.clone(), pipeline));
        model.servables.lock().entry(version.number).or_insert(new).clone()
    }

    /// Versions never name later ones, so that this ends.
    fn pipeline(self: &Arc<Self>, models: &LiveModels, ensemble: &Ensemble) -> Result<Pipeline, Error> {
        let step = |(index, step): (usize, &EnsembleStep)| {
            let live = models.get(&step.model);
            let record = live.as_ref().and_then(|live| live.state().record.clone());
            let version = record.as_deref().and_then(|record| record.version(step.version));
            match (live, version) {
                (Some(live), Some(version)) if version.digest == step.digest => {
                    Ok(self.servable(models, &live, version))
                }
                _ => {
                    let message = format!("{} does not exist any more", ensemble.title(index));
                    Err(Error::new(ErrorCode::Unavailable, message))
                }
            }
        };
        let steps = ensemble.steps.iter().enumerate().map(step).collect::<Result<_, _>>()?;
        Ok(Pipeline::new(ensemble.clone(), steps, self.runtime.tensor_memory()))
    }

    /// Drops a version that was deleted. Requests that hold it finish.
    pub(crate) fn forget(&self, model: &LiveModel, version: VersionNumber) {
        let servable = model.servables.lock().remove(&version);
        if let Some(servable) = servable {
            servable.retire();
        }
        self.statistics.forget(&model.name, version);
    }

    /// Loads a version's plugin from its files and warms it up.
    ///
    /// # Errors
    /// A version that does not load: its files are missing, or it no longer starts on this host.
    pub(crate) async fn load(
        &self,
        model: &ModelName,
        version: &Version,
        preference: EnginePreference,
        share: Share,
        effort: Effort,
    ) -> Result<Arc<Resident>, Error> {
        let started = Instant::now();
        let compiled = self.compiled(version).await?;
        self.examine_unknown(version, preference).await?;
        let wanted: Vec<WantedGraph> =
            version.graphs.iter().map(|graph| self.wanted(graph, preference)).collect();
        let runtime = self.runtime.clone();
        let registry = self.registry.clone();
        let origin = format!("{model}/{}", version.number);
        let record = version.clone();
        let loading = tokio::task::spawn_blocking(move || {
            let load = |graph: &WantedGraph| Ok((graph.name.clone(), graph.load(&runtime)?));
            let graphs: Graphs = wanted.iter().map(load).collect::<Result<_, Error>>()?;
            // SAFETY: the file lies in the data folder, which only this user can write; it was put there,
            // whole, by `store_compiled` from what the compiling process wrote.
            let plugin = unsafe { Plugin::load(runtime, &compiled, graphs, &origin) }.map_err(Error::from)?;
            let code_bytes = std::fs::metadata(&compiled).map_or(0, |metadata| metadata.len());
            Ok::<_, Error>((plugin, code_bytes, samples_of(&registry, &record)))
        });
        let (plugin, code_bytes, samples) = loading.await??;
        let resident = Arc::new(self.residency.count(plugin.sharing(share), code_bytes));
        warm_up(&resident.plugin, &Arc::new(version.signature.clone()), &samples, effort).await;
        self.statistics.record_load(model, version.number, started.elapsed());
        Ok(resident)
    }

    /// Loads the graphs of a version on this engine and no other, or finds them in the cache. While the answer is held, the
    /// version loads with them.
    ///
    /// # Errors
    /// Where one of them does not run on it, and why.
    pub(crate) async fn graphs_on(
        &self,
        version: &Version,
        engine: EngineName,
    ) -> Result<Vec<Arc<Graph>>, Error> {
        let preference = EnginePreference::from(engine);
        self.examine_unknown(version, preference).await?;
        let only = |graph| WantedGraph { others: Vec::new(), ..self.wanted(graph, preference) };
        let wanted: Vec<WantedGraph> = version.graphs.iter().map(only).collect();
        let runtime = self.runtime.clone();
        let load = move || wanted.iter().map(|graph| graph.load(&runtime)).collect();
        tokio::task::spawn_blocking(load).await?
    }

    /// The graph of a version, to be loaded on the engine that is preferred or else was chosen for it.
    fn wanted(&self, graph: &GraphArtifact, preference: EnginePreference) -> WantedGraph {
        let engines = self.runtime.graph_cache().engines();
        let wanted = wanted_engine(graph, preference);
        let rest = EngineName::ALL.into_iter().filter(|engine| Some(*engine) != wanted);
        let with_verdict = |engine| {
            let unknown = || Err("it was never tried with the graph".to_owned());
            (engine, self.verdicts.of(graph, engine, engines).unwrap_or_else(unknown))
        };
        WantedGraph {
            name: graph.description.name.clone(),
            digest: graph.digest,
            path: self.registry.artifacts().graph_path(&graph.digest),
            first: wanted.map(with_verdict),
            others: rest.map(with_verdict).collect(),
        }
    }

    /// Tries the graphs with an engine that is wanted and was never tried with them, under the limits of an upload.
    async fn examine_unknown(&self, version: &Version, preference: EnginePreference) -> Result<(), Error> {
        let engines = self.runtime.graph_cache().engines();
        let unknown = version.graphs.iter().find_map(|graph| {
            let engine = wanted_engine(graph, preference)?;
            self.verdicts.of(graph, engine, engines).is_none().then_some(engine)
        });
        let Some(engine) = unknown else { return Ok(()) };
        tracing::info!(digest = %version.digest, %engine, "examining again: this engine was not tried with its graphs");
        let component = self.registry.artifacts().component_path(&version.digest);
        let output = staging_folder(&self.registry)?;
        match self.compiler.compile(&component, output.path()).await {
            Ok(examination) => self.verdicts.learn(&examination.graphs),
            Err(error) => self.verdicts.learn_failure(&version.graphs, engine, &error.to_string()),
        }
        Ok(())
    }

    /// Where the compiled code is; compiles where there is none for this host.
    async fn compiled(&self, version: &Version) -> Result<PathBuf, Error> {
        let key = self.runtime.compilation_key().to_owned();
        let path = self.registry.artifacts().compiled_path(&key, &version.digest);
        if path.exists() {
            return Ok(path);
        }
        let component = self.registry.artifacts().component_path(&version.digest);
        if !component.exists() {
            return Err(Error::new(ErrorCode::Unavailable, "the files of the version are missing"));
        }
        tracing::info!(digest = %version.digest, "compiling again: no compiled code for this engine and settings");
        let output = staging_folder(&self.registry)?;
        self.compiler.compile(&component, output.path()).await?;
        let registry = self.registry.clone();
        let digest = version.digest;
        tokio::task::spawn_blocking(move || {
            let staged = staged_file(&output.path().join(modelhost_runtime::examine::COMPILED_FILE))?;
            // The version refers to the file already, so nothing removes it.
            drop(registry.artifacts().store_compiled(&key, &digest, staged)?);
            Ok::<(), Error>(())
        })
        .await??;
        Ok(path)
    }
}

/// The samples of a version. They were read before it became one, so that a failure is the machine's; without
/// them it is only slower at first.
fn samples_of(registry: &Registry, version: &Version) -> Vec<Sample> {
    let component = registry.artifacts().component_path(&version.digest);
    read_samples(&component, &version.samples, &version.signature).unwrap_or_else(|error| {
        tracing::warn!(digest = %version.digest, %error, "samples cannot be read");
        Vec::new()
    })
}

fn wanted_engine(graph: &GraphArtifact, preference: EnginePreference) -> Option<EngineName> {
    preference.engine().or(graph.engine_choice.as_ref().map(|choice| choice.engine))
}

/// A graph to be loaded, and what is known of the engines.
pub(crate) struct WantedGraph {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    /// Its file.
    pub(crate) path: PathBuf,
    /// The engine that is to run it, if there is one.
    pub(crate) first: Option<(EngineName, Verdict)>,
    /// Those that may run it where that one does not, in this order.
    pub(crate) others: Vec<(EngineName, Verdict)>,
}

impl WantedGraph {
    /// Loads it, or finds it in the cache: on the first of its engines that takes it.
    ///
    /// # Errors
    /// [`ErrorCode::Unprocessable`] where none does, with the reasons of each.
    pub(crate) fn load(&self, runtime: &Runtime) -> Result<Arc<Graph>, Error> {
        let name = &self.name;
        let load =
            |engine| runtime.graph_cache().get_or_load(&self.digest, engine, || std::fs::read(&self.path));
        let mut refusals = Vec::new();
        for (engine, verdict) in self.first.iter().chain(&self.others) {
            let loaded = verdict.clone().and_then(|()| load(*engine).map_err(|error| error.to_string()));
            match loaded {
                Ok(graph) => {
                    if let Some((wanted, _)) = self.first.as_ref().filter(|(wanted, _)| wanted != engine) {
                        let reason = refusals.join("; ");
                        tracing::warn!(graph = %name, %wanted, used = %engine, reason, "a graph runs on another engine");
                    }
                    return Ok(graph);
                }
                Err(reason) => refusals.push(format!("{engine}: {reason}")),
            }
        }
        let where_to = if self.others.is_empty() { "as it is wanted" } else { "on any engine of this host" };
        let message = format!("graph {name:?} does not run {where_to}: {}", refusals.join("; "));
        Err(Error::new(ErrorCode::Unprocessable, message))
    }
}

/// A folder for the compiling process, on the same file system as the artifacts.
pub(crate) fn staging_folder(registry: &Registry) -> Result<TempDir, Error> {
    let file = registry.artifacts().staging_file()?;
    // The staging folder is emptied at start, so a folder left by a crash goes away too.
    let parent = file.path().parent().map(Path::to_owned).unwrap_or_default();
    tempfile::tempdir_in(parent).map_err(Error::internal)
}

/// A file of the staging folder, to be moved to its place.
pub(crate) fn staged_file(path: &Path) -> Result<NamedTempFile, Error> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).map_err(Error::internal)?;
    let path = TempPath::try_from_path(path).map_err(Error::internal)?;
    Ok(NamedTempFile::from_parts(file, path))
}
