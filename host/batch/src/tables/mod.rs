//! Prediction tables: what a batch job computed, found by key in microseconds.
//!
//! A table has numbered versions, each made of a version of a dataset; one of them answers. [`file`] is what a version
//! is on the disk, [`live_table`] which one answers, [`rows`] what a lookup finds, [`answer`] what a client is told, the
//! answer of a model included where the table has none. This module is the order of changes: a file is written whole and
//! opened, then the record names it, which is the moment it is published, then one pointer is swapped.
//!
//! It knows nothing of HTTP, of jobs, and of how a dataset is stored.

mod answer;
mod features;
mod file;
mod file_store;
mod json;
mod live_answer;
mod live_table;
mod publish;
mod rows;
mod settings;
mod tensors;

use std::collections::HashMap;
use std::sync::Arc;

use modelhost_core::{ErrorCode, TableKey, TableName, VersionNumber};
use modelhost_registry::{RecordKind, RecordUpdate, Registry};
use modelhost_serving::{FoundRows, LookupError, ModelHost, PredictionTables};

pub use self::answer::{Asked, MAX_KEYS, Prediction, Source};
use self::file_store::FileStore;
pub use self::live_answer::LiveRequest;
use self::live_table::{Holds, LiveTable, LiveTables, OpenVersion, Snapshot, State, unknown_table};
pub use self::settings::{
    LiveSettings, LiveVersion, Table, TableColumn, TableSettings, TableVersion, WhenStale,
};
use crate::Error;
use crate::datasets::{Datasets, Hold};
use crate::leftovers::Leftovers;
use crate::work::Work;

/// The prediction tables of a host.
pub struct Tables {
    host: Arc<ModelHost>,
    registry: Arc<Registry>,
    datasets: Arc<Datasets>,
    work: Work,
    files: FileStore,
    live: Arc<LiveTables>,
    /// Held while a table is made or deleted.
    naming: tokio::sync::Mutex<()>,
}

impl Tables {
    /// Brings back what is recorded, without opening a file of it, removes files that an interrupted publication left,
    /// and lets plugins look predictions up.
    ///
    /// # Errors
    /// A data folder that cannot be read.
    pub(crate) async fn open(
        host: Arc<ModelHost>,
        registry: Arc<Registry>,
        datasets: Arc<Datasets>,
        leftovers: &Leftovers,
        work: Work,
    ) -> Result<Arc<Tables>, Error> {
        let files = FileStore::open(&registry)?;
        let live = Arc::new(LiveTables::default());
        let naming = tokio::sync::Mutex::new(());
        let tables = Arc::new(Tables { host, registry, datasets, work, files, live, naming });
        let (restoring, leftovers) = (tables.clone(), leftovers.clone());
        tables.work.block(move || restoring.restore(&leftovers)).await?;
        tables.host.set_prediction_tables(tables.live.clone());
        Ok(tables)
    }

    fn restore(&self, leftovers: &Leftovers) -> Result<(), Error> {
        let mut kept = HashMap::new();
        for record in self.registry.records(RecordKind::PredictionTable, "")? {
            match serde_json::from_value::<Table>(record.value) {
                Ok(table) => {
                    let versions = table.versions.iter().map(|version| version.number).collect();
                    kept.insert(table.name.clone(), Some(versions));
                    let (table, generation) = self.renumbered(table, record.generation, leftovers);
                    self.show(table, generation);
                }
                Err(error) => {
                    tracing::error!(table = record.name, %error, "a prediction table is left out: its record cannot be read");
                    kept.extend(record.name.parse().ok().map(|name: TableName| (name, None)));
                }
            }
        }
        self.files.sweep(&kept, leftovers)
    }

    /// A table whose record is older than its files has lost versions: their numbers are not given out again.
    fn renumbered(&self, table: Table, generation: u64, leftovers: &Leftovers) -> (Table, u64) {
        let newest = self.files.newest(&table.name).filter(|_| leftovers.are_set_aside());
        let Some(newest) = newest.filter(|newest| *newest >= table.next_version) else {
            return (table, generation);
        };
        let table = Table { next_version: VersionNumber(newest.0.saturating_add(1)), ..table };
        let recorded = serde_json::to_value(&table).map_err(Error::internal).and_then(|value| {
            let name = table.name.as_str();
            let update = RecordUpdate::put(RecordKind::PredictionTable, name, value, Some(generation));
            Ok(self.registry.update(vec![update])?)
        });
        let generation = recorded.unwrap_or_else(|error| {
            tracing::warn!(table = %table.name, %error, "the number of the next version of a table cannot be recorded");
            generation
        });
        (table, generation)
    }

