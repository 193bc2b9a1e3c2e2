//! Reads the file of a table where it lies. Opening reads the footer, and nothing of the rows; the first lookup in a
//! batch checks it once, later ones go straight to their row.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, Footer, root_as_footer};
use bytes::Bytes;
use memmap2::Mmap;
use modelhost_core::TableKey;

use super::key_column::KeyColumn;
use super::{BATCHES, BatchEntry};

/// The length of the footer and the mark behind it.
const TRAILER_BYTES: usize = 10;

/// A table file that is open. It needs address space, and of memory what the system's page cache gives it.
pub(in super::super) struct TableFile {
    buffer: Buffer,
    schema: SchemaRef,
    decoder: FileDecoder,
    batches: Vec<Batch>,
}

struct Batch {
    block: Block,
    entry: BatchEntry,
    /// Once it was read and checked.
    rows: OnceLock<RecordBatch>,
}

/// Where a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Place {
    pub(in super::super) batch: usize,
    pub(in super::super) row: usize,
}

/// The file is not what was written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the file of the table is damaged: {0}")]
pub(in super::super) struct Damaged(Arc<str>);

impl Damaged {
    fn because(reason: impl std::fmt::Display) -> Damaged {
        Damaged(reason.to_string().into())
    }
}

impl TableFile {
    /// Opens a file of this many bytes, and this checksum of what follows its last batch.
    ///
    /// # Errors
    /// [`Damaged`] where it is missing, has another length or another form.
    pub(in super::super) fn open(path: &Path, bytes: u64, checksum: u32) -> Result<TableFile, Damaged> {
        let file = File::open(path).map_err(Damaged::because)?;
        let found = file.metadata().map_err(Damaged::because)?.len();
        if found != bytes {
            return Err(Damaged::because(format!("it has {found} bytes, {bytes} were written")));
        }
        // SAFETY: the bytes of a map must not change while it is borrowed. The file lies in the data folder, which only
        // this host writes and which is locked; it got to its place whole, by a rename, and is never written again, only
        // unlinked, which leaves the map as it is. That nobody else writes to the folder, and that the disk gives back the
        // same page when it is read again, cannot be proved here: the operator has to see to it, as docs/predictions.md says.
        let map = unsafe { Mmap::map(&file) }.map_err(Damaged::because)?;
        TableFile::of_bytes(Bytes::from_owner(map), checksum)
    }

    /// Reads a table from its bytes.
    ///
    /// # Errors
    /// [`Damaged`].
    pub(super) fn of_bytes(bytes: Bytes, checksum: u32) -> Result<TableFile, Damaged> {
        let buffer = Buffer::from(bytes);
        let footer = footer(&buffer)?;
        let end = end_of_batches(&footer).filter(|end| *end <= buffer.len());
        let rest = end.map(|end| &buffer[end..]).ok_or_else(too_short)?;
        if crc32fast::hash(rest) != checksum {
            return Err(Damaged::because("its footer has another checksum"));
        }
        let schema = footer.schema().ok_or_else(|| Damaged::because("its footer has no schema"))?;
        let schema: SchemaRef = Arc::new(fb_to_schema(schema));
        let is_key = |data_type: &DataType| matches!(data_type, DataType::Int64 | DataType::Utf8);
        if !schema.fields().first().is_some_and(|field| is_key(field.data_type())) {
            return Err(Damaged::because("its first column is no key"));
        }
        let decoder = FileDecoder::new(schema.clone(), footer.version());
        let batches = batches(&footer)?;
        Ok(TableFile { schema, decoder, batches, buffer })
    }

