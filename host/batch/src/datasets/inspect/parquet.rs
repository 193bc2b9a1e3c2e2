//! Parquet: the file says its own columns and rows; that its pages can be read is found out by reading them.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FooterTail, PageIndexPolicy, ParquetMetaDataReader};

use super::{Candidate, Found, Problem};
use crate::datasets::schema::MAX_COLUMNS;

/// Largest footer that is read: what it leads to in memory is many times as large.
pub(in crate::datasets) const MAX_FOOTER_BYTES: usize = 16 << 20;
/// What follows the footer: its length, and a mark.
pub(in crate::datasets) const TAIL_BYTES: usize = 8;
/// As many rows as queries decode at once, so that what can be read here can be read by them.
const BATCH_ROWS: usize = 8_192;

/// The columns of a file.
pub(super) fn schema(file: &Candidate<'_>) -> Result<Found, Problem> {
    let metadata = metadata(file)?;
    Ok(Found { schema: metadata.schema().as_ref().clone(), longest_row: 0 })
}

/// Reads every column of every row group of a file, one after the other: a file may have many, and each of them as much
/// in a page as fits.
pub(super) fn read(file: &Candidate<'_>, _: &SchemaRef, _: usize) -> Result<u64, Problem> {
    let metadata = metadata(file)?;
    let columns = metadata.schema().fields().len();
    let mut rows = 0;
    for group in 0..metadata.metadata().num_row_groups() {
        file.is_read(rows + 1);
        let wrong = |reason: &dyn std::fmt::Display| {
            let place = format!("row group {group}, which begins there, cannot be read: {reason}");
            file.problem_in_row(rows + 1, &place)
        };
        let declared = metadata.metadata().row_group(group).num_rows();
        let declared = u64::try_from(declared).map_err(|error| wrong(&error))?;
        for column in 0..columns {
            let found = read_column(file, &metadata, group, column)?.map_err(|error| wrong(&error))?;
            if found != declared {
                return Err(wrong(&format!("it has {found} rows and says that it has {declared}")));
            }
        }
        rows += declared;
    }
    Ok(rows)
}

fn read_column(
    file: &Candidate<'_>,
    metadata: &ArrowReaderMetadata,
    group: usize,
    column: usize,
) -> Result<Result<u64, ParquetError>, Problem> {
    let mask = ProjectionMask::roots(metadata.parquet_schema(), [column]);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.open()?, metadata.clone())
        .with_row_groups(vec![group])
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build();
    let count = |rows: u64, batch: Result<arrow::array::RecordBatch, arrow::error::ArrowError>| {
        Ok(rows + batch?.num_rows() as u64)
    };
    Ok(reader.and_then(|mut reader| reader.try_fold(0, count)))
}

/// The columns that a footer by itself tells of.
pub(super) fn schema_of_footer(file: &Candidate<'_>) -> Result<Found, Problem> {
    Ok(Found { schema: footer(file)?.schema().as_ref().clone(), longest_row: 0 })
}

/// The rows that a footer by itself tells of.
pub(super) fn rows_of_footer(file: &Candidate<'_>) -> Result<u64, Problem> {
    let metadata = footer(file)?;
    let mut rows = metadata.metadata().row_groups().iter().map(|group| u64::try_from(group.num_rows()).ok());
    let rows = rows.try_fold(0_u64, |sum, rows| sum.checked_add(rows?));
    rows.ok_or_else(|| {
        file.problem(&"it is no whole Parquet file (a row group says a number of rows that is none)")
    })
}

fn footer(file: &Candidate<'_>) -> Result<ArrowReaderMetadata, Problem> {
    let bytes = fs::read(file.path).map_err(|error| file.problem(&error))?;
    let metadata = ParquetMetaDataReader::decode_metadata(&bytes)
        .and_then(|metadata| ArrowReaderMetadata::try_new(Arc::new(metadata), Default::default()));
    checked(file, metadata)
}

fn metadata(file: &Candidate<'_>) -> Result<ArrowReaderMetadata, Problem> {
    let mut opened = file.open()?;
    let mut tail = [0; TAIL_BYTES];
    let back = -(TAIL_BYTES as i64);
    opened
        .seek(SeekFrom::End(back))
        .and_then(|_| opened.read_exact(&mut tail))
        .map_err(|_| file.problem(&"it is no whole Parquet file (it is too short)"))?;
    footer_length(&tail).map_err(|reason| file.problem(&reason))?;
    // Queries read the index of pages too, where there is one.
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    checked(file, ArrowReaderMetadata::load(&opened, options))
}

/// The length of the footer that these last bytes of a file end.
///
/// # Errors
/// Why it cannot be read, in half a sentence.
pub(in crate::datasets) fn footer_length(tail: &[u8; TAIL_BYTES]) -> Result<usize, String> {
    let tail = FooterTail::try_new(tail).map_err(|error| format!("it is no whole Parquet file ({error})"))?;
    match tail.metadata_length() {
        length if length > MAX_FOOTER_BYTES => {
            Err(format!("its footer has {length} bytes: expected at most {MAX_FOOTER_BYTES}"))
        }
        length => Ok(length),
    }
}

fn checked(
    file: &Candidate<'_>,
    metadata: Result<ArrowReaderMetadata, ParquetError>,
) -> Result<ArrowReaderMetadata, Problem> {
    let metadata =
        metadata.map_err(|error| file.problem(&format!("it is no whole Parquet file ({error})")))?;
    let columns = metadata.parquet_schema().num_columns();
    if columns > MAX_COLUMNS {
        return Err(file.problem(&format!("it has {columns} columns: expected at most {MAX_COLUMNS}")));
    }
    Ok(metadata)
}
