//! What is found in files, and what is said about broken ones. Nothing panics, whatever the bytes.

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::{Int64Array, RecordBatch, StringArray};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn inspect_all(files: &[(&str, &[u8])], format: DataFormat, types: &Types) -> Result<Contents, String> {
    let folder = TempDir::new().unwrap();
    let paths: Vec<_> = (0..files.len()).map(|index| folder.path().join(index.to_string())).collect();
    for ((_, bytes), path) in files.iter().zip(&paths) {
        std::fs::write(path, bytes).unwrap();
    }
    let candidates: Vec<_> = files
        .iter()
        .zip(&paths)
        .map(|((name, _), path)| Candidate { name, path, begins: &|_, _| {} })
        .collect();
    inspect(&candidates, format, types).map_err(|problem| problem.to_string())
}

fn inspect_one(name: &str, bytes: &[u8], format: DataFormat) -> Result<Contents, String> {
    inspect_all(&[(name, bytes)], format, &Types::new())
}

fn columns(contents: &Contents) -> Vec<String> {
    let columns = contents.schema.columns.iter();
    columns.map(|column| format!("{} {}", column.name, column.data_type)).collect()
}

fn parquet_bytes(rows: i64, rows_per_group: usize) -> Vec<u8> {
    let numbers = Int64Array::from_iter_values(0..rows);
    let texts = StringArray::from_iter_values((0..rows).map(|row| format!("row {row}")));
    let batch =
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as _), ("t", Arc::new(texts) as _)]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows_per_group)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn types_are_those_that_all_values_have() {
    let text = b"a,b,c,d,e,f\n1,1,x,2020-01-31,,true\n2,1.5,\"y\nz, \"\"q\"\"\",2020-02-01,,\n,,,,,false\n";
    let found = inspect_one("x.csv", text, DataFormat::Csv).unwrap();
    assert_eq!(found.rows, [3]);
    assert_eq!(columns(&found), ["a Int64", "b Float64", "c Utf8", "d Date32", "e Utf8", "f Boolean"]);
    let lines = b"{\"a\":1,\"b\":null}\n\n{\"a\":1.5,\"c\":[1,2]}\r\n{\"c\":[]}";
    let found = inspect_one("x.jsonl", lines, DataFormat::Jsonl).unwrap();
    assert_eq!(found.rows, [3]);
    assert_eq!(columns(&found), ["a Float64", "b Utf8", "c List(Int64)"]);
    let found = inspect_one("x.parquet", &parquet_bytes(10, 4), DataFormat::Parquet).unwrap();
    assert_eq!((columns(&found), found.rows), (vec!["n Int64".to_owned(), "t Utf8".to_owned()], vec![10]));
}

#[test]
fn several_files_have_the_same_columns() {
    let found =
        inspect_all(&[("1.csv", b"a,b\n1,\n"), ("2.csv", b"a,b\n1.5,x\n")], DataFormat::Csv, &Types::new());
    let found = found.unwrap();
    assert_eq!(
        (columns(&found), found.rows),
        (vec!["a Float64".to_owned(), "b Utf8".to_owned()], vec![1, 1])
    );
    let refused = |second: &[u8]| {
        inspect_all(&[("1.csv", b"a,b\n1,2\n"), ("2.csv", second)], DataFormat::Csv, &Types::new())
            .unwrap_err()
    };
    assert_eq!(
        refused(b"b,a\n1,2\n"),
        "file \"2.csv\": its columns are b, a: expected those of the first file, a, b"
    );
    assert_eq!(
        refused(b"a,b\nx,2\n"),
        "file \"2.csv\": column \"a\" is of type Utf8: expected Int64, as in the first file"
    );
}

