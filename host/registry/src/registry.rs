//! The registry: opening it and reading from it. What changes it is in `changes`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use modelhost_core::{ModelName, VersionNumber};
use parking_lot::Mutex;

use crate::artifacts::Artifacts;
use crate::check::{self, CheckReport};
use crate::data_dir::DataDir;
use crate::durable;
use crate::error::{IoContext as _, RegistryError};
use crate::journal::Journal;
use crate::model::{Model, Revision, Version};
use crate::rebuild::{self, RebuildReport};
use crate::records::{self, Head};
use crate::recovery::{self, is_visible};
use crate::replay;
use crate::store::Store;

/// All models of one data folder. Share it in an [`Arc`]; every call blocks.
pub struct Registry {
    pub(crate) store: Store,
    pub(crate) artifacts: Artifacts,
    /// Held for the whole of a change, so that changes are made one after the other.
    pub(crate) writer: Mutex<Writer>,
    /// Last, so that the folder stays locked until the store is closed.
    pub(crate) data: Arc<DataDir>,
}

/// What only one change at a time may use.
pub(crate) struct Writer {
    pub(crate) journal: Journal,
    pub(crate) next_sequence: u64,
}

impl Registry {
    /// Opens the registry of a data folder, which is made if it is missing. Finishes or discards what an earlier
    /// process left half-done, and removes files that no version needs.
    ///
    /// # Errors
    /// [`RegistryError::InUse`] where another process has it open, [`RegistryError::Corrupt`] where files
    /// contradict each other, [`RegistryError::NewerFormat`], and failures of the disk.
    pub fn open(data_dir: &Path) -> Result<Registry, RegistryError> {
        Registry::open_locked(DataDir::open(data_dir)?)
    }

    pub(crate) fn open_locked(data: DataDir) -> Result<Registry, RegistryError> {
        // Before anything else: a half-made store is in there.
        data.empty_staging()?;
        let data = Arc::new(data);
        let recovered = recovery::recover(&data)?;
        let artifacts = Artifacts::new(Arc::clone(&data));
        recovery::sweep(&data, &recovered.store, &artifacts)?;
        let writer = Writer { journal: recovered.journal, next_sequence: recovered.next_sequence };
        Ok(Registry { store: recovered.store, artifacts, writer: Mutex::new(writer), data })
    }

    /// Compares store, journal, manifests and artifacts with each other and changes nothing. Reads every artifact.
    ///
    /// # Errors
    /// [`RegistryError::InUse`], a folder that is not there, and failures of the disk. What is wrong with the contents is in
    /// the report.
    pub fn check(data_dir: &Path) -> Result<CheckReport, RegistryError> {
        check::check(&DataDir::open_existing(data_dir)?)
    }

    /// Makes the store anew from the journal, and from the manifests where the journal is damaged. The old store, and a
    /// damaged journal, are moved aside, not removed.
    ///
    /// # Errors
    /// [`RegistryError::InUse`], a folder that is not there, [`RegistryError::NewerFormat`], and failures of the disk.
    pub fn rebuild(data_dir: &Path) -> Result<RebuildReport, RegistryError> {
        rebuild::rebuild(DataDir::open_existing(data_dir)?)
    }

    /// Whether a change failed in a way that leaves open whether it is on the disk: none is accepted any more, and
    /// whatever the failed one needs has to stay until the next start, which can tell.
    pub fn is_stopped(&self) -> bool {
        self.writer.lock().journal.is_stopped()
    }

    /// Whether the journal was rebuilt since [`Registry::forget_rebuild`] was called: files that no record names may be
    /// those of records that it has lost.
    pub fn was_rebuilt(&self) -> bool {
        self.data.rebuilt_mark().exists()
    }

    /// Called when such files are safe.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub fn forget_rebuild(&self) -> Result<(), RegistryError> {
        let mark = self.data.rebuilt_mark();
        durable::remove(&mark).when("remove", &mark)?;
        durable::sync_dir(self.data.root())
    }

    /// The files.
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// The folder of this name in the data folder, for the files of records. Made where it is missing; nothing in it is
    /// touched here.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub fn folder(&self, name: &str) -> Result<PathBuf, RegistryError> {
        let path = self.data.root().join(name);
        durable::create_dir(&path)?;
        Ok(path)
    }

    /// All models that have a version, by name.
    ///
    /// # Errors
    /// Failures of the store.
    pub fn models(&self) -> Result<Vec<Model>, RegistryError> {
        let mut models = Vec::new();
        for record in self.store.scan::<Head>(records::MODELS) {
            let (key, _) = record?;
            models.extend(self.model(&records::model_of(&key)?)?);
        }
        Ok(models)
    }

    /// A model as it is now; none where it does not exist or has no version.
    ///
    /// # Errors
    /// Failures of the store.
    pub fn model(&self, name: &ModelName) -> Result<Option<Model>, RegistryError> {
        loop {
            let Some(head) = self.head(name)?.filter(is_visible) else { return Ok(None) };
            let generation = head.generation;
            if let Some(model) = self.assemble(name, head)? {
                return Ok(Some(model));
            }
            // A version was deleted after the head was read: the next head does not name it.
            if self.head(name)?.is_some_and(|head| head.generation == generation) {
                return Err(RegistryError::Corrupt(format!("a version of model {name} has lost its record")));
            }
        }
    }

    fn assemble(&self, name: &ModelName, head: Head) -> Result<Option<Model>, RegistryError> {
        let versions: Option<Vec<Version>> = head
            .versions
            .keys()
            .map(|number| self.version_record(name, *number))
            .collect::<Result<_, _>>()?;
        Ok(versions.map(|versions| Model {
            name: name.clone(),
            generation: head.generation,
            versions,
            aliases: head.aliases,
            deployment: head.deployment,
            configuration: head.configuration,
            next_version: head.next_version,
        }))
    }

    /// All revisions of a model's deployment, the oldest first.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] for a model that never existed, and failures of the store.
    pub fn revisions(&self, model: &ModelName) -> Result<Vec<Revision>, RegistryError> {
        if self.head(model)?.is_none() {
            return Err(no_model(model));
        }
        let prefix = records::revisions_of(model);
        let records = self.store.scan::<Revision>(&prefix);
        records.map(|record| record.map(|(_, revision)| revision)).collect()
    }

    pub(crate) fn head(&self, model: &ModelName) -> Result<Option<Head>, RegistryError> {
        replay::head(&&self.store, model)
    }

    pub(crate) fn version_record(
        &self,
        model: &ModelName,
        number: VersionNumber,
    ) -> Result<Option<Version>, RegistryError> {
        self.store.get(&records::version_key(model, number))
    }
}

pub(crate) fn no_model(model: &ModelName) -> RegistryError {
    RegistryError::NotFound { what: format!("model \"{model}\"") }
}

pub(crate) fn no_version(model: &ModelName, number: VersionNumber) -> RegistryError {
    RegistryError::NotFound { what: format!("version {number} of model \"{model}\"") }
}
