//! Publishing: a version of a dataset becomes a version of a table.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::error::DataFusionError;
use datafusion::prelude::ident;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use modelhost_core::{ErrorCode, TableName, VersionNumber};
use tempfile::{NamedTempFile, TempPath};

use super::file::{Built, Columns, Limits, build};
use super::live_table::State;
use super::settings::{KeyKind, Table, TableColumn, TableVersion};
use super::{Locked, Tables, unknown_table};
use crate::Error;
use crate::datasets::{DatasetCard, DatasetReference, DatasetVersion};
use crate::query_failure::query_failure;

/// What has come of a publication.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The version that answers now.
    pub version: TableVersion,
    /// Whether it is new. Else it had been made of the same version of the dataset before.
    pub is_new: bool,
}

impl Tables {
    /// Whether rows with these columns can be published to a table.
    ///
    /// # Errors
    /// As [`Tables::publish`].
    pub(crate) fn check(&self, name: &TableName, columns: &Schema) -> Result<(), Error> {
        let (table, _) = self.get(name)?;
        Columns::new(columns, &table.settings.key).map(drop).map_err(|error| {
            Error::new(error.code, format!("table {name} cannot take the output: {}", error.message))
        })
    }

    /// Makes a version of a dataset the one that answers, unless it is already. Runs to its end even where the caller goes
    /// away. Until then, and where it fails, the version before goes on answering.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] for a table that is not there, [`ErrorCode::Unprocessable`] for a dataset that can be no
    /// table: without the key column, with another kind of keys than the versions before, with a key in two rows or none
    /// in one, or with a column that cannot be stored.
    pub async fn publish(
        self: &Arc<Self>,
        name: &TableName,
        dataset: &DatasetVersion,
    ) -> Result<Published, Error> {
        self.publish_as(name, dataset, dataset.by.clone()).await
    }

    /// The same, of the dataset that the table's settings name where none is given, and by somebody else than made it.
    ///
    /// # Errors
    /// The same; [`ErrorCode::InvalidArgument`] where neither names a dataset.
    pub async fn publish_reference(
        self: &Arc<Self>,
        name: &TableName,
        dataset: Option<&DatasetReference>,
        by: Option<String>,
    ) -> Result<Published, Error> {
        let state = self.table(name)?.state();
        let reference = match (dataset, &state.table.settings.dataset) {
            (Some(reference), _) => reference.clone(),
            (None, Some(dataset)) => DatasetReference::latest(dataset.clone()),
            (None, None) => {
                let sentence = format!("table {name} has no dataset of its own: name the one to publish");
                return Err(Error::new(ErrorCode::InvalidArgument, sentence));
            }
        };
        let dataset = self.datasets.resolve(&reference)?;
        self.publish_as(name, &dataset, by).await
    }

    async fn publish_as(
        self: &Arc<Self>,
        name: &TableName,
        dataset: &DatasetVersion,
        by: Option<String>,
    ) -> Result<Published, Error> {
        let (tables, name, dataset) = (self.clone(), name.clone(), dataset.clone());
        self.work.run(async move { tables.publish_now(&name, &dataset, by).await }).await
    }

    async fn publish_now(
        &self,
        name: &TableName,
        dataset: &DatasetVersion,
        by: Option<String>,
    ) -> Result<Published, Error> {
        let live = self.table(name)?;
        let _publishing = live.publishing.lock().await;
        let before = live.state();
        if let Some(version) = self.published(&before, dataset).await? {
            return Ok(Published { version, is_new: false });
        }
        // Rollbacks, and changes of settings, take place meanwhile.
        let _hold = self.datasets.hold(dataset, &format!("prediction table {name}"))?;
        let (staged, built, key_kind) = self.build(&before.table, dataset).await?;
        let locked = self.locked(name).await?;
        if !locked.is_of(&live) {
            return Err(unknown_table(name));
        }
        let state = &locked.state;
        if state.table.settings.key != before.table.settings.key {
            let sentence = format!("the key of table {name} was changed while this was being published");
            return Err(Error::new(ErrorCode::Conflict, sentence));
        }
        let version = version(state.table.next_version, dataset, built, key_kind, by);
        self.take_effect(&locked, staged.into_temp_path(), version.clone()).await?;
        tracing::info!(table = %name, version = %version.number, rows = version.rows, "table published");
        Ok(Published { version, is_new: true })
    }

