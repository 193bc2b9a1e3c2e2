//! Makes a version that is in the registry ready to answer, from its files. Compiled code is reused; only
//! where it is missing, or was made by another compiler, the component is compiled again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use modelhost_core::{Digest, EngineName, EnginePreference, ErrorCode, ModelName, VersionNumber};
use modelhost_registry::{Registry, Version};
use modelhost_runtime::{Compiler, Graphs, Plugin, Runtime};
use tempfile::{NamedTempFile, TempDir, TempPath};

use crate::error::Error;
use crate::estimate::Estimate;
use crate::live::LiveModel;
use crate::servable::Servable;
use crate::statistics::Statistics;

/// Loads versions, each once however many ask for it, and keeps a number of them.
pub(crate) struct Loader {
    pub(crate) registry: Arc<Registry>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) compiler: Compiler,
    pub(crate) statistics: Statistics,
    loaded: moka::future::Cache<Key, Arc<Servable>>,
}

/// A version on the engine that its model prefers: where that changes, what was loaded before is not found again.
type Key = (ModelName, VersionNumber, EnginePreference);

impl Loader {
    pub(crate) fn new(
        registry: Arc<Registry>,
        runtime: Arc<Runtime>,
        compiler: Compiler,
        statistics: Statistics,
        max_idle_versions: u64,
    ) -> Loader {
        let loaded = moka::future::Cache::new(max_idle_versions);
        Loader { registry, runtime, compiler, statistics, loaded }
    }

    /// The version, ready to answer.
    ///
    /// # Errors
    /// A version that does not load: its files are missing, or it no longer starts on this host.
    pub(crate) async fn load(&self, model: &LiveModel, version: &Version) -> Result<Arc<Servable>, Error> {
        self.load_on(model, version, model.state().engine()).await
    }

    /// The version, ready to answer, with its graphs on an engine that the model does not prefer yet.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub(crate) async fn load_on(
        &self,
        model: &LiveModel,
        version: &Version,
        engine: EnginePreference,
    ) -> Result<Arc<Servable>, Error> {
        let key = (model.name.clone(), version.number, engine);
        let loaded = self.loaded.try_get_with(key, self.load_from_files(model, version, engine)).await;
        loaded.map_err(|shared: Arc<Error>| Error::clone(&shared))
    }

    /// Drops what is loaded of a model on other engines than this one. Requests that hold it finish.
    pub(crate) async fn keep_only(&self, model: &ModelName, engine: EnginePreference) {
        self.drop_where(|key| key.0 == *model && key.2 != engine).await;
    }

    /// The version if it is loaded, without loading it and without counting as a use of it.
    pub(crate) fn loaded_now(&self, model: &ModelName, version: VersionNumber) -> Option<Arc<Servable>> {
        let mut loaded = self.loaded.iter();
        loaded.find(|(key, _)| (&key.0, key.1) == (model, version)).map(|(_, servable)| servable)
    }

    async fn drop_where(&self, is_dropped: impl Fn(&Key) -> bool) {
        let loaded = self.loaded.iter().map(|(key, _)| key);
        let dropped: Vec<Arc<Key>> = loaded.filter(|key| is_dropped(key)).collect();
        for key in dropped {
            self.loaded.invalidate(key.as_ref()).await;
        }
    }

    /// Drops a version that was deleted. Requests that hold it finish.
    pub(crate) async fn forget(&self, model: &ModelName, version: VersionNumber) {
        self.drop_where(|key| (&key.0, key.1) == (model, version)).await;
        self.statistics.forget(model, version);
    }

    async fn load_from_files(
        &self,
        model: &LiveModel,
        version: &Version,
        engine: EnginePreference,
    ) -> Result<Arc<Servable>, Error> {
        let started = Instant::now();
        let compiled = self.compiled(version).await?;
        let runtime = self.runtime.clone();
        let registry = self.registry.clone();
        let origin = format!("{}/{}", model.name, version.number);
        let record = version.clone();
        let plugin = tokio::task::spawn_blocking(move || {
            let graphs = graphs_of(&registry, &runtime, &record, engine)?;
            // SAFETY: the file lies in the data folder, which only this user can write; it was put there,
            // whole, by `store_compiled` from what the compiling process wrote.
            unsafe { Plugin::load(runtime, &compiled, graphs, &origin) }.map_err(Error::from)
        })
        .await??;
        self.statistics.record_load(&model.name, version.number, started.elapsed());
        Ok(Arc::new(Servable {
            model: model.name.clone(),
            version: version.number,
            signature: Arc::new(version.signature.clone()),
            plugin: Arc::new(plugin.sharing(model.share.clone())),
            admission: model.admission.clone(),
            service_time: Estimate::default(),
            statistics: self.statistics.of(&model.name, version.number),
        }))
    }

    /// Where the compiled code is; compiles where there is none for this host.
    async fn compiled(&self, version: &Version) -> Result<PathBuf, Error> {
        let key = self.runtime.compilation_key().to_owned();
        let path = self.registry.artifacts().compiled_path(&key, &version.digest);
        if path.exists() {
            return Ok(path);
        }
        tracing::info!(digest = %version.digest, "compiling again: no compiled code for this engine and settings");
        let component = self.registry.artifacts().component_path(&version.digest);
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

/// The graphs of a version, from their files or from the cache.
fn graphs_of(
    registry: &Registry,
    runtime: &Runtime,
    version: &Version,
    engine: EnginePreference,
) -> Result<Graphs, Error> {
    let path = |digest| registry.artifacts().graph_path(digest);
    load_graphs(
        runtime,
        engine.engine().unwrap_or(EngineName::Tract),
        version.graphs.iter().map(|graph| (&graph.description.name, graph.digest, path(&graph.digest))),
    )
}

/// Loads graphs, each given by its name, its digest and the file that holds it, or finds them in the cache.
pub(crate) fn load_graphs<'a>(
    runtime: &Runtime,
    engine: EngineName,
    graphs: impl IntoIterator<Item = (&'a String, Digest, PathBuf)>,
) -> Result<Graphs, Error> {
    let load = |(name, digest, path): (&String, Digest, PathBuf)| {
        let loaded = runtime.graph_cache().get_or_load(&digest, engine, || std::fs::read(&path));
        let refused = |error| Error::new(ErrorCode::Unprocessable, format!("graph {name:?}: {error}"));
        Ok((name.clone(), loaded.map_err(refused)?))
    };
    graphs.into_iter().map(load).collect()
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
