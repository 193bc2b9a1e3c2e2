//! Files that are made to harm who reads them: they are refused, and the host lives on.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use modelhost_tests::folder;
use modelhost_tests::form::Form;
use modelhost_tests::host::{Host, Setup, wait_until};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::json;

use super::{CSV, PARQUET, put_plain};

/// A Parquet file with this footer and nothing else.
fn with_footer(footer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(footer.len()).unwrap();
    [b"PAR1", footer, &length.to_le_bytes(), b"PAR1"].concat()
}

/// A number as the compact protocol of Thrift writes it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The footer of a file without rows whose schema has these elements.
fn footer(elements: &[Vec<u8>]) -> Vec<u8> {
    // Version 1; a list of structures; no rows; no row groups.
    let size = varint(elements.len() as u64);
    [&[0x15, 0x02, 0x19, 0xfc][..], &size, &elements.concat(), &[0x16, 0x00, 0x19, 0x0c, 0x00]].concat()
}

/// An element that holds so many others.
fn group(children: i64) -> Vec<u8> {
    let zigzag = varint((children << 1) as u64);
    // Optional, with the name "a".
    [&[0x35, 0x02, 0x18, 0x01, b'a', 0x15][..], &zigzag, &[0x00]].concat()
}

/// An element of whole numbers.
fn leaf() -> Vec<u8> {
    vec![0x15, 0x04, 0x25, 0x02, 0x18, 0x01, b'a', 0x00]
}

#[track_caller]
fn assert_refused(host: &Host, name: &str, bytes: &[u8], words: &[&str]) {
    let sentence = put_plain(host, "new", &[(name, bytes)]).error(422);
    for word in words {
        assert!(sentence.contains(word), "{sentence:?} does not say {word:?}");
    }
}

#[test]
fn types_that_are_nested_without_end_are_refused() {
    let host = Host::start();
    for text in ["List(".repeat(10_000), "List(".repeat(500_000), "Dictionary(Int8, ".repeat(15)] {
        let types = json!({ "age": text }).to_string();
        let form = Form::new().text("types", &types).file("income.csv", CSV);
        let response = host.send(&form.put("/v1/datasets/new/versions"));
        assert!(matches!(response.status, 400 | 413), "{}: {}", response.status, response.text());
    }
    put_plain(&host, "well", &[("income.csv", CSV)]).expect(201);
}

#[test]
fn parquet_files_made_to_harm_end_the_process_that_reads_them() {
    let host = Setup::new().set("batch.inspection_memory_bytes", 512 << 20).start();
    let nested: Vec<Vec<u8>> = (0..200_000).map(|_| group(1)).chain([leaf()]).collect();
    assert_refused(
        &host,
        "deep.parquet",
        &with_footer(&footer(&nested)),
        &["file \"deep.parquet\"", "nesting"],
    );
    // Deep enough to be refused, and not for the stack.
    let nested: Vec<Vec<u8>> = (0..40).map(|_| group(1)).chain([leaf()]).collect();
    assert_refused(&host, "deep.parquet", &with_footer(&footer(&nested)), &["nested more than 32 deep"]);
    let many = footer(&[group(i64::from(i32::MAX)), leaf()]);
    assert_refused(&host, "many.parquet", &with_footer(&many), &["file \"many.parquet\""]);
    assert_refused(
        &host,
        "bomb.parquet",
        &bomb(),
        &["file \"bomb.parquet\", row 1", "536870912 bytes of memory"],
    );
    put_plain(&host, "well", &[("income.parquet", PARQUET)]).expect(201);
    assert_eq!(folder::names(&host.data_dir().join("staging")), Vec::<String>::new());
}

/// A small file whose one long text comes in every row.
fn bomb() -> Vec<u8> {
    let text = Arc::new(StringArray::from(vec!["x".repeat(200 << 10)]));
    let texts = DictionaryArray::<Int32Type>::new(vec![0; 4_000].into(), text);
    let batch = RecordBatch::try_from_iter([("t", Arc::new(texts) as ArrayRef)]).unwrap();
    // Without Arrow's own schema it is read as texts, and not as a dictionary.
    let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// A real file of several row groups, columns and codecs.
fn real(compression: Compression) -> Vec<u8> {
    let numbers = Int64Array::from_iter((0..3_000).map(|row| (row % 7 != 0).then_some(row)));
    let texts = StringArray::from_iter_values((0..3_000).map(|row| format!("text {}", row % 100)));
    let batch =
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("t", Arc::new(texts) as _)])
            .unwrap();
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).set_compression(compression);
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Some bytes of a file made others, in the footer more often than elsewhere: it says where everything is.
fn mutated(file: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let length = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap()) as usize;
    let footer = bytes.len() - 8 - length..bytes.len() - 8;
    for _ in 0..random.usize(1..6) {
        let range = if random.u8(..) < 160 { footer.clone() } else { 4..footer.start };
        let place = random.usize(range);
        bytes[place] = if random.bool() { random.u8(..) } else { bytes[place] ^ (1 << random.u8(..8)) };
    }
    if random.u8(..) < 20 {
        // Another length of the footer.
        let place = bytes.len() - 8 + random.usize(..4);
        bytes[place] = random.u8(..);
    }
    bytes
}

#[test]
fn mutated_files_are_taken_or_refused_and_the_host_lives_on() {
    let seed = std::env::var("MODELHOST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("MODELHOST_TEST_SEED={seed} runs this again");
    let mut random = fastrand::Rng::with_seed(seed);
    let host = Setup::new().set("log.level", "error").start();
    let codecs = [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())];
    let files: Vec<Vec<u8>> = codecs.into_iter().map(real).chain([PARQUET.to_vec()]).collect();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..200 {
        let file = &files[random.usize(..files.len())];
        let response = put_plain(&host, "mutated", &[("x.parquet", &mutated(file, &mut random))]);
        match response.status {
            200 | 201 => {
                taken += 1;
                // Statistics may have been changed, which queries believe, or find wrong.
                for what in ["preview", "profile"] {
                    let read = host.get(&format!("/v1/datasets/mutated/versions/latest/{what}"));
                    assert!(matches!(read.status, 200 | 422), "{}: {}", read.status, read.text());
                }
            }
            422 => refused += 1,
            status => panic!("{status}: {}", response.text()),
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(refused > 50, "{refused} refused prove little");
    wait_until("nothing is left", || folder::names(&host.data_dir().join("staging")).is_empty());
    host.get("/v1/datasets").expect(200);
}
