//! Datasets: named, versioned, immutable tables, in files that lie in the data folder under their digests or stay in
//! an object store. It knows nothing of jobs, models or schedules; whoever needs a version holds it.
//!
//! # On the disk
//!
//! Records are in the registry. `datasets/<hex>.<parquet|csv|jsonl>` in the data folder are the files, named by their
//! SHA-256 digests, shared by the versions that have the same ones. A version is made in this order: its files, checked
//! and fsynced, get their places; then its record is written. A file that no record names was left by an interruption,
//! or by a version that was deleted, and is removed: at once, or at the next start. After a rebuild of the journal it is
//! set aside instead.

mod card;
mod catalogue;
mod check;
mod explore;
mod holds;
mod inspect;
mod inspector;
mod intake;
mod object_stores;
mod publish;
mod query;
mod reference;
mod registration;
mod schema;
mod store;
mod version;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionContext;
use modelhost_core::{DatasetName, Digest, ErrorCode, VersionNumber};
use modelhost_registry::Registry;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Semaphore;

pub use card::{DatasetCard, InvalidCard};
pub use check::{DatasetCheck, check_datasets};
pub use explore::{ColumnProfile, MAX_PREVIEW_ROWS, Profile, Quantile, TopValue};
pub use holds::Hold;
pub use inspect::process::run_inspection;
pub use inspector::SUBCOMMAND as INSPECT_SUBCOMMAND;
pub use intake::{Intake, IntakeOptions};
pub use publish::{NewFile, NewVersion, Origin, Published};
pub use reference::{DatasetReference, InvalidReference};
pub use schema::{Column, DatasetSchema};
pub use version::{DataFile, DataFormat, DatasetVersion, FileLocation, Lineage};

use self::catalogue::Catalogue;
use self::holds::Holds;
use self::inspector::Inspector;
use self::object_stores::ObjectStores;
pub(crate) use self::store::Changed;
use self::store::{DatasetStore, Pin};
use crate::Error;
use crate::leftovers::Leftovers;
use crate::settings::BatchSettings;
use crate::work::Work;

/// Where the files are, in the data folder.
const FOLDER: &str = "datasets";
const CONCURRENT_PROFILES: usize = 2;
const CONCURRENT_PREVIEWS: usize = 4;

/// All datasets of one data folder.
pub struct Datasets {
    shared: Arc<Shared>,
    settings: BatchSettings,
    environment: Arc<RuntimeEnv>,
    work: Work,
    /// Profiles read everything: few at a time.
    profiles: Semaphore,
    /// A preview holds some of the longest rows.
    previews: Semaphore,
    inspector: Inspector,
}

/// What tasks that outlive their caller need too.
struct Shared {
    catalogue: Catalogue,
    holds: Holds,
    /// Held while versions are made or deleted.
    changing: Mutex<()>,
    /// Where the files are.
    folder: PathBuf,
    /// Where files are before that; emptied at every start.
    staging: PathBuf,
    /// The same folder for DataFusion.
    local: Arc<dyn ObjectStore>,
    remote: ObjectStores,
    store: Arc<DatasetStore>,
}

/// A file of a version, to be read.
#[derive(Clone, Debug)]
pub struct OpenFile {
    /// The store that reads it, and notices if it was replaced.
    pub store: Arc<dyn ObjectStore>,
    /// Where it is there.
    pub path: ObjectPath,
    /// What is recorded about it.
    pub file: DataFile,
}