#[test]
fn types_can_be_asked_for() {
    let zip = Types::from([("zip".to_owned(), DataType::Utf8)]);
    let found = inspect_all(&[("x.csv", b"zip\n01234\n")], DataFormat::Csv, &zip).unwrap();
    assert_eq!(columns(&found), ["zip Utf8"]);
    let number = Types::from([("zip".to_owned(), DataType::Int32)]);
    let refused = inspect_all(&[("x.csv", b"zip\n1\nx\n")], DataFormat::Csv, &number).unwrap_err();
    assert!(refused.starts_with("file \"x.csv\", row 2: "), "{refused}");
    let unknown = inspect_all(&[("x.csv", b"z\n1\n")], DataFormat::Csv, &number).unwrap_err();
    assert_eq!(unknown, "types names \"zip\", which is no column of the files");
}

#[test]
fn what_is_wrong_is_said_with_file_and_row() {
    let csv = |text: &[u8]| inspect_one("x.csv", text, DataFormat::Csv).unwrap_err();
    assert_eq!(
        csv(b"a,b\n1,2\n\"3\n\",4\n5\n6,7\n"),
        "file \"x.csv\", row 3: it has 1 fields: expected 2, as many as there are columns"
    );
    assert_eq!(csv(b"a,b\n1,\xff\n"), "file \"x.csv\", row 1: field 2 is not UTF-8");
    assert_eq!(csv(b""), "file \"x.csv\": it is empty: expected a header line");
    assert_eq!(csv(b"a,a\n1,2\n"), "file \"x.csv\": column \"a\" comes twice");
    let date = csv(b"a\n2020-01-31\n2020-02-31\n");
    assert!(date.starts_with("file \"x.csv\", row 2: ") && date.contains("2020-02-31"), "{date}");
    let jsonl = |text: &[u8]| inspect_one("x.jsonl", text, DataFormat::Jsonl).unwrap_err();
    let broken = jsonl(b"{\"a\":1}\n\n{\"a\":\n");
    assert!(broken.starts_with("file \"x.jsonl\", row 2: it is no JSON object on one line (EOF"), "{broken}");
    assert!(jsonl(b"{\"a\":1}\n[1]\n").contains("row 2: it is no JSON object"));
    assert!(jsonl(b"").contains("it has no columns"));
}

#[test]
fn rows_without_an_end_are_not_collected() {
    let long = "x".repeat(3 << 20);
    let csv = inspect_one("x.csv", format!("a\n1\n\"{long}").as_bytes(), DataFormat::Csv).unwrap_err();
    assert_eq!(csv, "file \"x.csv\", row 2: it is longer than 1048576 bytes");
    let jsonl =
        inspect_one("x.jsonl", format!("{{\"a\":1}}\n{{\"a\":\"{long}").as_bytes(), DataFormat::Jsonl);
    assert_eq!(jsonl.unwrap_err(), "file \"x.jsonl\", row 2: it is longer than 1048576 bytes");
}

#[test]
fn a_truncated_parquet_file_is_no_parquet_file() {
    let whole = parquet_bytes(100, 40);
    for length in [0, 3, 4, 8, whole.len() / 2, whole.len() - 1] {
        let problem = inspect_one("x.parquet", &whole[..length], DataFormat::Parquet).unwrap_err();
        assert!(
            problem.starts_with("file \"x.parquet\": it is no whole Parquet file"),
            "{length}: {problem}"
        );
    }
    assert!(inspect_one("x.parquet", b"a,b\n1,2\n", DataFormat::Parquet).is_err());
}

