//! CSV: a header line, then rows with as many fields as that. An empty field is a missing value.

use std::io::BufReader;

use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::SchemaRef;
use csv::ErrorKind;

use super::row_limit::RowLimit;
use super::{Candidate, Found, Problem, count_rows};
use crate::datasets::schema::MAX_COLUMNS;

/// The columns of a file, with types that all of its values have. Every row is looked at.
pub(super) fn schema(file: &Candidate<'_>) -> Result<Found, Problem> {
    let longest_row = check_structure(file)?;
    let inferred = Format::default().with_header(true).infer_schema(BufReader::new(file.open()?), None);
    inferred.map(|(schema, _)| Found { schema, longest_row }).map_err(|error| file.problem(&error))
}

/// Counts the rows of a file, and finds the first value that is not of its column's type.
pub(super) fn read(file: &Candidate<'_>, schema: &SchemaRef, batch_rows: usize) -> Result<u64, Problem> {
    file.is_read(0);
    let builder = ReaderBuilder::new(schema.clone()).with_header(true).with_batch_size(batch_rows);
    let reader = builder.build(file.open()?).map_err(|error| file.problem(&error))?;
    count_rows(reader, |error| first_wrong_row(file, schema).unwrap_or_else(|| file.problem(&error)))
}

/// Once more, row by row, to be able to say which one it is.
fn first_wrong_row(file: &Candidate<'_>, schema: &SchemaRef) -> Option<Problem> {
    let builder = ReaderBuilder::new(schema.clone()).with_header(true).with_batch_size(1);
    let reader = builder.build(file.open().ok()?).ok()?;
    let (row, error) = (1..).zip(reader).find_map(|(row, batch)| Some((row, batch.err()?)))?;
    Some(file.problem_in_row(row, &error))
}

/// Whether the text has the form of a table. Answers how many bytes its longest row has.
fn check_structure(file: &Candidate<'_>) -> Result<u64, Problem> {
    let (limited, ends) = RowLimit::new(file.open()?);
    let mut reader = csv::ReaderBuilder::new().has_headers(true).from_reader(limited);
    let columns = reader.headers().map_err(|error| described(file, 0, &error))?.len();
    if columns == 0 {
        return Err(file.problem(&"it is empty: expected a header line"));
    }
    if columns > MAX_COLUMNS {
        return Err(file.problem(&format!("it has {columns} columns: expected at most {MAX_COLUMNS}")));
    }
    ends.row_ended();
    let mut record = csv::StringRecord::new();
    let (mut row, mut longest) = (0, 0);
    loop {
        row += 1;
        match reader.read_record(&mut record) {
            Ok(true) => {
                ends.row_ended();
                longest = longest.max(record.as_slice().len() as u64);
            }
            Ok(false) => return Ok(longest),
            Err(error) => return Err(described(file, row, &error)),
        }
    }
}

/// The header is row 0.
fn described(file: &Candidate<'_>, row: u64, error: &csv::Error) -> Problem {
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let reason =
                format!("it has {len} fields: expected {expected_len}, as many as there are columns");
            file.problem_in_row(row, &reason)
        }
        ErrorKind::Utf8 { err, .. } => {
            file.problem_in_row(row, &format!("field {} is not UTF-8", err.field() + 1))
        }
        ErrorKind::Io(error) => file.problem_in_row(row, &error),
        _ => file.problem_in_row(row, error),
    }
}
