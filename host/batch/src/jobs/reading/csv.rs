//! CSV: the places of rows are found by a first pass with the parser that reads them later, quotes and all. Cells are
//! read as texts first, so that one that is not of its column's type fails its own row only.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Decoder;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use bytes::{Buf as _, Bytes};
use csv_core::{ReadRecordResult, Reader};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use modelhost_core::ErrorCode;
use modelhost_serving::Error;

use super::splits::{SPLIT_BYTES, SPLIT_ROWS};
use super::text::{MAX_ROW_BYTES, bytes};
use super::{Piece, Plan, RowStream, Rows, Source, Split, numbered, unreadable};
use crate::datasets::OpenFile;
use crate::jobs::convert::{Converted, key_of, read_as, shown};
use crate::jobs::fault::{FailedRow, Fault};
use crate::jobs::sizes::BATCH_BYTES;

/// Adds the splits of a file with so many columns, until there are so many rows.
pub(super) async fn plan(
    file: &OpenFile,
    index: usize,
    columns: usize,
    most: u64,
    plan: &mut Plan,
) -> Result<(), Error> {
    let mut scan = Scan::new(file, index, columns, plan.rows());
    let mut chunks = bytes(file.clone(), 0..file.file.bytes);
    while let Some(chunk) = chunks.next().await {
        scan.read(&chunk?)?;
        if scan.open.first_row + scan.open.rows >= most {
            break;
        }
    }
    // The end of the input ends the last row.
    scan.read(&[])?;
    plan.splits.extend(scan.finish());
    Ok(())
}

/// Finds where rows begin.
struct Scan<'a> {
    file: &'a OpenFile,
    index: usize,
    columns: usize,
    parser: Reader,
    /// Nobody looks at the texts.
    discarded: Vec<u8>,
    ends: Vec<usize>,
    fields: usize,
    row_bytes: usize,
    position: u64,
    is_header: bool,
    splits: Vec<Split>,
    open: Split,
}