impl Datasets {
    /// Opens what the data folder holds and removes files that no version has. `executable` is the `modelhost` binary
    /// that looks into files.
    pub(crate) async fn open(
        registry: Arc<Registry>,
        settings: &BatchSettings,
        executable: &Path,
        leftovers: &Leftovers,
        work: Work,
    ) -> Result<Arc<Datasets>, Error> {
        settings.check().map_err(|error| Error::new(ErrorCode::InvalidArgument, error.to_string()))?;
        let (settings, given, leftovers) = (settings.clone(), settings.clone(), leftovers.clone());
        let shared = Arc::new(work.block(move || Shared::open(registry, &given, &leftovers)).await?);
        let environment = query::environment(&settings, &shared.staging, shared.store.clone());
        let environment = environment.map_err(Error::internal)?;
        let inspector = Inspector::new(executable.to_owned(), shared.staging.clone(), &settings);
        Ok(Arc::new(Datasets {
            shared,
            settings,
            environment,
            work,
            profiles: Semaphore::new(CONCURRENT_PROFILES),
            previews: Semaphore::new(CONCURRENT_PREVIEWS),
            inspector,
        }))
    }

    /// The version that a reference names now. Blocks for a moment, on memory as a rule.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub fn resolve(&self, reference: &DatasetReference) -> Result<DatasetVersion, Error> {
        self.shared.catalogue.resolve(reference)
    }

    /// All versions of all datasets, by name, the oldest first. Those with records that cannot be read are left out.
    ///
    /// # Errors
    /// Failures of the registry.
    pub fn all(&self) -> Result<BTreeMap<DatasetName, Vec<DatasetVersion>>, Error> {
        Ok(self.shared.catalogue.all()?.by_name)
    }

    /// The versions of a dataset, the oldest first.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub fn versions(&self, name: &DatasetName) -> Result<Vec<DatasetVersion>, Error> {
        let versions = self.shared.catalogue.versions(name)?;
        if versions.is_empty() {
            return Err(Error::new(ErrorCode::NotFound, format!("dataset \"{name}\" does not exist")));
        }
        Ok(versions)
    }

    /// Keeps a version from being deleted for as long as the answer lives. `holder` says who needs it in the sentence that
    /// a deletion is refused with, such as `job 7`.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] where it was deleted already, [`ErrorCode::Conflict`] where it is being deleted.
    pub fn hold(&self, version: &DatasetVersion, holder: &str) -> Result<Hold, Error> {
        let hold = self.shared.holds.hold(&version.name, version.number, holder);
        let hold = hold.ok_or_else(|| {
            let (number, name) = (version.number, &version.name);
            let sentence = format!("version {number} of dataset \"{name}\" is being deleted");
            Error::new(ErrorCode::Conflict, sentence)
        })?;
        // First held, then looked for: it may have been deleted before.
        self.resolve(&version.reference())?;
        Ok(hold)
    }

    /// Deletes a version, and the files that no other has.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; [`ErrorCode::Conflict`] while somebody needs it; failures of the disk.
    pub async fn delete(&self, name: DatasetName, number: VersionNumber) -> Result<(), Error> {
        let shared = self.shared.clone();
        self.work.block(move || shared.delete(&name, number)).await
    }

    /// A session for one query, within the memory that all queries share. Identifiers are taken as they are written.
    pub fn session(&self) -> SessionContext {
        query::session(self.environment.clone())
    }

    /// A version as a table. Hold the version while it is read.
    ///
    /// # Errors
    /// An object store that cannot be reached as it is configured.
    pub fn table_provider(&self, version: &DatasetVersion) -> Result<Arc<dyn TableProvider>, Error> {
        self.shared.pin(version)?;
        query::table(version, &folder_of(version)).map_err(Error::internal)
    }

    /// The files of a version, in their order, each to be read by itself. Hold the version while they are read.
    ///
    /// # Errors
    /// An object store that cannot be reached as it is configured.
    pub fn files(&self, version: &DatasetVersion) -> Result<Vec<OpenFile>, Error> {
        self.shared.pin(version)?;
        let open = |(path, file): (ObjectPath, &DataFile)| OpenFile {
            store: self.shared.store.clone(),
            path,
            file: file.clone(),
        };
        Ok(paths_of(version).into_iter().zip(&version.files).map(open).collect())
    }

    /// A folder for files that are being made, on the disk on which they will stay. Removed when it is dropped, and at
    /// the next start: work that goes on after a restart keeps its files elsewhere in the data folder.
    ///
    /// # Errors
    /// Failures of the disk.
    pub fn staging_folder(&self) -> Result<TempDir, Error> {
        Ok(tempfile::tempdir_in(&self.shared.staging)?)
    }
}

