//! The rows of a dataset version, some at a time, with their numbers: how the version is cut into splits, and a split
//! read as record batches. Rows that cannot be read as the schema says are told apart from those that can. Knows no
//! models and no jobs.

mod csv;
mod json_lines;
mod parquet;
mod splits;
mod text;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use modelhost_core::ErrorCode;
use modelhost_serving::Error;

pub(crate) use splits::{Piece, Plan, Split};

use super::fault::FailedRow;
use super::scoring::ROW_NUMBER;
use super::sizes;
use crate::datasets::{DataFormat, OpenFile};

/// A dataset version as a source of rows.
pub(crate) struct Source {
    files: Vec<OpenFile>,
    format: DataFormat,
    /// All columns, as the version declares them.
    schema: SchemaRef,
    /// Those that are read, in the types in which they are.
    columns: Vec<FieldRef>,
    /// The column that identifies a row.
    key: Option<String>,
    batch_size: usize,
    footers: parquet::Footers,
}

/// Some rows.
pub(crate) struct Rows {
    /// Those that could be read, numbered in [`ROW_NUMBER`].
    pub(crate) batch: RecordBatch,
    /// Those that could not.
    pub(crate) failed: Vec<FailedRow>,
}

pub(crate) type RowStream = BoxStream<'static, Result<Rows, Error>>;

impl Source {
    /// The rows of these files, of which only these columns are read, in this order.
    ///
    /// # Errors
    /// A column that is not there.
    pub(crate) fn new(
        files: Vec<OpenFile>,
        format: DataFormat,
        schema: SchemaRef,
        columns: &[String],
        key: Option<String>,
        batch_size: usize,
    ) -> Result<Source, Error> {
        let find = |name: &String| {
            let (_, field) = schema.fields().find(name).ok_or_else(|| {
                Error::new(ErrorCode::InvalidArgument, format!("the dataset has no column {name:?}"))
            })?;
            Ok(field.clone())
        };
        let mut columns = columns.iter().map(find).collect::<Result<Vec<FieldRef>, Error>>()?;
        if format == DataFormat::Parquet {
            let view =
                |field: &FieldRef| field.as_ref().clone().with_data_type(parquet::viewed(field.data_type()));
            columns = columns.iter().map(|field| Arc::new(view(field))).collect();
        }
        let row_bytes: u64 = columns.iter().map(|column| sizes::least(column.data_type())).sum();
        let most = usize::try_from(sizes::BATCH_BYTES / row_bytes.max(1)).unwrap_or(usize::MAX);
        let batch_size = batch_size.min(most).max(1);
        let footers = parquet::Footers::default();
        Ok(Source { files, format, schema, columns, key, batch_size, footers })
    }

    /// The schema of the batches.
    pub(crate) fn batch_schema(&self) -> SchemaRef {
        numbered_schema(&self.columns)
    }

    /// Cuts the rows into splits. Reads footers, or texts from end to end; with a limit, only until so many rows are found.
    ///
    /// # Errors
    /// A file that is not what was recorded, with its name and where in it.
    pub(crate) async fn plan(&self, limit: Option<u64>) -> Result<Plan, Error> {
        let most = limit.unwrap_or(u64::MAX);
        let mut plan = Plan::default();
        for (index, file) in self.files.iter().enumerate() {
            let before = plan.rows();
            match self.format {
                DataFormat::Parquet => parquet::plan(self, index, &mut plan).await?,
                DataFormat::Csv => {
                    csv::plan(file, index, self.schema.fields().len(), most, &mut plan).await?
                }
                DataFormat::Jsonl => json_lines::plan(file, index, most, &mut plan).await?,
            }
            if plan.rows() >= most {
                break;
            }
            let found = plan.rows() - before;
            if found != file.file.rows {
                let message =
                    format!("file {} has {found} rows: {} were recorded", file.file.name, file.file.rows);
                return Err(Error::new(ErrorCode::Unprocessable, message));
            }
        }
        Ok(plan)
    }

    /// The rows of a piece of a split, in order.
    ///
    /// # Errors
    /// A file that cannot be opened; what is met later comes with the stream.
    pub(crate) async fn read(&self, piece: &Piece) -> Result<RowStream, Error> {
        let stream = match self.format {
            DataFormat::Parquet => parquet::read(self, piece).await?,
            DataFormat::Csv => csv::read(self, piece),
            DataFormat::Jsonl => json_lines::read(self, piece),
        };
        let rows = whole(stream, self.file(piece.split.file)?.clone(), piece);
        Ok(piece.only_rows(in_small_batches(rows)))
    }

    fn file(&self, index: usize) -> Result<&OpenFile, Error> {
        self.files
            .get(index)
            .ok_or_else(|| Error::internal(format!("a split names file {index}, which is not there")))
    }
}

fn numbered_schema(columns: &[FieldRef]) -> SchemaRef {
    // Whatever the schema promises, a file may lack a value.
    let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
    let number = Arc::new(Field::new(ROW_NUMBER, DataType::UInt64, false));
    Arc::new(Schema::new(columns.iter().map(nullable).chain([number]).collect::<Vec<_>>()))
}

/// Rows, of which none may be missing where they end.
fn whole(rows: RowStream, file: OpenFile, piece: &Piece) -> RowStream {
    let (next_row, end_row) = (piece.first_row, piece.end_row);
    let next = move |(mut rows, next_row): (RowStream, u64)| {
        let file = file.clone();
        async move {
            let Some(read) = rows.try_next().await? else {
                if next_row == end_row {
                    return Ok(None);
                }
                let reason = format!("there are no more: expected rows up to {end_row}");
                return Err(unreadable(&file, &format!("from row {next_row}"), &reason));
            };
            let next_row = next_row + (read.batch.num_rows() + read.failed.len()) as u64;
            Ok(Some((read, (rows, next_row))))
        }
    };
    stream::try_unfold((rows, next_row), next).boxed()
}

/// The same rows, cut where they are many bytes.
fn in_small_batches(rows: RowStream) -> RowStream {
    let cut = |Rows { batch, failed }: Rows| {
        let mut failed = Some(failed);
        let rows = move |batch| Ok(Rows { batch, failed: failed.take().unwrap_or_default() });
        stream::iter(sizes::cut(batch).into_iter().map(rows))
    };
    rows.map_ok(cut).try_flatten().boxed()
}

/// Columns with the numbers of their rows.
fn numbered(
    columns: &[FieldRef],
    mut arrays: Vec<ArrayRef>,
    numbers: impl IntoIterator<Item = u64>,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    arrays.push(Arc::new(UInt64Array::from_iter_values(numbers)));
    RecordBatch::try_new(numbered_schema(columns), arrays)
}

/// A file that is not what it should be.
fn unreadable(file: &OpenFile, place: &str, reason: &dyn std::fmt::Display) -> Error {
    let reason = reason.to_string();
    let reason: String = reason.lines().next().unwrap_or_default().chars().take(400).collect();
    Error::new(ErrorCode::Unprocessable, format!("file {} cannot be read {place}: {reason}", file.file.name))
}

#[cfg(test)]
mod tests;
