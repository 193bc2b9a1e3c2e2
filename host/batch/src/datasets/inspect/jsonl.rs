//! JSON lines: one object a line; its members are the columns. A member that is missing, or null, is a missing value.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead, BufReader, Read as _};

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema_from_iterator;
use serde_json::Value;

use super::{Candidate, Found, MAX_ROW_BYTES, Problem, count_rows};
use crate::datasets::schema::MAX_COLUMNS;

/// The members of the objects in all files, with types that all of their values have. Every line is looked at.
pub(super) fn schema(files: &[Candidate<'_>]) -> Result<Found, Problem> {
    let problem = RefCell::new(None);
    let mut names = Names::default();
    let mut longest_row = 0;
    let objects = files.iter().flat_map(Objects::of).map(|object| {
        let Object { file, row, bytes, value } = object?;
        longest_row = longest_row.max(bytes);
        names.add(&value).map_err(|reason| file.problem_in_row(row, &reason))?;
        Ok(value)
    });
    let values = objects.map(|object| {
        object.map_err(|found: Problem| {
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
    let schema = inferred.map_err(|error| Problem(super::quoted(&error.to_string())))?;
    Ok(Found { schema, longest_row })
}

/// The names of members that there are, those of objects within objects among them: every row may have others, and
/// whoever finds out types keeps all of them.
#[derive(Default)]
struct Names {
    /// Where each one is, hashed: a name may be as long as a row.
    places: HashSet<u64>,
    hasher: RandomState,
}

impl Names {
    fn add(&mut self, object: &Value) -> Result<(), String> {
        self.add_below(0, object)
    }

    /// As deep as the parser lets values be nested, which is not deep.
    fn add_below(&mut self, above: u64, value: &Value) -> Result<(), String> {
        match value {
            Value::Object(members) => members.iter().try_for_each(|(name, member)| {
                let place = self.hasher.hash_one((above, name));
                self.places.insert(place);
                if self.places.len() > MAX_COLUMNS {
                    return Err(format!("there are more names of members: expected at most {MAX_COLUMNS}"));
                }
                self.add_below(place, member)
            }),
            Value::Array(elements) => elements.iter().try_for_each(|element| self.add_below(above, element)),
            _ => Ok(()),
        }
    }
}

/// Counts the objects of a file, and finds the first value that is not of its column's type.
pub(super) fn read(file: &Candidate<'_>, schema: &SchemaRef, batch_rows: usize) -> Result<u64, Problem> {
    file.is_read(0);
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(batch_rows);
    let reader = builder.build(BufReader::new(file.open()?)).map_err(|error| file.problem(&error))?;
    count_rows(reader, |error| first_wrong_row(file, schema).unwrap_or_else(|| file.problem(&error)))
}

/// Once more, row by row, to be able to say which one it is.
fn first_wrong_row(file: &Candidate<'_>, schema: &SchemaRef) -> Option<Problem> {
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(1);
    let reader = builder.build(BufReader::new(file.open().ok()?)).ok()?;
    let (row, error) = (1..).zip(reader).find_map(|(row, batch)| Some((row, batch.err()?)))?;
    Some(file.problem_in_row(row, &error))
}

/// An object, and where it is.
struct Object<'a> {
    file: &'a Candidate<'a>,
    row: u64,
    bytes: u64,
    value: Value,
}

/// The objects of a file. Blank lines count for nothing.
struct Objects<'a> {
    file: &'a Candidate<'a>,
    lines: Result<BufReader<std::fs::File>, Option<Problem>>,
    row: u64,
}

impl<'a> Objects<'a> {
    fn of(file: &'a Candidate<'a>) -> Objects<'a> {
        file.is_read(0);
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

impl<'a> Iterator for Objects<'a> {
    type Item = Result<Object<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_line() {
            Ok(Some(line)) => Some(self.object(&line).map(|value| Object {
                file: self.file,
                row: self.row,
                bytes: line.len() as u64,
                value,
            })),
            Ok(None) => None,
            Err(problem) => Some(Err(problem)),
        }
    }
}
