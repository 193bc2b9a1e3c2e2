//! What is in the files of a dataset: each is read from its first to its last byte, so that what is stored can be read
//! later. Files are hostile: what is wrong with one is said with its name and the row; and what cannot be held in check
//! from within, such as what the libraries allocate, is by the limits of the [`process`] that does this. Every call
//! blocks.

mod csv;
mod jsonl;
pub(super) mod parquet;
pub(super) mod process;
mod row_limit;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use super::schema::DatasetSchema;
use super::version::DataFormat;

/// Longest row of a file of text, in bytes: what reads rows holds some thousands of them at once.
const MAX_ROW_BYTES: u64 = 1 << 20;
/// Rows of text that are decoded at once: as many of the longest rows as have so many bytes, and not more than these.
/// Decoded they take some ten times as much.
const BATCH_BYTES: u64 = 32 << 20;
const MAX_BATCH_ROWS: u64 = 512;
/// Longest part of a sentence that comes from a file.
const MAX_QUOTED: usize = 300;

/// A file to look into.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// For sentences.
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
    /// Told before a part of a file is read: the name of the file, and the row with which that begins, if it is known.
    pub(super) begins: &'a dyn Fn(&str, u64),
}

/// What was found in the files of one version.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Contents {
    pub(super) schema: DatasetSchema,
    /// Of each file, in their order.
    pub(super) rows: Vec<u64>,
}

/// Something that is wrong with a file, in one sentence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Problem(String);

/// The types that whoever uploads says columns are of, by their names.
pub(super) type Types = BTreeMap<String, DataType>;

/// Looks into all files of a version, which have the same columns. `types` overrule what is found in text.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn inspect(
    files: &[Candidate<'_>],
    format: DataFormat,
    types: &Types,
) -> Result<Contents, Problem> {
    if format == DataFormat::Parquet && !types.is_empty() {
        return Err(Problem("types are for CSV and JSON lines: a Parquet file says its own".to_owned()));
    }
    let Found { schema, longest_row } = match format {
        DataFormat::Parquet => same_columns(files, parquet::schema)?,
        DataFormat::Csv => same_columns(files, csv::schema)?,
        DataFormat::Jsonl => jsonl::schema(files)?,
    };
    let schema = match format {
        DataFormat::Parquet => Arc::new(schema),
        DataFormat::Csv | DataFormat::Jsonl => with_types(&schema, types)?,
    };
    check_columns(files, &schema)?;
    let read = match format {
        DataFormat::Parquet => parquet::read,
        DataFormat::Csv => csv::read,
        DataFormat::Jsonl => jsonl::read,
    };
    let batch_rows = batch_rows(longest_row);
    let rows = files.iter().map(|file| read(file, &schema, batch_rows)).collect::<Result<_, _>>()?;
    Ok(Contents { schema: DatasetSchema::of(&schema), rows })
}

/// What the footers of Parquet files by themselves say is in these.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn inspect_footers(files: &[Candidate<'_>]) -> Result<Contents, Problem> {
    let Found { schema, .. } = same_columns(files, parquet::schema_of_footer)?;
    check_columns(files, &schema)?;
    let rows = files.iter().map(parquet::rows_of_footer).collect::<Result<_, _>>()?;
    Ok(Contents { schema: DatasetSchema::of(&schema), rows })
}

/// The columns of files, and how many bytes the longest of their rows has, where they are text.
struct Found {
    schema: Schema,
    longest_row: u64,
}

fn batch_rows(longest_row: u64) -> usize {
    let rows = (BATCH_BYTES / longest_row.max(1)).clamp(1, MAX_BATCH_ROWS);
    // At most a constant that fits.
    usize::try_from(rows).unwrap_or(1)
}

