//! From the bytes of an upload to a version: received aside, examined and compiled apart, started once, and
//! only then stored and recorded. Whatever ends early leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use modelhost_core::{Digest, EngineChoice, EngineName, ErrorCode, Hasher, ModelName};
use modelhost_registry::{
    GraphArtifact, NewVersion, Registry, Revision, TrafficShare, Version, ensemble_file,
};
use modelhost_runtime::{
    Computation, EngineVerdict, Examination, ExaminedGraph, Graphs, NamedTensors, Plugin, Runtime, examine,
};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use crate::engine_choice::Contest;
use crate::error::Error;
use crate::host::ModelHost;
use crate::loader::{WantedGraph, staged_file, staging_folder};
use crate::made_up::made_up_inputs;
use crate::operate::{Authorship, finish};
use crate::samples::read_samples;
use crate::tasks::check_tasks;
use crate::warm_up::try_samples;

/// What to do with an upload once it is a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOptions {
    /// Whether to deploy it at once.
    pub deploy: bool,
    /// Who uploads it, where that is known.
    pub by: Option<String>,
    /// Why it is deployed.
    pub comment: Option<String>,
}

/// What became of an upload.
#[derive(Clone, Debug)]
pub struct UploadOutcome {
    /// False where the model already had a version of the same bytes.
    pub created: bool,
    /// The version.
    pub version: Version,
    /// The revision that deploys it, where that was asked for and it was not deployed already.
    pub deployed: Option<Revision>,
    /// The generation of the model now.
    pub generation: u64,
}

/// An upload that is being received. Dropping it removes what was received.
pub struct Upload {
    host: Arc<ModelHost>,
    model: ModelName,
    /// Removes the file when it is dropped.
    file: NamedTempFile,
    /// The same file, written off the thread that reads sockets.
    writer: tokio::fs::File,
    hasher: Hasher,
    received: u64,
}

impl ModelHost {
    /// Begins to receive a component for this model, which need not exist yet. `declared` is how many bytes
    /// are known to come.
    ///
    /// # Errors
    /// [`ErrorCode::TooLarge`] where that is over the limit already; a data folder that cannot be written.
    pub async fn begin_upload(self: &Arc<Self>, model: ModelName, declared: u64) -> Result<Upload, Error> {
        check_size(declared, self.settings.max_upload_bytes)?;
        let file = self.with_registry(|registry| registry.artifacts().staging_file()).await?;
        let writer = tokio::fs::File::from_std(file.reopen().map_err(Error::internal)?);
        Ok(Upload { host: self.clone(), model, file, writer, hasher: Hasher::default(), received: 0 })
    }
}

impl Upload {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`ErrorCode::TooLarge`] over the limit; a disk that cannot be written.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.received = self.received.saturating_add(piece.len() as u64);
        check_size(self.received, self.host.settings.max_upload_bytes)?;
        self.hasher.update(&piece);
        Ok(self.writer.write_all(&piece).await?)
    }

    /// Makes a version of what was received, and deploys it if that is asked for. Runs to its end even where
    /// the caller goes away.
    ///
    /// # Errors
    /// Everything that can be wrong with a component, in one sentence.
    pub async fn finish(self, options: UploadOptions) -> Result<UploadOutcome, Error> {
        finish(self.make_version(options)).await
    }

    async fn make_version(self, options: UploadOptions) -> Result<UploadOutcome, Error> {
        let Upload { host, model, file, mut writer, hasher, received } = self;
        writer.flush().await?;
        drop(writer);
        let digest = hasher.finish();
        let staged = if host.existing_version(&model, &digest).is_some() {
            None
        } else if let Some(twin) = host.live.version_of_bytes(&digest) {
            Some(Staged::Twin(Box::new(twin_of(twin, options.by.clone()))))
        } else {
            let prepared = host.prepare(&model, file, digest, received, options.by.clone()).await?;
            Some(Staged::Prepared(Box::new(prepared)))
        };
        host.admit(model, digest, staged, options).await
    }
}

/// An upload that may become a version.
pub(crate) enum Staged {
    /// Examined a moment ago.
    Prepared(Box<Prepared>),
    /// The same bytes are a version of another model: what was found out about them then is true of them now, and
    /// their files are there.
    Twin(Box<NewVersion>),
    /// Declared, and found to fit together.
    Ensemble(Box<NewVersion>),
}

/// A component that passed everything, with its files still aside.
pub(crate) struct Prepared {
    version: NewVersion,
    component: NamedTempFile,
    compiled: NamedTempFile,
    /// Digest and bytes of each graph.
    graphs: Vec<(Digest, PathBuf)>,
    /// Holds the files of `compiled` and `graphs`.
    _folder: tempfile::TempDir,
}

