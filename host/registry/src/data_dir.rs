//! The folder in which everything is kept: its layout, and the lock that keeps other processes out.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::durable;
use crate::error::{IoContext as _, RegistryError};

/// A data folder that this process alone uses, until this value is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    /// Held, never read: the operating system gives the lock up when the file is closed, however the process ends.
    _lock: File,
}

impl DataDir {
    /// Makes the folder where it is missing, with all that belongs in it, and locks it.
    pub(crate) fn open(root: &Path) -> Result<DataDir, RegistryError> {
        durable::create_dir(root)?;
        let root = root.canonicalize().when("open", root)?;
        let lock = lock(&root)?;
        let data = DataDir { root, _lock: lock };
        for folder in [
            data.components(),
            data.ensembles(),
            data.graphs(),
            data.compiled(),
            data.manifests(),
            data.staging(),
        ] {
            durable::create_dir(&folder)?;
        }
        Ok(data)
    }

    /// Locks a folder that is there.
    pub(crate) fn open_existing(root: &Path) -> Result<DataDir, RegistryError> {
        DataDir::open(&root.canonicalize().when("open", root)?)
    }

    /// Removes what an interrupted process left behind while writing.
    pub(crate) fn empty_staging(&self) -> Result<(), RegistryError> {
        let staging = self.staging();
        for (name, is_dir) in durable::list(&staging)? {
            let path = staging.join(name);
            let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.when("remove", &path)?;
        }
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("registry")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal.jsonl")
    }

    pub(crate) fn components(&self) -> PathBuf {
        self.root.join("artifacts/components")
    }

    pub(crate) fn ensembles(&self) -> PathBuf {
        self.root.join("artifacts/ensembles")
    }

    pub(crate) fn graphs(&self) -> PathBuf {
        self.root.join("artifacts/graphs")
    }

    pub(crate) fn compiled(&self) -> PathBuf {
        self.root.join("artifacts/compiled")
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.root.join("artifacts/manifests")
    }

    /// There from a rebuild that changed the journal until whoever has files beside records has looked at them.
    pub(crate) fn rebuilt_mark(&self) -> PathBuf {
        self.root.join("journal-was-rebuilt")
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }
}

fn lock(root: &Path) -> Result<File, RegistryError> {
    let path = root.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).when("open", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RegistryError::InUse { path: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(RegistryError::Io { doing: "lock", path, source }),
    }
}
