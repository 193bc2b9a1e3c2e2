//! Makes a version that is in the registry ready to answer, from its files. Compiled code is reused; only
//! where it is missing, or was made by another compiler, the component is compiled again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use modelhost_core::{Digest, EngineName, EnginePreference, ErrorCode, ModelName, VersionNumber};
use modelhost_inference::Graph;
use modelhost_registry::{GraphArtifact, Registry, Version};
use modelhost_runtime::{Compiler, Graphs, Plugin, Runtime, Share};
use tempfile::{NamedTempFile, TempDir, TempPath};

use crate::error::Error;
use crate::live::LiveModel;
use crate::residency::{Residency, Resident};
use crate::samples::{Sample, read_samples};
use crate::servable::Servable;
use crate::statistics::Statistics;
use crate::warm_up::{Effort, warm_up};

/// Loads versions.
pub(crate) struct Loader {
    pub(crate) registry: Arc<Registry>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) compiler: Compiler,
    pub(crate) statistics: Statistics,
    pub(crate) residency: Residency,
}

impl Loader {
    /// The version, whether it is in memory or not. There is one for each, for as long as it exists.
    pub(crate) fn servable(self: &Arc<Self>, model: &LiveModel, version: &Version) -> Arc<Servable> {
        let mut servables = model.servables.lock();
        let new = || Arc::new(Servable::new(self.clone(), model, version.clone()));
        servables.entry(version.number).or_insert_with(new).clone()
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
        let runtime = self.runtime.clone();
        let registry = self.registry.clone();
        let origin = format!("{model}/{}", version.number);
        let record = version.clone();
        let loading = tokio::task::spawn_blocking(move || {
            let graphs = graphs_of(&registry, &runtime, &record, preference)?;
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
        let (runtime, registry, record) = (self.runtime.clone(), self.registry.clone(), version.clone());
        let load = move |graph: &GraphArtifact| {
            let path = registry.artifacts().graph_path(&graph.digest);
            let name = &graph.description.name;
            let refused = |reason: &dyn std::fmt::Display| {
                let message = format!("graph {name:?} does not run on {engine}: {reason}");
                Error::new(ErrorCode::Unprocessable, message)
            };
            if unable(graph).contains(&engine) {
                return Err(refused(&"it refused the graph when it was uploaded"));
            }
            let loaded = runtime.graph_cache().get_or_load(&graph.digest, engine, || std::fs::read(&path));
            loaded.map_err(|error| refused(&error))
        };
        tokio::task::spawn_blocking(move || record.graphs.iter().map(load).collect()).await?
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

/// The engines that refused a graph when it was uploaded.
fn unable(graph: &GraphArtifact) -> Vec<EngineName> {
    let candidates = graph.engine_choice.iter().flat_map(|choice| &choice.candidates);
    candidates.filter(|candidate| candidate.error.is_some()).map(|candidate| candidate.engine).collect()
}

/// The graphs of a version, from their files or from the cache.
fn graphs_of(
    registry: &Registry,
    runtime: &Runtime,
    version: &Version,
    preference: EnginePreference,
) -> Result<Graphs, Error> {
    let load = |graph: &GraphArtifact| {
        let path = registry.artifacts().graph_path(&graph.digest);
        let chosen = graph.engine_choice.as_ref();
        let wanted = preference.engine().or(chosen.map(|choice| choice.engine));
        let name = &graph.description.name;
        Ok((name.clone(), load_graph(runtime, name, &graph.digest, &path, wanted, &unable(graph))?))
    };
    version.graphs.iter().map(load).collect()
}

/// Loads a graph, or finds it in the cache: on the engine that is wanted, or else on another one that is there. It is not
/// given to those that are known to be `unable`: they refused it under limits that there are none of here.
pub(crate) fn load_graph(
    runtime: &Runtime,
    name: &str,
    digest: &Digest,
    path: &Path,
    wanted: Option<EngineName>,
    unable: &[EngineName],
) -> Result<Arc<Graph>, Error> {
    let load = |engine| runtime.graph_cache().get_or_load(digest, engine, || std::fs::read(path));
    let mut refusals = Vec::new();
    let rest = EngineName::ALL.into_iter().filter(|engine| Some(*engine) != wanted);
    for engine in wanted.into_iter().chain(rest) {
        if unable.contains(&engine) {
            refusals.push(format!("{engine}: it refused the graph when it was uploaded"));
            continue;
        }
        match load(engine) {
            Ok(graph) => {
                if let Some(wanted) = wanted.filter(|wanted| *wanted != engine) {
                    let reason = refusals.join("; ");
                    tracing::warn!(graph = %name, %wanted, used = %engine, reason, "a graph runs on another engine");
                }
                return Ok(graph);
            }
            Err(error) => refusals.push(format!("{engine}: {error}")),
        }
    }
    let refusals = refusals.join("; ");
    Err(Error::new(
        ErrorCode::Unprocessable,
        format!("graph {name:?} runs on no engine of this host: {refusals}"),
    ))
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
