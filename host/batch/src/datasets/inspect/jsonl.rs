//! JSON lines: one object a line; its members are the columns. A member that is missing, or null, is a missing value.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read as _};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema_from_iterator;
use serde_json::Value;

use super::{BATCH_ROWS, Candidate, MAX_ROW_BYTES, Problem};

/// The members of the objects in all files, with types that all of their values have. Every line is looked at.
pub(super) fn schema(files: &[Candidate<'_>]) -> Result<SchemaRef, Problem> {
    let problem = RefCell::new(None);
    let values = files.iter().flat_map(Objects::of).map(|object| {
        object.map_err(|found| {
            // Arrow's error says neither file nor row; this one does.
            let reason = ArrowError::JsonError(found.to_string());
            problem.replace(Some(found));
            reason
        })
    });
    let inferred = infer_json_schema_from_iterator(values);
    if let Some(problem) = problem.take() {
        return Err(problem);
    }
    inferred.map(Arc::new).map_err(|error| Problem(super::quoted(&error.to_string())))
}

/// Counts the objects of a file, and finds the first value that is not of its column's type.
pub(super) fn read(file: &Candidate<'_>, schema: &SchemaRef) -> Result<u64, Problem> {
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(BATCH_ROWS);
    let reader = builder.build(BufReader::new(file.open()?)).map_err(|error| file.problem(&error))?;
    let mut rows = 0;
    for batch in reader {
        match batch {
            Ok(batch) => rows += batch.num_rows() as u64,
            Err(error) => return Err(first_wrong_row(file, schema).unwrap_or_else(|| file.problem(&error))),
        }
    }
    Ok(rows)
}

/// Once more, row by row, to be able to say which one it is.
fn first_wrong_row(file: &Candidate<'_>, schema: &SchemaRef) -> Option<Problem> {
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(1);
    let reader = builder.build(BufReader::new(file.open().ok()?)).ok()?;
    let (row, error) = (1..).zip(reader).find_map(|(row, batch)| Some((row, batch.err()?)))?;
    Some(file.problem_in_row(row, &error))
}

/// The objects of a file. Blank lines count for nothing.
struct Objects<'a> {
    file: &'a Candidate<'a>,
    lines: Result<BufReader<std::fs::File>, Option<Problem>>,
    row: u64,
}

impl<'a> Objects<'a> {
    fn of(file: &'a Candidate<'a>) -> Objects<'a> {
        Objects { file, lines: file.open().map(BufReader::new).map_err(Some), row: 0 }
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        let file = self.file;
        let reader = match &mut self.lines {
            Ok(reader) => reader,
            Err(problem) => return problem.take().map_or(Ok(None), Err),
        };
        loop {
            let mut line = Vec::new();
            let read = reader.by_ref().take(MAX_ROW_BYTES + 1).read_until(b'\n', &mut line);
            if read.map_err(|error| file.problem(&error))? == 0 {
                return Ok(None);
            }
            if line.iter().all(u8::is_ascii_whitespace) && line.len() as u64 <= MAX_ROW_BYTES {
                continue;
            }
            self.row += 1;
            if line.len() as u64 > MAX_ROW_BYTES {
                let reason = format!("it is longer than {MAX_ROW_BYTES} bytes");
                return Err(file.problem_in_row(self.row, &reason));
            }
            return Ok(Some(line));
        }
    }

    fn object(&self, line: &[u8]) -> Result<Value, Problem> {
        let wrong = |reason: &dyn std::fmt::Display| {
            self.file.problem_in_row(self.row, &format!("it is no JSON object on one line ({reason})"))
        };
        let value: Value = serde_json::from_slice(line).map_err(|error| wrong(&error))?;
        if value.is_object() { Ok(value) } else { Err(wrong(&"it is another value")) }
    }
}

impl Iterator for Objects<'_> {
    type Item = Result<Value, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_line() {
            Ok(Some(line)) => Some(self.object(&line)),
            Ok(None) => None,
            Err(problem) => Some(Err(problem)),
        }
    }
}