impl ModelHost {
    fn existing_version(&self, model: &ModelName, digest: &Digest) -> Option<Version> {
        let record = self.live.get(model)?.state().record.clone()?;
        record.versions.iter().find(|version| version.digest == *digest).cloned()
    }

    async fn prepare(
        &self,
        model: &ModelName,
        component: NamedTempFile,
        digest: Digest,
        size_bytes: u64,
        uploaded_by: Option<String>,
    ) -> Result<Prepared, Error> {
        let folder = staging_folder(&self.loader.registry)?;
        let examined = self.loader.compiler.compile(component.path(), folder.path()).await?;
        let compiled = folder.path().join(examine::COMPILED_FILE);
        let plugin = self.load_aside(model, &compiled, folder.path(), &examined).await?;
        let signature = plugin.signature().await?;
        check_tasks(&examined.capabilities, &signature)?;
        let samples = read_samples(component.path(), &examined.samples, &signature)?;
        let computed = try_samples(&plugin, &Arc::new(signature.clone()), &samples).await?;
        let choices = self.choose_engines(folder.path(), &examined, computed).await?;
        drop(plugin);
        let graphs = examined.graphs.iter().zip(choices).map(|(graph, choice)| GraphArtifact {
            description: graph.description.clone(),
            digest: graph.digest,
            size_bytes: graph.size_bytes,
            engine_choice: Some(choice),
        });
        let version = NewVersion {
            digest,
            size_bytes,
            uploaded_by,
            signature,
            graphs: graphs.collect(),
            samples: examined.samples.clone(),
            capabilities: examined.capabilities.clone(),
            metadata: examined.metadata.clone(),
            compiled_size_bytes: examined.compiled_size_bytes,
            ensemble: None,
        };
        let files =
            examined.graphs.iter().map(|graph| (graph.digest, examine::graph_file(folder.path(), graph)));
        Ok(Prepared {
            version,
            component,
            compiled: staged_file(&compiled)?,
            graphs: files.collect(),
            _folder: folder,
        })
    }

    /// Loads the plugin once, from its files aside.
    async fn load_aside(
        &self,
        model: &ModelName,
        compiled: &Path,
        folder: &Path,
        examined: &Examination,
    ) -> Result<Arc<Plugin>, Error> {
        let runtime = self.loader.runtime.clone();
        let origin = format!("{model}/upload");
        let compiled = compiled.to_owned();
        let folder = folder.to_owned();
        let examined = examined.clone();
        let plugin = tokio::task::spawn_blocking(move || {
            let graphs = graphs_aside(&runtime, &folder, &examined)?;
            // SAFETY: the compiling process of this host wrote the file a moment ago, in a folder that only
            // this user can write.
            unsafe { Plugin::load(runtime, &compiled, graphs, &origin) }.map_err(Error::from)
        });
        Ok(Arc::new(plugin.await??))
    }

    /// Lets the engines of this host compete for each graph, on what the samples made of it.
    async fn choose_engines(
        &self,
        folder: &Path,
        examined: &Examination,
        computed: Vec<Computation>,
    ) -> Result<Vec<EngineChoice>, Error> {
        let runtime = self.loader.runtime.clone();
        let folder = folder.to_owned();
        let graphs = examined.graphs.clone();
        let handle = tokio::runtime::Handle::current();
        let decide = move |graph: &ExaminedGraph| {
            let of_graph = computed.iter().filter(|computation| computation.graph == graph.digest);
            let recorded: Vec<NamedTensors> =
                of_graph.map(|computation| computation.inputs.clone()).collect();
            let made_up = || made_up_inputs(&graph.description.inputs).into_iter().collect();
            let contest = Contest {
                name: &graph.description.name,
                digest: graph.digest,
                file: &examine::graph_file(&folder, graph),
                refusals: refusals(graph),
                inputs: if recorded.is_empty() { made_up() } else { recorded },
            };
            contest.decide(&runtime, &handle)
        };
        Ok(tokio::task::spawn_blocking(move || graphs.iter().map(decide).collect()).await?)
    }

    /// Stores and records a prepared version, or finds the one that exists, and deploys it if asked to.
    pub(crate) async fn admit(
        self: Arc<Self>,
        model: ModelName,
        digest: Digest,
        staged: Option<Staged>,
        options: UploadOptions,
    ) -> Result<UploadOutcome, Error> {
        let live = self.live.get_or_add(&model);
        let _changing = live.changing.lock().await;
        let (version, created) = match staged {
            Some(staged) => self.store(&model, staged).await?,
            None => (self.existing_version(&model, &digest).ok_or_else(deleted_meanwhile)?, false),
        };
        live.set_record(self.read_record(&model).await?);
        let mut generation = live.state().record.as_ref().map_or(0, |record| record.generation);
        let mut deployed = None;
        if options.deploy && !self.is_deployed(&model, version.number) {
            let author = Authorship { by: options.by, comment: options.comment };
            let traffic = vec![TrafficShare::all(version.number)];
            let (revision, now) = self.deploy_locked(&live, traffic, author, None).await?;
            generation = now;
            deployed = Some(revision);
        }
        Ok(UploadOutcome { created, version, deployed, generation })
    }

