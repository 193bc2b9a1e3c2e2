use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::{AsArray as _, Int64Array, StringArray};
use arrow::datatypes::{Int64Type, UInt64Type};
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt as _, path::Path as ObjectPath};

use super::*;
use crate::datasets::DataFile;

/// A dataset version of one file.
async fn source(bytes: Vec<u8>, rows: u64, format: DataFormat, schema: &Schema, batch_size: usize) -> Source {
    let file = DataFile {
        name: "file".into(),
        rows,
        bytes: bytes.len() as u64,
        location: crate::datasets::FileLocation::Stored { digest: modelhost_core::Digest::of(&bytes) },
    };
    let (store, path) = (Arc::new(InMemory::new()), ObjectPath::from("file"));
    store.put(&path, bytes.into()).await.unwrap();
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let files = vec![OpenFile { store, path, file }];
    Source::new(files, format, Arc::new(schema.clone()), &columns, None, batch_size).unwrap()
}

async fn batches(source: &Source) -> Vec<RecordBatch> {
    let plan = source.plan(None).await.unwrap();
    let mut batches = vec![];
    for piece in plan.left(&std::collections::BTreeMap::new()) {
        let rows: Vec<Rows> = source.read(&piece).await.unwrap().try_collect().await.unwrap();
        assert!(rows.iter().all(|rows| rows.failed.is_empty()));
        batches.extend(rows.into_iter().map(|rows| rows.batch));
    }
    batches
}

fn check_bytes_and_numbers(batches: &[RecordBatch], rows: u64) {
    assert!(batches.iter().all(|batch| sizes::of_batch(batch) <= sizes::BATCH_BYTES));
    let numbers = |batch: &RecordBatch| {
        batch.column_by_name(ROW_NUMBER).unwrap().as_primitive::<UInt64Type>().values().to_vec()
    };
    assert!(batches.iter().flat_map(numbers).eq(0..rows));
}

fn text_schema() -> Schema {
    Schema::new(vec![Field::new("text", DataType::Utf8, true)])
}

fn written(schema: &Schema, columns: Vec<ArrayRef>, properties: WriterProperties) -> Vec<u8> {
    let batch = RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// A megabyte that is in the file once and in a thousand rows.
#[tokio::test]
async fn a_dictionary_of_one_text_does_not_become_a_gigabyte() {
    let text = "x".repeat(1 << 20);
    let texts = StringArray::from_iter_values(std::iter::repeat_n(&text, 1_000));
    let properties = WriterProperties::builder().set_dictionary_page_size_limit(8 << 20).build();
    let bytes = written(&text_schema(), vec![Arc::new(texts)], properties);
    assert!(bytes.len() < 4 << 20, "{} bytes", bytes.len());
    let source = source(bytes, 1_000, DataFormat::Parquet, &text_schema(), 1_024).await;
    let batches = batches(&source).await;
    check_bytes_and_numbers(&batches, 1_000);
    let held: usize = batches[0].column(0).to_data().buffers().iter().map(arrow::buffer::Buffer::len).sum();
    assert!(held < 8 << 20, "{held} bytes are held");
    assert_eq!(batches[0].column(0).as_string_view().value(0), text);
}

#[tokio::test]
async fn long_rows_come_in_small_batches_whatever_their_format() {
    let text = |row: usize| format!("{row}-{}", "y".repeat(300_000));
    let texts: Vec<String> = (0..500).map(text).collect();
    let csv = format!("text\n{}\n", texts.join("\n"));
    let lines: Vec<String> = texts.iter().map(|text| format!("{{\"text\":\"{text}\"}}")).collect();
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(&texts));
    let parquet = written(&text_schema(), vec![column], WriterProperties::builder().build());
    for (format, bytes) in [
        (DataFormat::Csv, csv.into_bytes()),
        (DataFormat::Jsonl, lines.join("\n").into_bytes()),
        (DataFormat::Parquet, parquet),
    ] {
        let source = source(bytes, 500, format, &text_schema(), 65_536).await;
        let batches = batches(&source).await;
        assert!(batches.len() < 20, "{} batches of {format}", batches.len());
        check_bytes_and_numbers(&batches, 500);
        let column = arrow::compute::cast(batches[1].column(0), &DataType::Utf8).unwrap();
        let first = batches[0].num_rows();
        assert_eq!(column.as_string::<i32>().value(0), texts[first], "{format}");
    }
}

#[tokio::test]
async fn a_row_group_is_cut_only_where_its_pages_can_be_found() {
    let schema = Schema::new(vec![Field::new("number", DataType::Int64, false)]);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..200_000));
    for (is_without, splits) in [(false, 4), (true, 1)] {
        let properties = WriterProperties::builder().set_offset_index_disabled(is_without);
        let properties =
            properties.set_statistics_enabled(::parquet::file::properties::EnabledStatistics::Chunk).build();
        let bytes = written(&schema, vec![numbers.clone()], properties);
        let source = source(bytes, 200_000, DataFormat::Parquet, &schema, 1_024).await;
        assert_eq!(source.plan(None).await.unwrap().splits.len(), splits);
        let batches = batches(&source).await;
        check_bytes_and_numbers(&batches, 200_000);
        let values = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        assert!(batches.iter().flat_map(values).eq(0..200_000));
    }
}
