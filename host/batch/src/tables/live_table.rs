//! A table in memory: which version answers, swapped as a whole. Readers take one atomic load and never wait; who reads
//! goes on with the version that it began with.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use modelhost_core::{ErrorCode, TableName, VersionNumber};
use parking_lot::Mutex;

use super::file::{Damaged, TableFile};
use super::settings::{Table, TableSettings, TableVersion};
use crate::Error;
use crate::datasets::Hold;

/// All tables, by name.
#[derive(Default)]
pub(super) struct LiveTables {
    tables: ArcSwap<HashMap<TableName, Arc<LiveTable>>>,
    /// Held while the map is replaced.
    replacing: Mutex<()>,
}

/// One table.
pub(super) struct LiveTable {
    state: ArcSwap<State>,
    /// Changes of one table come one after the other.
    pub(super) changing: tokio::sync::Mutex<()>,
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

/// The version that answers. Its file is opened by the first who reads it.
pub(super) struct OpenVersion {
    pub(super) version: TableVersion,
    path: PathBuf,
    file: OnceLock<Result<TableFile, Damaged>>,
}

/// A version that is read, under the settings of its table.
#[derive(Clone)]
pub(super) struct Snapshot {
    state: Arc<State>,
    open: Arc<OpenVersion>,
}

impl LiveTables {
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
        let live = LiveTable { state: ArcSwap::from_pointee(state), changing: tokio::sync::Mutex::new(()) };
        self.replace(|tables| {
            tables.insert(name, Arc::new(live));
        });
    }

    pub(super) fn remove(&self, name: &TableName) {
        self.replace(|tables| {
            tables.remove(name);
        });
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

impl OpenVersion {
    pub(super) fn new(version: TableVersion, path: PathBuf) -> OpenVersion {
        OpenVersion { version, path, file: OnceLock::new() }
    }

    /// The rows, which are opened if need be.
    ///
    /// # Errors
    /// A file that is not what was written.
    pub(super) fn file(&self) -> Result<&TableFile, Damaged> {
        let TableVersion { bytes, checksum, .. } = self.version;
        let open = || TableFile::open(&self.path, bytes, checksum);
        self.file.get_or_init(open).as_ref().map_err(Clone::clone)
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

    /// How old the predictions are now.
    pub(super) fn age(&self) -> Duration {
        // None at all for those of a clock that went wrong.
        Timestamp::now().duration_since(self.version().predicted).try_into().unwrap_or_default()
    }

    /// Whether predictions of this age are older than they may be.
    pub(super) fn is_stale(&self, age: Duration) -> bool {
        self.settings().max_age_seconds.is_some_and(|limit| age >= Duration::from_secs(limit.get()))
    }

    /// What a client is told of a file that is not what was written; the log says more.
    pub(super) fn damaged(&self, damaged: &Damaged) -> Error {
        let (table, version) = (self.name(), self.version().number);
        tracing::error!(%table, %version, %damaged, "a table cannot be read");
        let sentence =
            format!("version {version} of table {table} cannot be read: roll back, or publish it again");
        Error::new(ErrorCode::Unavailable, sentence)
    }
}

pub(super) fn unknown_table(name: &TableName) -> Error {
    Error::new(ErrorCode::NotFound, format!("prediction table {name} is not known"))
}
