//! Parquet: row groups, cut further where they are large, put together where they are small.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Schema};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use modelhost_serving::Error;
use object_store::ObjectStoreExt as _;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::splits::{SPLIT_BYTES, SPLIT_ROWS};
use super::{Piece, Plan, RowStream, Rows, Source, Split, numbered, unreadable};
use crate::datasets::OpenFile;
use crate::jobs::sizes::BATCH_BYTES;

/// What the declared type cannot hold is an error, not a null.
const EXACT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// The footer that was read last: splits of one file follow each other.
#[derive(Default)]
pub(super) struct Footers(Mutex<Option<(usize, ArrowReaderMetadata)>>);

/// Adds the splits of a file.
pub(super) async fn plan(source: &Source, index: usize, plan: &mut Plan) -> Result<(), Error> {
    let footer = footer(source, index).await?;
    let file = source.file(index)?;
    for column in &source.columns {
        if footer.schema().field_with_name(column.name()).is_err() {
            let name = column.name();
            return Err(unreadable(file, "at all", &format!("it has no column {name:?}")));
        }
    }
    let mut row_in_file = 0;
    let mut open: Option<Range<u64>> = None;
    let before = plan.rows();
    let mut add = |range: Range<u64>| {
        plan.splits.push(Split {
            file: index,
            first_row: before + range.start,
            rows: range.end - range.start,
            row_in_file: range.start,
            first_byte: 0,
            end_byte: 0,
            only: None,
        });
    };
    for (number, group) in footer.metadata().row_groups().iter().enumerate() {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        let bytes = u64::try_from(group.total_byte_size()).unwrap_or(0).max(1);
        let (start, end) = (row_in_file, row_in_file + rows);
        row_in_file = end;
        let most = (SPLIT_BYTES.saturating_mul(rows) / bytes).clamp(1, SPLIT_ROWS);
        if let Some(range) = &mut open {
            if end - range.start <= most {
                range.end = end;
                continue;
            }
            add(range.clone());
            open = None;
        }
        if rows > most {
            // Without an index, each of them would read all of the group.
            let pieces = if has_offset_index(&footer, number) { rows.div_ceil(most) } else { 1 };
            (0..pieces)
                .for_each(|piece| add(start + rows * piece / pieces..start + rows * (piece + 1) / pieces));
        } else if rows > 0 {
            open = Some(start..end);
        }
    }
    open.into_iter().for_each(add);
    Ok(())
}

fn has_offset_index(footer: &ArrowReaderMetadata, group: usize) -> bool {
    let offsets = footer.metadata().offset_index().and_then(|groups| groups.get(group));
    offsets.is_some_and(|columns| !columns.is_empty())
}

/// The rows of a piece.
pub(super) async fn read(source: &Source, piece: &Piece) -> Result<RowStream, Error> {
    let file = source.file(piece.split.file)?.clone();
    let footer = footer(source, piece.split.file).await?;
    let place = format!("from row {}", piece.first_row);
    let wanted = rows_in_file(piece);
    let (groups, selection) = selection(footer.metadata(), wanted);
    let mut roots = Vec::with_capacity(source.columns.len());
    for column in &source.columns {
        let (root, _) = footer
            .schema()
            .column_with_name(column.name())
            .ok_or_else(|| unreadable(&file, "at all", &format!("it has no column {:?}", column.name())))?;
        roots.push(root);
    }
    let batch_size = rows_of_a_batch(&footer, &groups, &roots, source.batch_size);
    let mask = ProjectionMask::roots(footer.parquet_schema(), roots);
    let reader = FileReader(file.clone());
    let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer)
        .with_projection(mask)
        .with_row_groups(groups)
        .with_row_selection(selection)
        .with_batch_size(batch_size)
        .build()
        .map_err(|error| unreadable(&file, &place, &error))?;
    let columns = source.columns.clone();
    let mut next_row = piece.first_row;
    let rows = move |batch: Result<arrow::array::RecordBatch, ParquetError>| {
        let place = format!("from row {next_row}");
        let batch = batch.map_err(|error| unreadable(&file, &place, &error))?;
        let numbers = next_row..next_row + batch.num_rows() as u64;
        next_row = numbers.end;
        let arrays = columns.iter().map(|column| declared(&batch, column)).collect::<Result<Vec<_>, _>>();
        let batch = arrays.and_then(|arrays| numbered(&columns, arrays, numbers));
        let batch = batch.map_err(|error| unreadable(&file, &place, &error))?;
        Ok(Rows { batch, failed: Vec::new() })
    };
    Ok(stream.map(rows).boxed())
}

