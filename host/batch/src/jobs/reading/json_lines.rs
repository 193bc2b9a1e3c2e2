//! JSON lines: a row is a line that is not blank. Lines are read together; where that fails, by halves, until exactly
//! the lines that do not fit the schema have failed.

use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use modelhost_serving::Error;
use std::sync::Arc;

use super::splits::{SPLIT_BYTES, SPLIT_ROWS};
use super::text::{MAX_ROW_BYTES, bytes};
use super::{Piece, Plan, RowStream, Rows, Source, Split, numbered, unreadable};
use crate::datasets::OpenFile;
use crate::jobs::fault::{FailedRow, Fault};
use crate::jobs::sizes::BATCH_BYTES;

/// Bytes of lines that are read together.
const BATCH_TEXT: usize = BATCH_BYTES as usize;

/// Adds the splits of a file, until there are so many rows.
pub(super) async fn plan(file: &OpenFile, index: usize, limit: u64, plan: &mut Plan) -> Result<(), Error> {
    let mut lines = Lines::new(file.clone(), 0..file.file.bytes);
    let mut open = Split {
        file: index,
        first_row: plan.rows(),
        rows: 0,
        row_in_file: 0,
        first_byte: 0,
        end_byte: 0,
        only: None,
    };
    loop {
        let most = (SPLIT_ROWS - open.rows).min(1_024) as usize;
        let block = lines.take(most).await?;
        open.rows += block.len() as u64;
        open.end_byte = lines.position;
        let is_over = lines.is_over || open.first_row + open.rows >= limit;
        if is_over || open.rows >= SPLIT_ROWS || open.end_byte - open.first_byte >= SPLIT_BYTES {
            let next = Split {
                first_row: open.first_row + open.rows,
                rows: 0,
                row_in_file: open.row_in_file + open.rows,
                first_byte: open.end_byte,
                ..open.clone()
            };
            let closed = std::mem::replace(&mut open, next);
            if closed.rows > 0 {
                plan.splits.push(closed);
            }
        }
        if is_over {
            return Ok(());
        }
    }
}

/// The lines of a text that are not blank.
struct Lines {
    file: OpenFile,
    chunks: BoxStream<'static, Result<Bytes, Error>>,
    chunk: Bytes,
    /// The end of the last line that was taken.
    position: u64,
    is_over: bool,
}

/// Lines in one piece of memory.
#[derive(Default)]
struct Block {
    text: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Block {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn lines(&self, range: Range<usize>) -> &[u8] {
        let start = range.start.checked_sub(1).map_or(0, |before| self.ends[before]);
        let end = range.end.checked_sub(1).map_or(0, |last| self.ends[last]);
        self.text.get(start..end).unwrap_or_default()
    }
}

impl Lines {
    fn new(file: OpenFile, range: Range<u64>) -> Lines {
        let position = range.start;
        Lines { chunks: bytes(file.clone(), range), file, chunk: Bytes::new(), position, is_over: false }
    }

