//! The rows: real ones, repeated under keys of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Int64Type, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

/// Rows of a group, as writers for analytics make them.
const GROUP_ROWS: usize = 122_880;

/// Which rows, and how many.
#[derive(Clone, Copy, Debug)]
pub enum Rows {
    /// Of the census data in `tests/data`.
    Census(usize),
    /// Mails of the reference cases of the plugin `spam`.
    Mails(usize),
}

impl Rows {
    /// How many.
    pub fn count(self) -> usize {
        match self {
            Rows::Census(count) | Rows::Mails(count) => count,
        }
    }

    /// As a Parquet file.
    pub fn parquet(self) -> Result<Vec<u8>> {
        let original = self.original()?;
        let schema = with_keys(&original, 0)?.schema();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_compression(Compression::SNAPPY)
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        for first in (0..self.count()).step_by(original.num_rows()) {
            let part = original.slice(0, original.num_rows().min(self.count() - first));
            writer.write(&with_keys(&part, i64::try_from(first)?)?)?;
        }
        Ok(writer.into_inner()?)
    }

    fn original(self) -> Result<RecordBatch> {
        match self {
            Rows::Census(_) => {
                let bytes = fs::read(checkout("tests/data/income.parquet"))?;
                let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?;
                let schema = reader.schema().clone();
                Ok(concat_batches(&schema, &reader.build()?.collect::<Result<Vec<_>, _>>()?)?)
            }
            Rows::Mails(_) => {
                let cases: Value =
                    serde_json::from_slice(&fs::read(checkout("plugins/spam/tests/reference.json"))?)?;
                let cases = cases.as_array().context("the reference cases are a list")?;
                let texts = cases.iter().filter_map(|case| case["request"]["inputs"][0]["data"].as_array());
                let texts: StringArray = texts.flatten().map(Value::as_str).collect();
                Ok(RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)])?)
            }
        }
    }

    /// What a job over them has to be told.
    pub fn mapping(self) -> Value {
        match self {
            Rows::Mails(_) => json!({}),
            Rows::Census(_) => {
                let or_unknown = |column: &str| json!({ "column": column, "if_null": "?" });
                json!({
                    "workclass": or_unknown("workclass"),
                    "occupation": or_unknown("occupation"),
                    "native_country": or_unknown("native_country"),
                })
            }
        }
    }

    /// A request for the first of them.
    pub fn request(self) -> Result<Value> {
        let row = self.original()?.slice(0, 1);
        let tensor = |name: &str| {
            let column = row.column_by_name(name).with_context(|| format!("there is no column {name}"))?;
            Ok::<Value, anyhow::Error>(match column.as_primitive_opt::<Int64Type>() {
                Some(number) => {
                    json!({ "name": name, "datatype": "FP32", "shape": [1], "data": [number.value(0)] })
                }
                None => {
                    let text = column.as_string::<i32>();
                    let text = if text.is_null(0) { "?" } else { text.value(0) };
                    json!({ "name": name, "datatype": "BYTES", "shape": [1], "data": [text] })
                }
            })
        };
        let names: &[&str] = match self {
            Rows::Census(_) => &CENSUS,
            Rows::Mails(_) => &["text"],
        };
        let inputs = names.iter().map(|name| tensor(name)).collect::<Result<Vec<_>>>()?;
        Ok(json!({ "inputs": inputs }))
    }
}

/// The inputs of the plugin `income`.
pub const CENSUS: [&str; 10] = [
    "age",
    "education_num",
    "capital_gain",
    "capital_loss",
    "hours_per_week",
    "workclass",
    "marital_status",
    "occupation",
    "relationship",
    "native_country",
];

fn with_keys(batch: &RecordBatch, first: i64) -> Result<RecordBatch> {
    let keys: ArrayRef =
        Arc::new(Int64Array::from_iter_values(first..first + i64::try_from(batch.num_rows())?));
    let mut fields = vec![Arc::new(Field::new("id", keys.data_type().clone(), false))];
    fields.extend(batch.schema().fields().iter().cloned());
    let columns = std::iter::once(keys).chain(batch.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// A file of the checkout.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}
