//! A table in memory: which version answers, swapped as a whole. Readers take one atomic load and never wait; who reads
//! goes on with the version that it began with.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use modelhost_core::{ErrorCode, TableKey, TableName, VersionNumber};
use parking_lot::Mutex;

use super::file::{Damaged, TableFile};
use super::metrics::{Counts, Metrics};
use super::settings::{Table, TableSettings, TableVersion};
use crate::Error;
use crate::datasets::Hold;

/// All tables, by name.
pub(super) struct LiveTables {
    pub(super) metrics: Metrics,
    tables: ArcSwap<HashMap<TableName, Arc<LiveTable>>>,
    /// Held while the map is replaced.
    replacing: Mutex<()>,
}

/// One table.
pub(super) struct LiveTable {
    state: ArcSwap<State>,
    /// Changes of one table come one after the other. See [`Tables::locked`](super::Tables::locked).
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    /// Held from the start of a publication to its end, so that they take effect in the order in which they were asked for.
    pub(super) publishing: tokio::sync::Mutex<()>,
    /// How lookups in it ended.
    pub(super) counts: Counts,
}

/// What is true of a table at one moment.
pub(super) struct State {
    pub(super) table: Table,
    /// Of its record.
    pub(super) generation: u64,
    pub(super) current: Option<Arc<OpenVersion>>,
    /// What its versions were made of is not deleted as long as they are there.
    pub(super) holds: Holds,
}

/// The datasets of versions.
pub(super) type Holds = BTreeMap<VersionNumber, Arc<Hold>>;

/// The version that answers. Its file is opened by the first who reads it; where that fails, by the next one again: the
/// disk may only have been busy, or the file come back.
pub(super) struct OpenVersion {
    pub(super) version: TableVersion,
    path: PathBuf,
    file: OnceLock<TableFile>,
    /// So that the log has one line of it, not one for each lookup.
    is_reported: AtomicBool,
}

/// A version that is read, under the settings of its table.
#[derive(Clone)]
pub(super) struct Snapshot {
    state: Arc<State>,
    open: Arc<OpenVersion>,
}

impl LiveTables {
    pub(super) fn new(metrics: Metrics) -> LiveTables {
        LiveTables { metrics, tables: ArcSwap::default(), replacing: Mutex::new(()) }
    }

    pub(super) fn get(&self, name: &TableName) -> Option<Arc<LiveTable>> {
        self.tables.load().get(name).cloned()
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<Arc<LiveTable>> {
        let mut tables: Vec<_> = self.tables.load().values().cloned().collect();
        tables.sort_by(|one, other| one.state().table.name.cmp(&other.state().table.name));
        tables
    }

    /// Shows a table. Whoever changes it holds what its name is changed under.
    pub(super) fn set(&self, state: State) {
        let name = state.table.name.clone();
        if let Some(live) = self.get(&name) {
            live.state.store(Arc::new(state));
            return;
        }
        let live = LiveTable {
            state: ArcSwap::from_pointee(state),
            changing: Arc::default(),
            publishing: tokio::sync::Mutex::default(),
            counts: self.metrics.counts(&name),
        };
        self.replace(|tables| {
            tables.insert(name, Arc::new(live));
        });
    }

    pub(super) fn remove(&self, name: &TableName) {
        self.replace(|tables| {
            tables.remove(name);
        });
        self.metrics.forget(name);
    }

    fn replace(&self, change: impl FnOnce(&mut HashMap<TableName, Arc<LiveTable>>)) {
        let _replacing = self.replacing.lock();
        let mut tables = HashMap::clone(&self.tables.load());
        change(&mut tables);
        self.tables.store(Arc::new(tables));
    }

    /// The version of a table that answers now.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] where there is no such table or nothing was published to it.
    pub(super) fn snapshot(&self, name: &TableName) -> Result<Snapshot, Error> {
        let live = self.get(name).ok_or_else(|| unknown_table(name))?;
        Snapshot::new(live.state())
    }
}

impl LiveTable {
    pub(super) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }
}

impl State {
    /// What is recorded of the version that answers.
    pub(super) fn version(&self) -> Option<&TableVersion> {
        self.current.as_ref().map(|open| &open.version)
    }
}

impl OpenVersion {
    pub(super) fn new(version: TableVersion, path: PathBuf) -> OpenVersion {
        OpenVersion { version, path, file: OnceLock::new(), is_reported: AtomicBool::new(false) }
    }

    /// The rows, which are opened if need be: this may wait for the disk.
    ///
    /// # Errors
    /// A file that is not what was written.
    pub(super) fn file(&self) -> Result<&TableFile, Damaged> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let opened = TableFile::open(&self.path, self.version.bytes, self.version.checksum)?;
        Ok(self.file.get_or_init(|| opened))
    }

    /// Opens the file and reads all of it.
    ///
    /// # Errors
    /// A file that is not what was written, somewhere.
    pub(super) fn verify(&self) -> Result<(), Damaged> {
        self.file()?.verify()
    }

    /// What a client is told of a file that is not what was written; the log says more, once.
    pub(super) fn damaged(&self, table: &TableName, damaged: &Damaged) -> Error {
        let version = self.version.number;
        if !self.is_reported.swap(true, Relaxed) {
            tracing::error!(%table, %version, %damaged, "a table cannot be read");
        }
        let sentence =
            format!("version {version} of table {table} cannot be read: roll back, or publish it again");
        Error::new(ErrorCode::Unavailable, sentence)
    }
}

impl Snapshot {
    /// The version that answers in this state.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] where there is none.
    pub(super) fn new(state: Arc<State>) -> Result<Snapshot, Error> {
        let name = &state.table.name;
        let nothing =
            || Error::new(ErrorCode::NotFound, format!("nothing was published to table {name} yet"));
        let open = state.current.clone().ok_or_else(nothing)?;
        Ok(Snapshot { state, open })
    }

    pub(super) fn name(&self) -> &TableName {
        &self.state.table.name
    }

    pub(super) fn settings(&self) -> &TableSettings {
        &self.state.table.settings
    }

    pub(super) fn version(&self) -> &TableVersion {
        &self.open.version
    }

    pub(super) fn file(&self) -> Result<&TableFile, Error> {
        self.open.file().map_err(|damaged| self.damaged(&damaged))
    }

    /// Whether these keys are looked up without waiting for the disk: what they are in is open and checked.
    pub(super) fn is_at_hand(&self, keys: &[TableKey]) -> bool {
        self.open.file.get().is_some_and(|file| keys.iter().all(|key| file.is_at_hand(key)))
    }

    /// How old the predictions are now.
    pub(super) fn age(&self) -> Duration {
        // None at all for those of a clock that went wrong.
        Timestamp::now().duration_since(self.version().predicted).try_into().unwrap_or_default()
    }

    /// Whether predictions of this age are older than they may be.
    pub(super) fn is_stale(&self, age: Duration) -> bool {
        self.settings().max_age_seconds.is_some_and(|limit| age >= Duration::from_secs(limit.get()))
    }

    pub(super) fn damaged(&self, damaged: &Damaged) -> Error {
        self.open.damaged(self.name(), damaged)
    }
}

pub(super) fn unknown_table(name: &TableName) -> Error {
    Error::new(ErrorCode::NotFound, format!("prediction table {name} is not known"))
}