    /// So many lines, or fewer if they are long, or what is left.
    async fn take(&mut self, most: usize) -> Result<Block, Error> {
        let mut block = Block::default();
        let mut line_start = 0;
        while block.len() < most && line_start < BATCH_TEXT && !self.is_over {
            if self.chunk.is_empty() {
                match self.chunks.next().await {
                    Some(chunk) => self.chunk = chunk?,
                    None => self.is_over = true,
                }
            }
            let line_feed = self.chunk.iter().position(|byte| *byte == b'\n');
            let taken = self.chunk.split_to(line_feed.map_or(self.chunk.len(), |place| place + 1));
            self.position += taken.len() as u64;
            block.text.extend_from_slice(&taken);
            if block.text.len() - line_start > MAX_ROW_BYTES {
                let place = format!("before byte {}", self.position);
                return Err(unreadable(
                    &self.file,
                    &place,
                    &format!("a line has more than {MAX_ROW_BYTES} bytes"),
                ));
            }
            if line_feed.is_some() || self.is_over {
                let is_blank = block.text[line_start..].iter().all(u8::is_ascii_whitespace);
                if is_blank {
                    block.text.truncate(line_start);
                } else {
                    block.ends.push(block.text.len());
                }
                line_start = block.text.len();
            }
        }
        Ok(block)
    }
}

/// The rows of a piece.
pub(super) fn read(source: &Source, piece: &Piece) -> RowStream {
    let file = match source.file(piece.split.file) {
        Ok(file) => file.clone(),
        Err(error) => return stream::once(async { Err(error) }).boxed(),
    };
    let nullable = |field: &FieldRef| field.as_ref().clone().with_nullable(true);
    let reading = Reading {
        lines: Lines::new(file, piece.split.first_byte..piece.split.end_byte),
        schema: Arc::new(Schema::new(source.columns.iter().map(nullable).collect::<Vec<_>>())),
        columns: source.columns.clone(),
        key: source.key.clone(),
        batch_size: source.batch_size,
        next_row: piece.split.first_row,
        first_row: piece.first_row,
        end_row: piece.end_row,
    };
    stream::try_unfold(reading, Reading::next).boxed()
}

struct Reading {
    lines: Lines,
    schema: SchemaRef,
    columns: Vec<FieldRef>,
    key: Option<String>,
    batch_size: usize,
    next_row: u64,
    first_row: u64,
    end_row: u64,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Rows, Reading)>, Error> {
        while self.next_row < self.end_row {
            // What was done before is read once more, and dropped.
            let end = if self.next_row < self.first_row { self.first_row } else { self.end_row };
            let most = self.batch_size.min(usize::try_from(end - self.next_row).unwrap_or(usize::MAX));
            let block = self.lines.take(most).await?;
            if block.len() == 0 {
                return Ok(None);
            }
            let first = self.next_row;
            self.next_row += block.len() as u64;
            if first >= self.first_row {
                let rows = self.decode(&block, first).map_err(|error| self.refuse(first, &error))?;
                return Ok(Some((rows, self)));
            }
        }
        Ok(None)
    }

    fn decode(&self, block: &Block, first: u64) -> Result<Rows, ArrowError> {
        let mut batches = Vec::new();
        let mut numbers: Vec<u64> = Vec::with_capacity(block.len());
        let mut failed = Vec::new();
        let mut left = Vec::from_iter(std::iter::once(0..block.len()));
        while let Some(range) = left.pop() {
            match self.decode_lines(block, range.clone()) {
                Ok(batch) => {
                    numbers.extend(range.map(|line| first + line as u64));
                    batches.push(batch);
                }
                Err(error) if range.len() == 1 => {
                    failed.push(self.failed_row(block, range.start, first, &error))
                }
                Err(_) => {
                    let middle = range.start + range.len() / 2;
                    left.push(middle..range.end);
                    left.push(range.start..middle);
                }
            }
        }
        let all =
            if let [_] = batches[..] { batches.remove(0) } else { concat_batches(&self.schema, &batches)? };
        let arrays: Vec<ArrayRef> = all.columns().to_vec();
        Ok(Rows { batch: numbered(&self.columns, arrays, numbers)?, failed })
    }

    fn decode_lines(&self, block: &Block, range: Range<usize>) -> Result<RecordBatch, ArrowError> {
        let lines = range.len();
        let mut decoder =
            ReaderBuilder::new(self.schema.clone()).with_batch_size(lines.max(1)).build_decoder()?;
        let text = block.lines(range);
        let read = decoder.decode(text)?;
        let batch = decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(self.schema.clone()));
        let is_whole = text.get(read..).unwrap_or_default().iter().all(u8::is_ascii_whitespace);
        if batch.num_rows() != lines || !is_whole {
            return Err(ArrowError::JsonError("a line holds more or less than one object".into()));
        }
        Ok(batch)
    }

    fn failed_row(&self, block: &Block, line: usize, first: u64, error: &ArrowError) -> FailedRow {
        let object = || serde_json::from_slice::<serde_json::Value>(block.lines(line..line + 1)).ok();
        let key = self.key.as_ref().and_then(|key| Some(object()?.get(key)?.clone()));
        let key = key.filter(|key| key.is_number() || key.is_string());
        let reason = error.to_string();
        let reason: String = reason.lines().next().unwrap_or_default().chars().take(300).collect();
        let reason = format!("the line does not fit the columns of the dataset: {reason}");
        FailedRow { row: first + line as u64, key, code: Fault::TYPE.to_owned(), reason }
    }

    fn refuse(&self, row: u64, error: &ArrowError) -> Error {
        unreadable(&self.lines.file, &format!("from row {row}"), error)
    }
}