impl Shared {
    fn open(
        registry: Arc<Registry>,
        settings: &BatchSettings,
        leftovers: &Leftovers,
    ) -> Result<Shared, Error> {
        let folder = registry.folder(FOLDER)?;
        let staging = registry.folder("staging")?;
        let local = LocalFileSystem::new_with_prefix(&folder).map_err(Error::internal)?;
        let shared = Shared {
            catalogue: Catalogue::new(registry),
            holds: Holds::default(),
            changing: Mutex::default(),
            folder,
            staging,
            local: Arc::new(local),
            remote: ObjectStores::new(settings),
            store: Arc::default(),
        };
        shared.sweep_as(leftovers)?;
        Ok(shared)
    }

    fn delete(&self, name: &DatasetName, number: VersionNumber) -> Result<(), Error> {
        let _changing = self.changing.lock();
        let version = self.catalogue.resolve(&DatasetReference::exact(name.clone(), number))?;
        let _deletion = self.holds.begin_delete(name, number).map_err(|holders| {
            let holders = holders.join(", ");
            let message = format!("version {number} of dataset \"{name}\" is needed by {holders}");
            Error::new(ErrorCode::Conflict, message)
        })?;
        self.catalogue.delete(name, number)?;
        self.store.unpin(&paths_of(&version));
        self.sweep()
    }

    /// Removes the files that no version has.
    fn sweep(&self) -> Result<(), Error> {
        self.sweep_as(&Leftovers::Removed)
    }

    fn sweep_as(&self, leftovers: &Leftovers) -> Result<(), Error> {
        let all = self.catalogue.all()?;
        if !all.is_complete {
            tracing::warn!(
                "no file of a dataset is removed: which ones a record names that cannot be read is not known"
            );
            return Ok(());
        }
        let files = all.by_name.values().flatten().flat_map(|version| {
            version.files.iter().filter_map(|file| match &file.location {
                FileLocation::Stored { digest } => Some(self.stored_path(digest, version.format)),
                FileLocation::Registered { .. } => None,
            })
        });
        let needed: HashSet<PathBuf> = files.collect();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !needed.contains(&path) {
                leftovers.clear(&path);
            }
        }
        Ok(())
    }

    fn stored_path(&self, digest: &Digest, format: DataFormat) -> PathBuf {
        self.folder.join(stored_name(digest, format))
    }

    /// Makes the files of a version known to the store.
    fn pin(&self, version: &DatasetVersion) -> Result<(), Error> {
        for (path, file) in paths_of(version).into_iter().zip(&version.files) {
            if self.store.is_pinned(&path) {
                continue;
            }
            let pin = match &file.location {
                FileLocation::Stored { digest } => Pin {
                    store: self.local.clone(),
                    path: ObjectPath::from(stored_name(digest, version.format)),
                    bytes: file.bytes,
                    etag: None,
                },
                FileLocation::Registered { url, etag } => {
                    let (store, path) = self.remote.open(url)?;
                    Pin { store, path, bytes: file.bytes, etag: Some(etag.clone()) }
                }
            };
            self.store.pin(path, pin);
        }
        Ok(())
    }
}

fn stored_name(digest: &Digest, format: DataFormat) -> String {
    format!("{}.{}", digest.hex(), format.extension())
}

/// Where the files of a version are in the store of all datasets.
fn folder_of(version: &DatasetVersion) -> String {
    format!("{}/{}", version.name, version.number)
}

/// Paths that sort as the files do.
fn paths_of(version: &DatasetVersion) -> Vec<ObjectPath> {
    let folder = folder_of(version);
    let path = |index| ObjectPath::from(format!("{folder}/{index:08}.{}", version.format.extension()));
    (0..version.files.len()).map(path).collect()
}

#[cfg(test)]
mod tests;