    async fn store(&self, model: &ModelName, staged: Staged) -> Result<(Version, bool), Error> {
        let key = self.loader.runtime.compilation_key().to_owned();
        let registry = self.loader.registry.clone();
        let model = model.clone();
        let stored = move || match staged {
            Staged::Prepared(prepared) => store_files_and_record(&registry, &key, &model, *prepared),
            Staged::Twin(version) => record_twin(&registry, &model, *version),
            Staged::Ensemble(version) => store_ensemble_and_record(&registry, &model, *version),
        };
        tokio::task::spawn_blocking(stored).await?
    }
}

fn check_size(bytes: u64, limit: u64) -> Result<(), Error> {
    if bytes > limit {
        return Err(Error::new(ErrorCode::TooLarge, format!("a component may have at most {limit} bytes")));
    }
    Ok(())
}

fn deleted_meanwhile() -> Error {
    Error::new(
        ErrorCode::Conflict,
        "the existing version of these bytes was deleted in the meantime: upload it again",
    )
}

/// The engines that refused a graph while it was examined, and why.
fn refusals(graph: &ExaminedGraph) -> Vec<(EngineName, String)> {
    let verdicts = graph.engines.iter();
    verdicts.filter_map(|verdict| Some((verdict.engine, verdict.error.clone()?))).collect()
}

/// The engines compete only after the plugin has said what it computes on one of them.
fn graphs_aside(runtime: &Runtime, folder: &Path, examined: &Examination) -> Result<Graphs, Error> {
    let load = |graph: &ExaminedGraph| {
        let name = &graph.description.name;
        let path = examine::graph_file(folder, graph);
        let verdict = |verdict: &EngineVerdict| (verdict.engine, verdict.outcome());
        let graph = WantedGraph {
            name: name.clone(),
            digest: graph.digest,
            path,
            first: None,
            others: graph.engines.iter().map(verdict).collect(),
        };
        Ok((name.clone(), graph.load(runtime)?))
    };
    examined.graphs.iter().map(load).collect()
}

/// A version of another model, as one that is to be added.
fn twin_of(version: Version, uploaded_by: Option<String>) -> NewVersion {
    let Version {
        digest,
        size_bytes,
        signature,
        graphs,
        samples,
        capabilities,
        metadata,
        compiled_size_bytes,
        ensemble,
        ..
    } = version;
    NewVersion {
        digest,
        size_bytes,
        uploaded_by,
        signature,
        graphs,
        samples,
        capabilities,
        metadata,
        compiled_size_bytes,
        ensemble,
    }
}

/// Records a version whose files are there, and must stay there meanwhile.
fn record_twin(
    registry: &Registry,
    model: &ModelName,
    version: NewVersion,
) -> Result<(Version, bool), Error> {
    let digests = std::iter::once(version.digest).chain(version.graphs.iter().map(|graph| graph.digest));
    let reservations: Option<Vec<_>> = digests.map(|digest| registry.artifacts().reserve(&digest)).collect();
    let _reservations = reservations.ok_or_else(deleted_meanwhile)?;
    let added = registry.add_version(model, version)?;
    Ok((added.version, added.created))
}

/// Everything durable about an ensemble.
fn store_ensemble_and_record(
    registry: &Registry,
    model: &ModelName,
    version: NewVersion,
) -> Result<(Version, bool), Error> {
    let file = version
        .ensemble
        .as_ref()
        .map(|ensemble| ensemble_file(version.metadata.description.as_deref(), ensemble));
    let _reservation = file.map(|file| registry.artifacts().store_ensemble(&file)).transpose()?;
    let added = registry.add_version(model, version)?;
    Ok((added.version, added.created))
}

/// Everything durable about an upload: its files first, then the record that names them.
fn store_files_and_record(
    registry: &Registry,
    compilation_key: &str,
    model: &ModelName,
    prepared: Prepared,
) -> Result<(Version, bool), Error> {
    let artifacts = registry.artifacts();
    let digest = prepared.version.digest;
    // Reservations keep the files until the record refers to them.
    let mut reservations = Vec::with_capacity(2 + prepared.graphs.len());
    for (graph, path) in &prepared.graphs {
        let bytes = std::fs::read(path).map_err(Error::internal)?;
        reservations.push(artifacts.store_graph(&bytes, graph)?);
    }
    reservations.push(artifacts.store_compiled(compilation_key, &digest, prepared.compiled)?);
    reservations.push(artifacts.store_component(prepared.component, &digest)?);
    let added = registry.add_version(model, prepared.version)?;
    drop(reservations);
    Ok((added.version, added.created))
}