    /// The columns, the key first.
    pub(in super::super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether keys are whole numbers; else they are strings.
    pub(in super::super) fn has_integer_keys(&self) -> bool {
        self.schema.field(0).data_type() == &DataType::Int64
    }

    /// Where the row of a key is.
    ///
    /// # Errors
    /// [`Damaged`].
    pub(in super::super) fn find(&self, key: &TableKey) -> Result<Option<Place>, Damaged> {
        let Some(batch) = self.batch_of(key) else { return Ok(None) };
        let rows = self.batch(batch)?;
        let keys = KeyColumn::new(rows.column(0)).ok_or_else(|| Damaged::because("its keys are none"))?;
        Ok(keys.find(key).map(|row| Place { batch, row }))
    }

    /// Whether a key is looked for without a batch being read and checked first.
    pub(in super::super) fn is_at_hand(&self, key: &TableKey) -> bool {
        let batch = self.batch_of(key).and_then(|batch| self.batches.get(batch));
        batch.is_none_or(|batch| batch.rows.get().is_some())
    }

    /// The batch that a key is in, if it is in any.
    fn batch_of(&self, key: &TableKey) -> Option<usize> {
        self.batches.partition_point(|batch| batch.entry.first_key <= *key).checked_sub(1)
    }

    /// The rows of a batch that a place names.
    ///
    /// # Errors
    /// [`Damaged`].
    pub(in super::super) fn batch(&self, index: usize) -> Result<&RecordBatch, Damaged> {
        let batch = self.batches.get(index).ok_or_else(|| Damaged::because("a batch is missing"))?;
        if let Some(rows) = batch.rows.get() {
            return Ok(rows);
        }
        let rows = self.decode(batch)?;
        Ok(batch.rows.get_or_init(|| rows))
    }

    /// Reads and checks all batches, without keeping them.
    ///
    /// # Errors
    /// [`Damaged`].
    pub(in super::super) fn verify(&self) -> Result<(), Damaged> {
        self.batches.iter().try_for_each(|batch| self.decode(batch).map(|_| ()))
    }

    fn decode(&self, batch: &Batch) -> Result<RecordBatch, Damaged> {
        let range = range(&batch.block).filter(|range| range.end <= self.buffer.len());
        let range = range.ok_or_else(too_short)?;
        let bytes = self.buffer.slice_with_length(range.start, range.len());
        if crc32fast::hash(&bytes) != batch.entry.checksum {
            return Err(Damaged::because("a batch has another checksum"));
        }
        let rows = self.decoder.read_record_batch(&batch.block, &bytes).map_err(Damaged::because)?;
        rows.ok_or_else(|| Damaged::because("a batch holds no rows"))
    }
}

fn footer(buffer: &Buffer) -> Result<Footer<'_>, Damaged> {
    let (rest, trailer) = buffer.split_last_chunk::<TRAILER_BYTES>().ok_or_else(too_short)?;
    let length = read_footer_length(*trailer).map_err(Damaged::because)?;
    let start = rest.len().checked_sub(length).ok_or_else(|| Damaged::because("its footer is cut off"))?;
    root_as_footer(&rest[start..]).map_err(Damaged::because)
}

fn too_short() -> Damaged {
    Damaged::because("its end is missing")
}

/// Where a batch is in the file.
fn range(block: &Block) -> Option<Range<usize>> {
    let start = usize::try_from(block.offset()).ok()?;
    let metadata = usize::try_from(block.metaDataLength()).ok()?;
    let length = metadata.checked_add(usize::try_from(block.bodyLength()).ok()?)?;
    Some(start..start.checked_add(length)?)
}

/// Where the last batch ends; without any, where the file begins.
fn end_of_batches(footer: &Footer<'_>) -> Option<usize> {
    match footer.recordBatches()?.iter().next_back() {
        Some(block) => Some(range(block)?.end),
        None => Some(0),
    }
}

fn batches(footer: &Footer<'_>) -> Result<Vec<Batch>, Damaged> {
    let entries = footer.custom_metadata().into_iter().flatten();
    let described = entries.filter(|entry| entry.key() == Some(BATCHES)).find_map(|entry| entry.value());
    let described: Vec<BatchEntry> =
        serde_json::from_str(described.unwrap_or_default()).map_err(Damaged::because)?;
    let blocks: Vec<Block> = footer.recordBatches().into_iter().flatten().copied().collect();
    if blocks.len() != described.len() {
        return Err(Damaged::because("its footer does not describe each batch"));
    }
    let batch = |(block, entry)| Batch { block, entry, rows: OnceLock::new() };
    Ok(blocks.into_iter().zip(described).map(batch).collect())
}