    /// All tables, by name.
    pub fn list(&self) -> Vec<Table> {
        self.live.all().iter().map(|live| live.state().table.clone()).collect()
    }

    /// A table, and the generation of its record.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub fn get(&self, name: &TableName) -> Result<(Table, u64), Error> {
        let state = self.table(name)?.state();
        Ok((state.table.clone(), state.generation))
    }

    /// Makes a table, or changes what is said of one. Its versions stay. Answers whether it is new.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for settings that cannot be, [`ErrorCode::Conflict`] for another key column while
    /// there are versions with the one that is, [`ErrorCode::PreconditionFailed`] for another generation than expected.
    pub async fn put(
        &self,
        name: &TableName,
        settings: TableSettings,
        expected: Option<u64>,
    ) -> Result<(Table, u64, bool), Error> {
        settings.check(name)?;
        let naming = self.naming.lock().await;
        let Some(live) = self.live.get(name) else {
            let table = Table {
                name: name.clone(),
                settings,
                current: None,
                versions: Vec::new(),
                next_version: VersionNumber(1),
            };
            let generation = self.record(&table, Some(expected.unwrap_or(0))).await?;
            self.show(table.clone(), generation);
            return Ok((table, generation, true));
        };
        // Somebody may be publishing to this table, which takes a while; others may be made meanwhile.
        drop(naming);
        let _changing = live.changing.lock().await;
        let state = live.state();
        if settings.key != state.table.settings.key && !state.table.versions.is_empty() {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!(
                    "table {name} has versions with the key {:?}: another key needs another table",
                    state.table.settings.key
                ),
            ));
        }
        let mut table = state.table.clone();
        table.settings = settings;
        let forgotten = table.forget_old();
        let generation = self.change(&state, table.clone(), expected, &forgotten).await?;
        Ok((table, generation, false))
    }

    /// Lets an earlier version answer again: the one that is named, or the newest before the one that answers. It is
    /// opened first.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], [`ErrorCode::Conflict`] where there is no earlier one, [`ErrorCode::PreconditionFailed`],
    /// [`ErrorCode::Unavailable`] for one that cannot be read.
    pub async fn roll_back(
        &self,
        name: &TableName,
        version: Option<VersionNumber>,
        expected: Option<u64>,
    ) -> Result<(Table, u64), Error> {
        let live = self.table(name)?;
        let _changing = live.changing.lock().await;
        let state = live.state();
        let mut table = state.table.clone();
        table.current = Some(table.rollback_target(version)?);
        let generation = self.change(&state, table.clone(), expected, &[]).await?;
        Ok((table, generation))
    }

    /// Deletes a table with all of its versions. Lookups under way finish.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], [`ErrorCode::PreconditionFailed`], [`ErrorCode::Conflict`] while another table takes its
    /// features from it.
    pub async fn delete(&self, name: &TableName, expected: Option<u64>) -> Result<(), Error> {
        let live = self.table(name)?;
        let _changing = live.changing.lock().await;
        let _naming = self.naming.lock().await;
        let state = live.state();
        let needs_it = |other: &Table| {
            other.settings.live.as_ref().and_then(|live| live.features.as_ref()) == Some(name)
        };
        if let Some(other) = self.list().into_iter().find(needs_it) {
            let sentence = format!("table {} takes its features from table {name}", other.name);
            return Err(Error::new(ErrorCode::Conflict, sentence));
        }
        let expected = expected.unwrap_or(state.generation);
        let update = RecordUpdate::delete(RecordKind::PredictionTable, name.as_str(), Some(expected));
        self.update(update).await?;
        self.live.remove(name);
        self.files.remove_table(name);
        Ok(())
    }

    /// Answers keys, each on its own: a key that has no answer does not fail the others. All that comes from the table
    /// comes from one version of it.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] for a table that is not there, or holds nothing and has no model;
    /// [`ErrorCode::InvalidArgument`] for too many keys or one of the wrong kind; [`ErrorCode::Unavailable`] for a file
    /// that cannot be read.
    pub async fn look_up(
        &self,
        name: &TableName,
        asked: Vec<Asked>,
    ) -> Result<Vec<Result<Prediction, Error>>, Error> {
        answer::answer(&self.host, &self.live, name, asked).await
    }

    /// A key as it is written in an address: a number where the table has numbers as keys.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] for a table that is not there, [`ErrorCode::InvalidArgument`] where the text is no number
    /// but has to be.
    pub fn key_of_text(&self, name: &TableName, text: &str) -> Result<TableKey, Error> {
        let state = self.table(name)?.state();
        let is_number = match Snapshot::new(state) {
            Ok(snapshot) => snapshot.file()?.has_integer_keys(),
            Err(_) => false,
        };
        if !is_number {
            return Ok(TableKey::Text(text.to_owned()));
        }
        text.parse().map(TableKey::Integer).map_err(|_| {
            let key = TableKey::Text(text.to_owned());
            let sentence = format!("key {key} is no whole number: table {name} has whole numbers as keys");
            Error::new(ErrorCode::InvalidArgument, sentence)
        })
    }

    fn table(&self, name: &TableName) -> Result<Arc<LiveTable>, Error> {
        self.live.get(name).ok_or_else(|| unknown_table(name))
    }

    /// Makes a table what it is from now on, durably first. `forgotten` are versions that it had until now.
    async fn change(
        &self,
        before: &State,
        table: Table,
        expected: Option<u64>,
        forgotten: &[VersionNumber],
    ) -> Result<u64, Error> {
        let current = self.open_current(before, &table)?;
        let generation = self.record(&table, Some(expected.unwrap_or(before.generation))).await?;
        let (name, holds) = (table.name.clone(), self.holds(&table, Some(&before.holds)));
        self.live.set(State { table, generation, current, holds });
        forgotten.iter().for_each(|number| self.files.remove(&name, *number));
        Ok(generation)
    }

    /// The version that is to answer, open.
    fn open_current(&self, before: &State, table: &Table) -> Result<Option<Arc<OpenVersion>>, Error> {
        let is_same = |open: &&Arc<OpenVersion>| Some(open.version.number) == table.current;
        if let Some(open) = before.current.as_ref().filter(is_same) {
            return Ok(Some(open.clone()));
        }
        let Some(open) = self.current_of(table) else { return Ok(None) };
        match open.file() {
            Ok(_) => Ok(Some(open)),
            Err(damaged) => {
                let (name, number) = (&table.name, open.version.number);
                tracing::error!(table = %name, version = %number, %damaged, "a table cannot be read");
                let sentence = format!("version {number} of table {name} cannot be read");
                Err(Error::new(ErrorCode::Unavailable, sentence))
            }
        }
    }

    fn current_of(&self, table: &Table) -> Option<Arc<OpenVersion>> {
        let version = table.version(table.current?)?;
        let path = self.files.path(&table.name, version.number);
        Some(Arc::new(OpenVersion::new(version.clone(), path)))
    }

    fn show(&self, table: Table, generation: u64) {
        let (current, holds) = (self.current_of(&table), self.holds(&table, None));
        self.live.set(State { table, generation, current, holds });
    }

    /// Holds the datasets of all versions, those that were held before among them.
    fn holds(&self, table: &Table, before: Option<&Holds>) -> Holds {
        let hold = |version: &TableVersion| {
            let held = before.and_then(|holds| holds.get(&version.number).cloned());
            let held = held.or_else(|| self.hold(&table.name, version).map(Arc::new));
            Some((version.number, held?))
        };
        table.versions.iter().filter_map(hold).collect()
    }

    /// A dataset that is gone is needed by nobody any more: a table has what it needs in its file.
    fn hold(&self, table: &TableName, version: &TableVersion) -> Option<Hold> {
        let dataset = self.datasets.resolve(&version.dataset).ok()?;
        self.datasets.hold(&dataset, &format!("prediction table {table}")).ok()
    }

    async fn record(&self, table: &Table, expected: Option<u64>) -> Result<u64, Error> {
        let value = serde_json::to_value(table).map_err(Error::internal)?;
        let name = table.name.as_str();
        self.update(RecordUpdate::put(RecordKind::PredictionTable, name, value, expected)).await
    }

    async fn update(&self, update: RecordUpdate) -> Result<u64, Error> {
        let registry = self.registry.clone();
        self.work.block(move || Ok(registry.update(vec![update])?)).await
    }
}

/// What plugins look up.
impl PredictionTables for LiveTables {
    fn lookup(
        &self,
        table: &TableName,
        keys: &[TableKey],
        most_bytes: usize,
    ) -> Result<FoundRows, LookupError> {
        let snapshot = self.snapshot(table).map_err(rows::lookup_error)?;
        rows::for_plugin(&snapshot, keys, most_bytes)
    }
}