#[test]
fn there_are_not_more_columns_than_there_may_be() {
    let names = |from: usize, to: usize| (from..to).map(|index| format!("c{index}")).collect::<Vec<_>>();
    let csv = |count| format!("{}\n{}\n", names(0, count).join(","), vec!["1"; count].join(","));
    assert_eq!(
        inspect_one("x.csv", csv(4096).as_bytes(), DataFormat::Csv).unwrap().schema.columns.len(),
        4096
    );
    let problem = inspect_one("x.csv", csv(4097).as_bytes(), DataFormat::Csv).unwrap_err();
    assert_eq!(problem, "file \"x.csv\": it has 4097 columns: expected at most 4096");
    // Each row has other names, and those within count too.
    let row = |names: Vec<String>| {
        let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":1")).collect();
        format!("{{{}}}\n", members.join(","))
    };
    let rows: String = (0..5).map(|index| row(names(index * 1000, index * 1000 + 1000))).collect();
    let problem = inspect_one("x.jsonl", rows.as_bytes(), DataFormat::Jsonl).unwrap_err();
    assert_eq!(problem, "file \"x.jsonl\", row 5: there are more names of members: expected at most 4096");
    let within = format!("{{\"a\":[{}]}}\n", rows.replace('\n', ",").trim_end_matches(','));
    assert!(
        inspect_one("x.jsonl", within.as_bytes(), DataFormat::Jsonl)
            .unwrap_err()
            .contains("row 1: there are")
    );
    let numbers = || Arc::new(Int64Array::from(vec![1])) as _;
    let wide = RecordBatch::try_from_iter(names(0, 4097).into_iter().map(|name| (name, numbers()))).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), wide.schema(), None).unwrap();
    writer.write(&wide).unwrap();
    let problem = inspect_one("x.parquet", &writer.into_inner().unwrap(), DataFormat::Parquet).unwrap_err();
    assert_eq!(problem, "file \"x.parquet\": it has 4097 columns: expected at most 4096");
}

#[test]
fn the_longer_rows_are_the_fewer_are_decoded_at_once() {
    for (longest, rows) in [(0, 512), (100, 512), (1 << 20, 32), (1 << 40, 1)] {
        assert_eq!(batch_rows(longest), rows, "{longest}");
    }
}

#[test]
fn a_footer_tells_what_its_file_does() {
    let whole = parquet_bytes(100, 40);
    let length = parquet::footer_length(whole[whole.len() - 8..].try_into().unwrap()).unwrap();
    let footer = &whole[whole.len() - 8 - length..whole.len() - 8];
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("footer");
    std::fs::write(&path, footer).unwrap();
    let candidate = Candidate { name: "x.parquet", path: &path, begins: &|_, _| {} };
    let (told, found) = (
        inspect_footers(&[candidate]).unwrap(),
        inspect_one("x.parquet", &whole, DataFormat::Parquet).unwrap(),
    );
    assert_eq!((told.schema, told.rows), (found.schema, found.rows));
    std::fs::write(&path, &footer[..length / 2]).unwrap();
    assert!(inspect_footers(&[candidate]).unwrap_err().to_string().contains("no whole Parquet file"));
}

#[test]
fn footers_are_not_read_at_any_size() {
    let length = 17_u32 << 20;
    let file = [b"PAR1".as_slice(), &vec![0; 18 << 20], &length.to_le_bytes(), b"PAR1"].concat();
    let problem = inspect_one("x.parquet", &file, DataFormat::Parquet).unwrap_err();
    assert_eq!(problem, "file \"x.parquet\": its footer has 17825792 bytes: expected at most 16777216");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_can_be_inspected(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        for format in [DataFormat::Parquet, DataFormat::Csv, DataFormat::Jsonl] {
            let _ = inspect_one("x", &bytes, format);
        }
    }

    #[test]
    fn any_table_of_texts_has_as_many_rows_as_were_written(
        rows in proptest::collection::vec(proptest::collection::vec(".{0,12}", 3), 1..20),
    ) {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(["a", "b", "c"]).unwrap();
        for row in &rows {
            writer.write_record(row).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        match inspect_one("x.csv", &bytes, DataFormat::Csv) {
            Ok(found) => prop_assert_eq!(found.rows, vec![rows.len() as u64]),
            // Texts that look like dates, but are none.
            Err(problem) => prop_assert!(problem.contains("row "), "{}", problem),
        }
    }
}
