//! Writes the file of a table: takes rows in the order of their keys, makes sure that they are, and cuts them into
//! batches small enough to be looked into quickly.

use std::fs::File;
use std::io::BufWriter;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use modelhost_core::{ErrorCode, TableKey};

use super::checksum::Checksummed;
use super::columns::Columns;
use super::key_column::KeyColumn;
use super::{BATCHES, BatchEntry};
use crate::Error;

/// How large a batch may be. The first lookup in a batch reads and checks it as a whole.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Limits {
    pub(in super::super) rows: usize,
    pub(in super::super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { rows: 4_096, bytes: 512 << 10 }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Built {
    pub(in super::super) rows: u64,
    pub(in super::super) bytes: u64,
    /// CRC-32 of all that follows the last batch.
    pub(in super::super) checksum: u32,
    /// The columns but the key.
    pub(in super::super) columns: Vec<(String, String)>,
}

/// Writes rows, which come sorted by their keys, to a new file, and syncs it. Blocks.
///
/// # Errors
/// [`ErrorCode::Unprocessable`] for two rows of one key, a key that is null, a value that cannot be stored. Whatever
/// reading the rows and writing the file says.
pub(in super::super) fn build(
    columns: &Columns,
    rows: impl Iterator<Item = Result<RecordBatch, Error>>,
    file: &File,
    limits: Limits,
) -> Result<Built, Error> {
    let writer =
        FileWriter::try_new(Checksummed::new(BufWriter::new(file)), columns.schema()).map_err(failed)?;
    let mut building = Building { writer, limits, batches: Vec::new(), last_key: None, rows: 0 };
    for batch in rows {
        building.add(&columns.convert(&batch?)?)?;
    }
    let rows = building.rows;
    let checksum = building.finish()?;
    file.sync_all()?;
    let bytes = file.metadata()?.len();
    let described = columns.schema().fields().iter().skip(1);
    let columns = described.map(|field| (field.name().clone(), field.data_type().to_string())).collect();
    Ok(Built { rows, bytes, checksum, columns })
}

struct Building<'a> {
    writer: FileWriter<Checksummed<BufWriter<&'a File>>>,
    limits: Limits,
    batches: Vec<BatchEntry>,
    last_key: Option<TableKey>,
    rows: u64,
}

impl Building<'_> {
    fn add(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.check_order(rows)?;
        let mut start = 0;
        while start < rows.num_rows() {
            let length = self.batch_length(rows).min(rows.num_rows() - start);
            let batch = rows.slice(start, length);
            if self.batches.is_empty() {
                // What precedes the first batch is said again in the footer.
                self.writer.get_mut().take();
            }
            self.writer.write(&batch).map_err(failed)?;
            let checksum = self.writer.get_mut().take();
            self.batches.push(BatchEntry { first_key: key_column(&batch)?.key(0), checksum });
            start += length;
        }
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// Rows of a batch, when each is as large as these are on average.
    fn batch_length(&self, rows: &RecordBatch) -> usize {
        let per_row = rows.get_array_memory_size() / rows.num_rows();
        (self.limits.bytes / per_row.max(1)).clamp(1, self.limits.rows)
    }

    fn check_order(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let keys = key_column(rows)?;
        let first = keys.key(0);
        let within = keys.first_unordered().map(|row| (keys.key(row - 1), keys.key(row)));
        let before = self.last_key.take().filter(|last| *last >= first).map(|last| (last, first));
        self.last_key = Some(keys.key(keys.len() - 1));
        match before.or(within) {
            None => Ok(()),
            Some((one, other)) if one == other => Err(Error::new(
                ErrorCode::Unprocessable,
                format!(
                    "key {one} is in more than one row of column {:?}: every key may be there once",
                    rows.schema().field(0).name()
                ),
            )),
            Some((one, other)) => {
                Err(Error::internal(format!("rows of a table come unsorted: {one} before {other}")))
            }
        }
    }

    /// Answers the checksum of the footer.
    fn finish(mut self) -> Result<u32, Error> {
        let batches = serde_json::to_string(&self.batches).map_err(Error::internal)?;
        self.writer.write_metadata(BATCHES, batches);
        self.writer.finish().map_err(failed)?;
        Ok(self.writer.get_mut().take())
    }
}

fn key_column(rows: &RecordBatch) -> Result<KeyColumn<'_>, Error> {
    KeyColumn::new(rows.column(0)).ok_or_else(|| Error::internal("a table without a key column"))
}

fn failed(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, source) => source.into(),
        error => Error::internal(error),
    }
}
