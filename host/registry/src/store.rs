//! sled, and the only module that knows it: opening, reading, committing, flushing.
//!
//! Facts about sled 0.34.7 that shape it: a panic is one of the ways in which it reports a damaged file;
//! reads wait for a transaction but not for a flush; a flush is no barrier against loss of power on Linux;
//! its background thread syncs twice a second and gives back space.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sled::transaction::{ConflictableTransactionError, TransactionError};

use crate::data_dir::DataDir;
use crate::durable;
use crate::error::{IoContext as _, RegistryError};
use crate::records::{self, Records, Replica, Write};

/// Records are small and few; sled's default of one GiB is for others.
const CACHE_BYTES: u64 = 64 << 20;
/// Where the layout's number is found, whatever the layout.
const SCHEMA_KEY: &[u8] = b"schema";
const SCHEMA: u64 = 1;
/// A store that was just dropped gives its lock up when its last thread ends.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
struct Schema {
    schema: u64,
}

/// The open store.
pub(crate) struct Store {
    db: sled::Db,
}

impl Store {
    /// Opens the store, or makes an empty one where there is none.
    pub(crate) fn open_or_create(data: &DataDir) -> Result<Store, RegistryError> {
        let path = data.store();
        if !path.exists() {
            create(data, &path)?;
        }
        Store::open(&path)
    }

    /// Opens a store that is there.
    pub(crate) fn open(path: &Path) -> Result<Store, RegistryError> {
        let store = Store { db: open_db(path)? };
        store.check_schema()?;
        Ok(store)
    }

    fn check_schema(&self) -> Result<(), RegistryError> {
        match self.get::<Schema>(SCHEMA_KEY)? {
            Some(Schema { schema: SCHEMA }) => Ok(()),
            Some(Schema { schema }) => {
                Err(RegistryError::NewerFormat { what: "the registry".into(), found: schema, known: SCHEMA })
            }
            None => Err(RegistryError::Corrupt("the registry's store has lost its contents".into())),
        }
    }

    /// The record of this key.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, RegistryError> {
        let bytes = self.db.get(key).map_err(failed("read"))?;
        bytes.map(|bytes| records::decode(key, &bytes)).transpose()
    }

    /// All records whose keys begin so, in the order of their keys.
    pub(crate) fn scan<T: DeserializeOwned>(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, T), RegistryError>> {
        self.db.scan_prefix(prefix).map(|record| {
            let (key, bytes) = record.map_err(failed("read"))?;
            let value = records::decode(&key, &bytes)?;
            Ok((key.to_vec(), value))
        })
    }

    /// Makes all of these writes, or none, visible at once.
    pub(crate) fn commit(&self, writes: &[Write]) -> Result<(), RegistryError> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        self.db
            .transaction(|tree| {
                tree.apply_batch(&batch).map_err(ConflictableTransactionError::<sled::Error>::from)
            })
            .map_err(|error| match error {
                TransactionError::Abort(error) | TransactionError::Storage(error) => failed("write")(error),
            })
    }

    /// Hands everything committed to the disk.
    pub(crate) fn flush(&self) -> Result<(), RegistryError> {
        self.db.flush().map(|_| ()).map_err(failed("flush"))
    }

    /// Everything but the layout's number.
    pub(crate) fn dump(&self) -> Result<Replica, RegistryError> {
        let records = self.db.iter().filter(|record| !matches!(record, Ok((key, _)) if key == SCHEMA_KEY));
        records
            .map(|record| record.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(failed("read")))
            .collect()
    }
}

impl Records for &Store {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RegistryError> {
        Ok(self.db.get(key).map_err(failed("read"))?.map(|bytes| bytes.to_vec()))
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), RegistryError> {
        self.commit(writes)
    }
}

/// Aside, then renamed: a half-made store never has the store's name.
fn create(data: &DataDir, path: &Path) -> Result<(), RegistryError> {
    let aside = data.staging().join("registry");
    let store = Store { db: open_db(&aside)? };
    store.commit(&[(SCHEMA_KEY.to_vec(), Some(records::encode(&Schema { schema: SCHEMA })))])?;
    store.flush()?;
    drop(store);
    fs::rename(&aside, path).when("rename the new store to", path)?;
    durable::sync_dir(data.root())
}

fn open_db(path: &Path) -> Result<sled::Db, RegistryError> {
    let started = Instant::now();
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
    loop {
        // Nothing of a database that panicked while it opened is used again.
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => return Ok(db),
            // The data folder's own lock keeps other processes out, so this is an earlier store of this one.
            Ok(Err(error)) if is_locked(&error) && started.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(Err(sled::Error::Io(source))) => return Err(source).when("open", path),
            Ok(Err(error)) => {
                return Err(RegistryError::Corrupt(format!(
                    "the registry's store cannot be opened: {error}"
                )));
            }
            Err(_panic) => {
                return Err(RegistryError::Corrupt("the registry's store cannot be opened".into()));
            }
        }
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

fn failed(doing: &'static str) -> impl Fn(sled::Error) -> RegistryError {
    move |error| match error {
        // A disk that is full is told apart from other failures.
        sled::Error::Io(source) => RegistryError::Storage { doing, source: Box::new(source) },
        error => RegistryError::Storage { doing, source: Box::new(error) },
    }
}
