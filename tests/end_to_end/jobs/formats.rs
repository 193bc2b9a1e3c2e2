//! Whatever format rows come in and go out, they are the same.

use std::fs;

use modelhost_tests::host::Host;
use modelhost_tests::table;
use serde_json::{Value, json};

use super::{income_job, output, put, run, version_of, with_income};

const ROWS: usize = 2_000;

/// The rows of a dataset as JSON.
fn rows(host: &Host, reference: &str) -> Vec<Value> {
    let (name, number) = reference.split_once('@').unwrap();
    let target = format!("/v1/datasets/{name}/versions/{number}/preview?rows=1000");
    host.get(&target).expect(200)["rows"].as_array().unwrap().clone()
}

fn as_text(rows: &[Value], columns: &[&str]) -> String {
    let line = |row: &Value| {
        let cell = |column: &&str| match &row[*column] {
            Value::Null => String::new(),
            Value::String(text) => format!("\"{}\"", text.replace('"', "\"\"")),
            other => other.to_string(),
        };
        columns.iter().map(cell).collect::<Vec<_>>().join(",")
    };
    format!("{}\r\n{}\r\n", columns.join(","), rows.iter().map(line).collect::<Vec<_>>().join("\r\n"))
}

#[test]
fn rows_are_the_same_in_every_format() {
    let host = Host::start();
    with_income(&host);
    put(&host, "parquet", "application/vnd.apache.parquet", table::repeated_census(ROWS / 2));
    let original = rows(&host, "parquet@1");
    assert_eq!(original.len(), ROWS / 2);
    let mut columns: Vec<&str> = original[0].as_object().unwrap().keys().map(String::as_str).collect();
    columns.sort_unstable();
    put(&host, "csv", "text/csv", as_text(&original, &columns));
    let lines: Vec<String> = original.iter().map(Value::to_string).collect();
    put(&host, "jsonl", "application/jsonl", lines.join("\n\n"));
    let expected = output(&host, &run(&host, &income_job("parquet", "of-parquet")));
    for dataset in ["csv", "jsonl"] {
        let found = output(&host, &run(&host, &income_job(dataset, &format!("of-{dataset}"))));
        assert_eq!(table::integers(&found, "id"), table::integers(&expected, "id"), "{dataset}");
        assert_eq!(table::texts(&found, "label"), table::texts(&expected, "label"), "{dataset}");
        assert_eq!(
            table::singles(&found, "probability"),
            table::singles(&expected, "probability"),
            "{dataset}"
        );
    }
    for (format, extension) in [("csv", "csv"), ("jsonl", "jsonl")] {
        let mut specification = income_job("parquet", &format!("as-{extension}"));
        specification["output"]["format"] = json!(format);
        let done = run(&host, &specification);
        let version = version_of(&host, &done);
        let digest = version["files"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        let path = host.data_dir().join("datasets").join(format!("{digest}.{extension}"));
        assert!(fs::read_to_string(path).unwrap().contains("probability"));
        let written = rows(&host, done["output"].as_str().unwrap());
        for (row, (id, label)) in
            written.iter().zip(table::integers(&expected, "id").iter().zip(table::texts(&expected, "label")))
        {
            assert_eq!((row["id"].as_i64(), row["label"].as_str()), (Some(*id), Some(label.as_str())));
        }
    }
}

#[test]
fn texts_with_line_feeds_and_quotes_are_one_row() {
    let host = Host::start();
    host.deploy_new("spam", &modelhost_tests::artifacts::plugin("spam"));
    let mails = ["plain", "two\nlines, with a comma", "a \"quoted\" word", "\r\n\r\n", "Gewinn für dich"];
    let rows: Vec<Value> =
        (0..ROWS).map(|row| json!({ "id": row, "text": mails[row % mails.len()] })).collect();
    put(&host, "csv", "text/csv", as_text(&rows, &["id", "text"]));
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    put(&host, "jsonl", "application/jsonl", lines.join("\n"));
    let specification = |dataset: &str| json!({ "dataset": dataset, "model": "spam", "key": "id", "output": { "dataset": format!("of-{dataset}") }, "batch_size": 100 });
    let of_csv = output(&host, &run(&host, &specification("csv")));
    let of_jsonl = output(&host, &run(&host, &specification("jsonl")));
    assert_eq!(of_csv.num_rows(), ROWS);
    assert_eq!(of_csv, of_jsonl);
}