/// So many rows that they are not many more bytes than a batch should have, as far as the footer tells.
fn rows_of_a_batch(
    footer: &ArrowReaderMetadata,
    groups: &[usize],
    roots: &[usize],
    batch_size: usize,
) -> usize {
    let (mut rows, mut bytes) = (0, 0);
    for group in groups.iter().filter_map(|group| footer.metadata().row_groups().get(*group)) {
        rows += u64::try_from(group.num_rows()).unwrap_or(0);
        for (leaf, column) in group.columns().iter().enumerate() {
            if roots.contains(&footer.parquet_schema().get_column_root_idx(leaf)) {
                // However well they are packed, values take their room once they are read.
                let values = u64::try_from(column.num_values()).unwrap_or(0).saturating_mul(8);
                bytes += u64::try_from(column.uncompressed_size()).unwrap_or(0).max(values);
            }
        }
    }
    let fitting = BATCH_BYTES.saturating_mul(rows) / bytes.max(1);
    usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, batch_size.max(1))
}

/// Columns as they are read: of texts that are the same, each is only a view. What a dictionary of a few bytes says of
/// a million rows does not take a million times as many.
pub(super) fn viewed(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(viewed(field.data_type())));
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::List(field) => DataType::List(inner(field)),
        DataType::LargeList(field) => DataType::LargeList(inner(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(inner(field), *length),
        other => other.clone(),
    }
}

/// A column in the type in which it is wanted.
fn declared(
    batch: &arrow::array::RecordBatch,
    column: &FieldRef,
) -> Result<ArrayRef, arrow::error::ArrowError> {
    let missing =
        || arrow::error::ArrowError::SchemaError(format!("column {:?} is not there", column.name()));
    let array = batch.column_by_name(column.name()).ok_or_else(missing)?;
    if array.data_type() == column.data_type() {
        return Ok(array.clone());
    }
    cast_with_options(array, column.data_type(), &EXACT)
}

fn rows_in_file(piece: &Piece) -> Range<u64> {
    let Split { first_row, row_in_file, .. } = piece.split;
    row_in_file + (piece.first_row - first_row)..row_in_file + (piece.end_row - first_row)
}

/// The row groups that hold these rows, and which rows of those are wanted.
fn selection(metadata: &ParquetMetaData, wanted: Range<u64>) -> (Vec<usize>, RowSelection) {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut skipped = 0;
    let mut held = 0;
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        let end = start + rows;
        if end <= wanted.start {
            skipped = end;
        } else if start < wanted.end {
            groups.push(index);
            held += rows;
        }
        start = end;
    }
    let within = |row: u64| usize::try_from(row.saturating_sub(skipped)).unwrap_or(usize::MAX);
    let range = within(wanted.start)..within(wanted.end);
    let total = usize::try_from(held).unwrap_or(usize::MAX);
    (groups, RowSelection::from_consecutive_ranges([range].into_iter(), total))
}

async fn footer(source: &Source, index: usize) -> Result<ArrowReaderMetadata, Error> {
    if let Some((known, footer)) = &*source.footers.0.lock()
        && *known == index
    {
        return Ok(footer.clone());
    }
    let file = source.file(index)?;
    // Where pages lie lets rows in the middle of a row group be read without those before them.
    let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
    let loaded = ArrowReaderMetadata::load_async(&mut FileReader(file.clone()), options.clone()).await;
    let footer = loaded.map_err(|error| unreadable(file, "as Parquet", &error))?;
    let view = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(viewed(field.data_type())));
    let schema = Schema::new(footer.schema().fields().iter().map(view).collect::<Vec<_>>());
    let options = options.with_schema(Arc::new(schema));
    // Where they cannot be read so, they are read as they are.
    let footer = ArrowReaderMetadata::try_new(footer.metadata().clone(), options).unwrap_or(footer);
    *source.footers.0.lock() = Some((index, footer.clone()));
    Ok(footer)
}

/// A file, as the Parquet reader wants it.
struct FileReader(OpenFile);

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let OpenFile { store, path, .. } = &self.0;
        store.get_range(path, range).map(|bytes| bytes.map_err(external)).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move {
            let OpenFile { store, path, .. } = &self.0;
            store.get_ranges(path, &ranges).await.map_err(external)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let policy = options.map_or(PageIndexPolicy::Skip, ArrowReaderOptions::offset_index_policy);
            let bytes = self.0.file.bytes;
            let reader = ParquetMetaDataReader::new()
                .with_column_index_policy(PageIndexPolicy::Skip)
                .with_offset_index_policy(policy);
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}