impl<'a> Scan<'a> {
    fn new(file: &'a OpenFile, index: usize, columns: usize, first_row: u64) -> Scan<'a> {
        let open =
            Split { file: index, first_row, rows: 0, row_in_file: 0, first_byte: 0, end_byte: 0, only: None };
        Scan {
            file,
            index,
            columns,
            parser: Reader::new(),
            discarded: vec![0; 64 << 10],
            ends: vec![0; 1 << 10],
            fields: 0,
            row_bytes: 0,
            position: 0,
            is_header: true,
            splits: Vec::new(),
            open,
        }
    }

    fn read(&mut self, mut input: &[u8]) -> Result<(), Error> {
        loop {
            let (result, read, _, ends) = self.parser.read_record(input, &mut self.discarded, &mut self.ends);
            input = input.get(read..).unwrap_or_default();
            self.position += read as u64;
            self.row_bytes += read;
            self.fields += ends;
            if self.row_bytes > MAX_ROW_BYTES {
                return Err(self.refuse(&format!("it has more than {MAX_ROW_BYTES} bytes")));
            }
            match result {
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return Ok(()),
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {}
                ReadRecordResult::Record => self.end_row()?,
            }
        }
    }

    fn end_row(&mut self) -> Result<(), Error> {
        let fields = std::mem::take(&mut self.fields);
        self.row_bytes = 0;
        if fields != self.columns {
            return Err(self.refuse(&format!("it has {fields} columns: expected {}", self.columns)));
        }
        if std::mem::replace(&mut self.is_header, false) {
            (self.open.first_byte, self.open.end_byte) = (self.position, self.position);
            return Ok(());
        }
        self.open.rows += 1;
        self.open.end_byte = self.position;
        if self.open.rows >= SPLIT_ROWS || self.position - self.open.first_byte >= SPLIT_BYTES {
            self.close();
        }
        Ok(())
    }

    fn close(&mut self) {
        let next = Split {
            file: self.index,
            first_row: self.open.first_row + self.open.rows,
            rows: 0,
            row_in_file: self.open.row_in_file + self.open.rows,
            first_byte: self.position,
            end_byte: self.position,
            only: None,
        };
        let closed = std::mem::replace(&mut self.open, next);
        if closed.rows > 0 {
            self.splits.push(closed);
        }
    }

    fn finish(mut self) -> Vec<Split> {
        self.close();
        self.splits
    }

    fn refuse(&self, reason: &str) -> Error {
        let row = self.open.row_in_file + self.open.rows;
        let line = self.parser.line().saturating_sub(1);
        unreadable(self.file, &format!("at row {row}, which ends at line {line}"), &reason)
    }
}

/// The rows of a piece.
pub(super) fn read(source: &Source, piece: &Piece) -> RowStream {
    match Reading::new(source, piece) {
        Ok(reading) => stream::try_unfold(reading, Reading::next).boxed(),
        Err(error) => stream::once(async { Err(error) }).boxed(),
    }
}

struct Reading {
    file: OpenFile,
    columns: Vec<FieldRef>,
    key: Option<String>,
    decoder: Decoder,
    chunks: BoxStream<'static, Result<Bytes, Error>>,
    chunk: Bytes,
    is_over: bool,
    next_row: u64,
    first_row: u64,
    end_row: u64,
}

impl Reading {
    fn new(source: &Source, piece: &Piece) -> Result<Reading, Error> {
        let file = source.file(piece.split.file)?.clone();
        let texts = source.schema.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true));
        let texts = Arc::new(Schema::new(texts.collect::<Vec<_>>()));
        let places = source.columns.iter().map(|column| texts.index_of(column.name()));
        let places = places.collect::<Result<Vec<_>, _>>().map_err(Error::internal)?;
        // As many as are not more bytes than a batch should have, if they are all alike.
        let written = piece.split.end_byte.saturating_sub(piece.split.first_byte).max(1);
        let fitting = BATCH_BYTES.saturating_mul(piece.split.rows) / written;
        let batch_size = usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, source.batch_size);
        let decoder = ReaderBuilder::new(texts)
            .with_header(false)
            .with_batch_size(batch_size)
            .with_projection(places)
            .build_decoder();
        Ok(Reading {
            chunks: bytes(file.clone(), piece.split.first_byte..piece.split.end_byte),
            file,
            columns: source.columns.clone(),
            key: source.key.clone(),
            decoder,
            chunk: Bytes::new(),
            is_over: false,
            next_row: piece.split.first_row,
            first_row: piece.first_row,
            end_row: piece.end_row,
        })
    }

    async fn next(mut self) -> Result<Option<(Rows, Reading)>, Error> {
        while self.next_row < self.end_row {
            let Some(texts) = self.decode().await? else { return Ok(None) };
            let numbers = self.next_row..self.next_row + texts.num_rows() as u64;
            self.next_row = numbers.end;
            let from = numbers.start.max(self.first_row);
            let to = numbers.end.min(self.end_row);
            if from < to {
                // What was done before is read once more, and dropped.
                let texts = texts.slice((from - numbers.start) as usize, (to - from) as usize);
                return Ok(Some((self.typed(&texts, from)?, self)));
            }
        }
        Ok(None)
    }

    async fn decode(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            if self.chunk.is_empty() && !self.is_over {
                match self.chunks.next().await {
                    Some(chunk) => self.chunk = chunk?,
                    None => self.is_over = true,
                }
            }
            let decoded = self.decoder.decode(&self.chunk).map_err(|error| self.refuse(&error))?;
            self.chunk.advance(decoded);
            let is_full = self.decoder.capacity() == 0 || !self.chunk.is_empty();
            if is_full || self.is_over {
                return self.decoder.flush().map_err(|error| self.refuse(&error));
            }
        }
    }

    /// Cells of the types of their columns; rows in which one is not go to the failed ones.
    fn typed(&self, texts: &RecordBatch, first: u64) -> Result<Rows, Error> {
        let mut failed: Vec<Option<Fault>> = vec![None; texts.num_rows()];
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, cells) in self.columns.iter().zip(texts.columns()) {
            let Converted { values, misfits } =
                read_as(cells, column.data_type()).map_err(|error| self.refuse(&error))?;
            for cell in misfits {
                let (name, value, wanted) = (column.name(), shown(cells, cell), column.data_type());
                let fault =
                    || Fault::new(Fault::TYPE, format!("column {name:?} is {value}: expected {wanted}"));
                failed[cell].get_or_insert_with(fault);
            }
            arrays.push(values);
        }
        self.rows(texts, arrays, failed, first).map_err(|error| self.refuse(&error))
    }

    fn rows(
        &self,
        texts: &RecordBatch,
        mut arrays: Vec<ArrayRef>,
        failed: Vec<Option<Fault>>,
        first: u64,
    ) -> Result<Rows, arrow::error::ArrowError> {
        if failed.iter().any(Option::is_some) {
            let fits: BooleanArray = failed.iter().map(|fault| Some(fault.is_none())).collect();
            arrays = arrays.iter().map(|array| filter(array, &fits)).collect::<Result<_, _>>()?;
        }
        let numbers = (first..).zip(&failed).filter(|(_, fault)| fault.is_none()).map(|(row, _)| row);
        let batch = numbered(&self.columns, arrays, numbers)?;
        let keys = self.key.as_ref().and_then(|key| texts.column_by_name(key));
        let failed = failed.into_iter().enumerate().filter_map(|(index, fault)| {
            let Fault { code, reason } = fault?;
            let key = keys.and_then(|keys| key_of(keys, index));
            Some(FailedRow { row: first + index as u64, key, code: code.to_owned(), reason })
        });
        Ok(Rows { batch, failed: failed.collect() })
    }

    fn refuse(&self, error: &arrow::error::ArrowError) -> Error {
        match error {
            arrow::error::ArrowError::MemoryError(_) => Error::new(ErrorCode::Unavailable, error.to_string()),
            _ => unreadable(&self.file, &format!("from row {}", self.next_row), error),
        }
    }
}
