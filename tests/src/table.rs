//! Tables in files: the census data of the tests, repeated as often as is wanted under keys of its own, and what a
//! dataset of a host holds.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Float32Type, Float64Type, Int64Type, Schema, UInt64Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::artifacts;

/// The rows of a Parquet file.
pub fn parquet(bytes: impl Into<Bytes>) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.into()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// Rows as a Parquet file.
pub fn to_parquet(batches: &[RecordBatch], rows_of_a_group: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_of_a_group))
        .set_compression(parquet::basic::Compression::SNAPPY)
        .build();
    let mut writer = ArrowWriter::try_new(&mut bytes, batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    bytes
}

/// The census data of the tests: 500 real rows.
pub fn census() -> RecordBatch {
    parquet(fs::read(artifacts::checkout("tests/data/income.parquet")).unwrap())
}

/// So many rows of the census data, one after the other and again from the start, with a key `id` of their own: 0, 1, 2 …
pub fn repeated_census(rows: usize) -> Vec<u8> {
    let original = census();
    let batches: Vec<RecordBatch> = (0..rows)
        .step_by(original.num_rows())
        .map(|first| with_keys(&original.slice(0, original.num_rows().min(rows - first)), first as i64))
        .collect();
    to_parquet(&batches, 250_000)
}

/// The same rows with a key `id`, from this one on.
pub fn with_keys(batch: &RecordBatch, first: i64) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + batch.num_rows() as i64));
    let mut fields = vec![Arc::new(Field::new("id", keys.data_type().clone(), false))];
    fields.extend(batch.schema().fields().iter().cloned());
    let columns = std::iter::once(keys).chain(batch.columns().iter().cloned()).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// The rows of a dataset version of Parquet files, in the order of its files.
pub fn of_version(data_dir: &Path, version: &Value) -> RecordBatch {
    let files = version["files"].as_array().unwrap();
    let batches: Vec<RecordBatch> = files
        .iter()
        .map(|file| {
            let digest = file["digest"].as_str().unwrap().trim_start_matches("sha256:");
            let mut bytes = Vec::new();
            let path = data_dir.join("datasets").join(format!("{digest}.parquet"));
            std::io::Read::read_to_end(&mut File::open(path).unwrap(), &mut bytes).unwrap();
            parquet(bytes)
        })
        .collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// Whole numbers of a column.
pub fn integers(batch: &RecordBatch, column: &str) -> Vec<i64> {
    let column = batch.column_by_name(column).unwrap();
    match column.as_primitive_opt::<Int64Type>() {
        Some(numbers) => numbers.values().to_vec(),
        None => column.as_primitive::<UInt64Type>().values().iter().map(|number| *number as i64).collect(),
    }
}

/// Single-precision numbers of a column.
pub fn singles(batch: &RecordBatch, column: &str) -> Vec<f32> {
    batch.column_by_name(column).unwrap().as_primitive::<Float32Type>().values().to_vec()
}

/// Texts of a column; a missing one is empty.
pub fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).unwrap();
    column.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

/// Double-precision numbers of a column.
pub fn doubles(batch: &RecordBatch, column: &str) -> Vec<f64> {
    batch.column_by_name(column).unwrap().as_primitive::<Float64Type>().values().to_vec()
}
