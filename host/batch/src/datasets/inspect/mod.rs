//! What is in the files of a dataset: each is read from its first to its last byte, so that what is stored can be read
//! later. Files are hostile: what is wrong with one is said with its name and the row. Every call blocks.

mod csv;
mod jsonl;
mod parquet;
mod row_limit;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::schema::DatasetSchema;
use super::version::DataFormat;

/// Longest row of a file of text, in bytes: what reads rows holds some thousands of them at once.
const MAX_ROW_BYTES: u64 = 1 << 20;
/// Rows that are decoded at once. Small, so that a batch of the longest rows fits in memory.
const BATCH_ROWS: usize = 512;
/// Longest part of a sentence that comes from a file.
const MAX_QUOTED: usize = 300;

/// A file to look into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    /// For sentences.
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
}

/// What was found in the files of one version.
#[derive(Debug)]
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
    let schema = match format {
        DataFormat::Parquet => same_columns(files, parquet::schema)?,
        DataFormat::Csv => with_types(same_columns(files, csv::schema)?, types)?,
        DataFormat::Jsonl => with_types(jsonl::schema(files)?, types)?,
    };
    let problem = DatasetSchema::of(&schema).problem();
    problem.map_or(Ok(()), |problem| Err(Problem(format!("{}: {problem}", names(files)))))?;
    let read = match format {
        DataFormat::Parquet => parquet::read,
        DataFormat::Csv => csv::read,
        DataFormat::Jsonl => jsonl::read,
    };
    let rows = files.iter().map(|file| read(file, &schema)).collect::<Result<_, _>>()?;
    Ok(Contents { schema: DatasetSchema::of(&schema), rows })
}

impl Candidate<'_> {
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
    schema_of: fn(&Candidate<'_>) -> Result<Schema, Problem>,
) -> Result<SchemaRef, Problem> {
    let mut fields: Option<Vec<Field>> = None;
    for file in files {
        let schema = schema_of(file)?;
        let found = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields = Some(match fields {
            None => found,
            Some(before) => joined(&before, found, file)?,
        });
    }
    Ok(Arc::new(Schema::new(fields.unwrap_or_default())))
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
fn with_types(schema: SchemaRef, types: &Types) -> Result<SchemaRef, Problem> {
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