    /// The version that answers, where it was made of just this and can be read.
    async fn published(
        &self,
        state: &State,
        dataset: &DatasetVersion,
    ) -> Result<Option<TableVersion>, Error> {
        let is_same = |version: &TableVersion| version.dataset == dataset.reference();
        let Some(open) = state.current.clone().filter(|open| is_same(&open.version)) else { return Ok(None) };
        self.work.block(move || Ok(open.verify().is_ok().then(|| open.version.clone()))).await
    }

    async fn take_effect(
        &self,
        locked: &Locked,
        staged: TempPath,
        version: TableVersion,
    ) -> Result<(), Error> {
        let mut table = locked.state.table.clone();
        let (name, number) = (table.name.clone(), version.number);
        let forgotten = table.add(version);
        let files = self.files.clone();
        self.work
            .block({
                let name = name.clone();
                move || files.place(staged, &name, number)
            })
            .await?;
        let changed = self.change(locked, table, None, forgotten).await;
        // Whether a registry that has stopped wrote the record shows at the next start, and then the file is needed.
        if changed.is_err() && !self.registry.is_stopped() {
            self.files.remove(&name, number);
        }
        changed.map(|_| ())
    }

    /// Writes the rows of a dataset, sorted by key, to a file of their own.
    async fn build(
        &self,
        table: &Table,
        dataset: &DatasetVersion,
    ) -> Result<(NamedTempFile, Built, KeyKind), Error> {
        let key = &table.settings.key;
        let rows = self.datasets.session().read_table(self.datasets.table_provider(dataset)?);
        let what = format!("dataset {}", dataset.reference());
        let unreadable = move |error: DataFusionError| query_failure(&what, &error);
        let rows = rows.map_err(&unreadable)?;
        let columns = Columns::new(rows.schema().as_arrow(), key)?;
        let kind = if columns.has_integer_keys() { KeyKind::Integer } else { KeyKind::Text };
        check_kind(table, dataset, kind)?;
        let sorted = rows.sort(vec![ident(key).sort(true, false)]).map_err(&unreadable)?;
        let mut sorted = sorted.execute_stream().await.map_err(&unreadable)?;
        let registry = self.registry.clone();
        let runtime = self.work.handle().clone();
        self.work
            .block(move || {
                let staged = registry.artifacts().staging_file()?;
                let next = || runtime.block_on(sorted.next()).map(|rows| rows.map_err(&unreadable));
                let built = build(&columns, std::iter::from_fn(next), staged.as_file(), Limits::default())?;
                Ok((staged, built, kind))
            })
            .await
    }
}

/// Keys of another kind would not be found by those who look up those of the versions before.
fn check_kind(table: &Table, dataset: &DatasetVersion, kind: KeyKind) -> Result<(), Error> {
    let Some(other) = table.versions.iter().find(|version| version.key_kind != kind) else { return Ok(()) };
    let sentence = format!(
        "the keys of {} are {kind}, those of version {} of table {} are {}: other keys need another table",
        dataset.reference(),
        other.number,
        table.name,
        other.key_kind
    );
    Err(Error::new(ErrorCode::Unprocessable, sentence))
}

fn version(
    number: VersionNumber,
    dataset: &DatasetVersion,
    built: Built,
    key_kind: KeyKind,
    by: Option<String>,
) -> TableVersion {
    let columns =
        built.columns.into_iter().map(|(name, data_type)| TableColumn { name, data_type }).collect();
    let began = dataset.lineage.as_ref().and_then(|lineage| lineage.began);
    TableVersion {
        number,
        dataset: dataset.reference(),
        lineage: dataset.lineage.clone(),
        card: DatasetCard { description: None, ..dataset.card.clone() },
        predicted: began.unwrap_or(dataset.created),
        published: Timestamp::now(),
        by,
        rows: built.rows,
        bytes: built.bytes,
        checksum: built.checksum,
        key_kind,
        columns,
    }
}