fn check_columns(files: &[Candidate<'_>], schema: &Schema) -> Result<(), Problem> {
    let problem = DatasetSchema::of(schema).problem();
    problem.map_or(Ok(()), |problem| Err(Problem(format!("{}: {}", names(files), quoted(&problem)))))
}

/// Counts the rows of what is read, up to what cannot be.
fn count_rows(
    mut batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    problem: impl FnOnce(ArrowError) -> Problem,
) -> Result<u64, Problem> {
    let counted = batches.try_fold(0, |rows, batch| Ok(rows + batch?.num_rows() as u64));
    counted.map_err(problem)
}

impl Candidate<'_> {
    /// Its part that begins with this row is read now; 0: it as a whole.
    fn is_read(&self, row: u64) {
        (self.begins)(self.name, row);
    }

    fn open(&self) -> Result<File, Problem> {
        File::open(self.path).map_err(|error| self.problem(&error))
    }

    fn problem(&self, reason: &dyn std::fmt::Display) -> Problem {
        Problem(format!("file {:?}: {}", self.name, quoted(&reason.to_string())))
    }

    fn problem_in_row(&self, row: u64, reason: &dyn std::fmt::Display) -> Problem {
        Problem(format!("file {:?}, row {row}: {}", self.name, quoted(&reason.to_string())))
    }
}

fn names(files: &[Candidate<'_>]) -> String {
    match files {
        [file] => format!("file {:?}", file.name),
        files => format!("the {} files", files.len()),
    }
}

/// The beginning of a text that may come from a file.
fn quoted(text: &str) -> String {
    let mut characters = text.chars();
    let mut quoted: String = characters.by_ref().take(MAX_QUOTED).collect();
    if characters.next().is_some() {
        quoted.push('…');
    }
    quoted
}

/// The columns that all files have, which must be the same ones in the same order.
fn same_columns(
    files: &[Candidate<'_>],
    schema_of: fn(&Candidate<'_>) -> Result<Found, Problem>,
) -> Result<Found, Problem> {
    let mut fields: Option<Vec<Field>> = None;
    let mut longest = 0;
    for file in files {
        file.is_read(0);
        let Found { schema, longest_row } = schema_of(file)?;
        longest = longest.max(longest_row);
        let found = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields = Some(match fields {
            None => found,
            Some(before) => joined(&before, found, file)?,
        });
    }
    Ok(Found { schema: Schema::new(fields.unwrap_or_default()), longest_row: longest })
}

fn joined(before: &[Field], found: Vec<Field>, file: &Candidate<'_>) -> Result<Vec<Field>, Problem> {
    let names =
        |fields: &[Field]| fields.iter().map(|field| field.name().clone()).collect::<Vec<_>>().join(", ");
    let is_same = before.len() == found.len() && before.iter().zip(&found).all(|(a, b)| a.name() == b.name());
    if !is_same {
        let reason =
            format!("its columns are {}: expected those of the first file, {}", names(&found), names(before));
        return Err(file.problem(&reason));
    }
    let join = |(before, found): (&Field, Field)| {
        let data_type = common_type(before.data_type(), found.data_type()).ok_or_else(|| {
            let (name, found, before) = (found.name(), found.data_type(), before.data_type());
            file.problem(&format!(
                "column {name:?} is of type {found}: expected {before}, as in the first file"
            ))
        })?;
        let is_nullable = before.is_nullable() || found.is_nullable();
        Ok(Field::new(found.name(), data_type, is_nullable))
    };
    before.iter().zip(found).map(join).collect()
}

/// The type that values of both types have in a file of text. Parquet files have the same ones.
fn common_type(one: &DataType, other: &DataType) -> Option<DataType> {
    match (one, other) {
        (one, other) if one == other => Some(one.clone()),
        (DataType::Null, known) | (known, DataType::Null) => Some(known.clone()),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => {
            Some(DataType::Float64)
        }
        _ => None,
    }
}

/// The columns with the types that were asked for. A column without any value is of text.
fn with_types(schema: &Schema, types: &Types) -> Result<SchemaRef, Problem> {
    if let Some(unknown) = types.keys().find(|name| schema.field_with_name(name).is_err()) {
        return Err(Problem(format!("types names {:?}, which is no column of the files", quoted(unknown))));
    }
    let typed = |field: &Arc<Field>| {
        let data_type = types.get(field.name()).unwrap_or(field.data_type());
        let data_type = if *data_type == DataType::Null { &DataType::Utf8 } else { data_type };
        field.as_ref().clone().with_data_type(data_type.clone())
    };
    Ok(Arc::new(Schema::new(schema.fields().iter().map(typed).collect::<Vec<_>>())))
}

#[cfg(test)]
#[path = "../inspect_tests.rs"]
mod tests;
