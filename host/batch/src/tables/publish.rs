//! Publishing: a version of a dataset becomes a version of a table.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::error::DataFusionError;
use datafusion::prelude::ident;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use modelhost_core::{ErrorCode, TableName, VersionNumber};
use tempfile::NamedTempFile;

use super::Tables;
use super::file::{Built, Columns, Limits, build};
use super::settings::{Table, TableColumn, TableVersion};
use crate::Error;
use crate::datasets::{DatasetReference, DatasetVersion};

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

    /// Makes a version of a dataset the one that answers. Runs to its end even where the caller goes away. Until then,
    /// and where it fails, the version before goes on answering.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] for a table that is not there, [`ErrorCode::Unprocessable`] for a dataset that can be no
    /// table: without the key column, with a key in two rows or none in one, or with a column that cannot be stored.
    pub async fn publish(
        self: &Arc<Self>,
        name: &TableName,
        dataset: &DatasetVersion,
    ) -> Result<TableVersion, Error> {
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
    ) -> Result<TableVersion, Error> {
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
    ) -> Result<TableVersion, Error> {
        let (tables, name, dataset) = (self.clone(), name.clone(), dataset.clone());
        self.work.run(async move { tables.publish_now(&name, &dataset, by).await }).await
    }

    async fn publish_now(
        &self,
        name: &TableName,
        dataset: &DatasetVersion,
        by: Option<String>,
    ) -> Result<TableVersion, Error> {
        let live = self.table(name)?;
        let _changing = live.changing.lock().await;
        let state = live.state();
        let number = state.table.next_version;
        let (staged, built) = self.build(&state.table, dataset).await?;
        let version = version(number, dataset, built, by);
        self.files.place(staged.into_temp_path(), name, number)?;
        let mut table = state.table.clone();
        let forgotten = table.add(version.clone());
        match self.change(&state, table, None, &forgotten).await {
            Ok(_) => {
                tracing::info!(table = %name, version = %number, rows = version.rows, "table published");
                Ok(version)
            }
            Err(error) => {
                self.files.remove(name, number);
                Err(error)
            }
        }
    }

    /// Writes the rows of a dataset, sorted by key, to a file of their own.
    async fn build(&self, table: &Table, dataset: &DatasetVersion) -> Result<(NamedTempFile, Built), Error> {
        let _hold = self.datasets.hold(dataset, &format!("prediction table {}", table.name))?;
        let key = &table.settings.key;
        let rows = self.datasets.session().read_table(self.datasets.table_provider(dataset)?);
        let rows = rows.map_err(unreadable)?;
        let columns = Columns::new(rows.schema().as_arrow(), key)?;
        let sorted = rows.sort(vec![ident(key).sort(true, false)]).map_err(unreadable)?;
        let mut sorted = sorted.execute_stream().await.map_err(unreadable)?;
        let staged = self.registry.artifacts().staging_file()?;
        let runtime = self.work.handle().clone();
        self.work
            .block(move || {
                let next = || runtime.block_on(sorted.next()).map(|rows| rows.map_err(unreadable));
                let built = build(&columns, std::iter::from_fn(next), staged.as_file(), Limits::default())?;
                Ok((staged, built))
            })
            .await
    }
}

fn version(
    number: VersionNumber,
    dataset: &DatasetVersion,
    built: Built,
    by: Option<String>,
) -> TableVersion {
    let columns =
        built.columns.into_iter().map(|(name, data_type)| TableColumn { name, data_type }).collect();
    TableVersion {
        number,
        dataset: dataset.reference(),
        lineage: dataset.lineage.clone(),
        predicted: dataset.created,
        published: Timestamp::now(),
        by,
        rows: built.rows,
        bytes: built.bytes,
        checksum: built.checksum,
        columns,
    }
}

fn unreadable(error: DataFusionError) -> Error {
    Error::internal(format!("the rows of a dataset cannot be sorted: {error}"))
}
