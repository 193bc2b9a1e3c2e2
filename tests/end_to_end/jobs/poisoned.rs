//! Rows that fail are told, each with its own reason, and no others with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use modelhost_tests::host::{Host, Setup};
use modelhost_tests::{artifacts, table};
use serde_json::{Value, json};

use super::{codes, errors, job, output, put, run, start, version_of, wait_for, with_income};

const ROWS: usize = 20_000;

/// How a row is spoilt: one in a hundred, in one of these ways.
const WAYS: [(&str, &str); 5] = [
    ("null", ",fine"),
    ("type", "thirty,fine"),
    ("invalid_input", "1.5,invalid"),
    ("plugin_error", "1.5,internal"),
    ("trap", "1.5,trap"),
];

fn way(row: usize) -> Option<(&'static str, &'static str)> {
    (row % 100 == 13).then(|| WAYS[row / 100 % WAYS.len()])
}

fn poisoned() -> String {
    let line = |row: usize| match way(row) {
        Some((_, fields)) => format!("k{row},{fields}"),
        None => format!("k{row},{row},fine"),
    };
    format!("id,x,text\n{}\n", (0..ROWS).map(line).collect::<Vec<_>>().join("\n"))
}

fn specification() -> Value {
    json!({
        "dataset": "numbers", "model": "selective", "output": { "dataset": "doubled" }, "key": "id",
        "on_error": "skip", "share_percent": 100,
    })
}

fn host_with_poison() -> Host {
    let host = Host::start();
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    put(&host, "numbers", "text/csv", poisoned());
    host
}

#[test]
fn exactly_the_poisoned_rows_fail() {
    let host = host_with_poison();
    let done = run(&host, &specification());
    let id = done["id"].as_u64().unwrap();
    let failed = errors(&host, id);
    let expected: BTreeMap<usize, &str> = (0..ROWS).filter_map(|row| Some((row, way(row)?.0))).collect();
    let found: BTreeMap<usize, &str> = failed
        .iter()
        .map(|row| (row["row"].as_u64().unwrap() as usize, row["code"].as_str().unwrap()))
        .collect();
    assert_eq!(found, expected);
    for row in &failed {
        assert_eq!(row["key"], format!("k{}", row["row"]));
        assert!(row["reason"].as_str().is_some_and(|reason| reason.len() > 10), "{row}");
    }
    let reason = |code: &str| {
        let row = failed.iter().find(|row| row["code"] == code).unwrap();
        row["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason("null"), "column \"x\" is null: input \"x\" takes no nulls");
    assert_eq!(reason("type"), "column \"x\" is \"thirty\": input \"x\" takes FP32");
    assert_eq!(reason("invalid_input"), "the plugin does not like it");
    assert!(reason("trap").contains("trapped"), "{}", reason("trap"));
    assert_eq!(done["rows"]["failed"], ROWS / 100);
    assert_eq!(done["rows"]["succeeded"], ROWS - ROWS / 100);
    let predicted = output(&host, &done);
    let values = table::singles(&predicted, "y");
    let fine: Vec<f32> = (0..ROWS).filter(|row| way(*row).is_none()).map(|row| 2.0 * row as f32).collect();
    assert_eq!(values, fine);
}

#[test]
fn exactly_the_poisoned_rows_of_a_parquet_file_fail() {
    let host = Host::start();
    super::with_selective(&host);
    let rows: Vec<(Option<String>, String)> = (0..ROWS)
        .map(|row| match way(row) {
            Some((_, fields)) => {
                let (x, text) = fields.split_once(',').unwrap();
                (Some(x).filter(|x| !x.is_empty()).map(str::to_owned), text.to_owned())
            }
            None => (Some(row.to_string()), "fine".to_owned()),
        })
        .collect();
    let columns: [(&str, arrow::array::ArrayRef); 3] = [
        ("id", Arc::new((0..ROWS).map(|row| Some(format!("k{row}"))).collect::<StringArray>())),
        ("x", Arc::new(rows.iter().map(|(x, _)| x.clone()).collect::<StringArray>())),
        ("text", Arc::new(rows.iter().map(|(_, text)| Some(text.clone())).collect::<StringArray>())),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)));
    put(&host, "numbers", "application/vnd.apache.parquet", table::to_parquet(&[rows.unwrap()], 3_000));
    let done = run(&host, &specification());
    let failed = errors(&host, done["id"].as_u64().unwrap());
    let expected: BTreeMap<usize, &str> = (0..ROWS).filter_map(|row| Some((row, way(row)?.0))).collect();
    let found: BTreeMap<usize, &str> = failed
        .iter()
        .map(|row| (row["row"].as_u64().unwrap() as usize, row["code"].as_str().unwrap()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!((&done["rows"]["failed"], &done["rows"]["filtered"]), (&json!(ROWS / 100), &json!(0)));
}

#[test]
fn a_call_that_takes_too_long_or_too_much_fails_its_row() {
    let host = Setup::new().set("runtime.limits.memory_bytes", 64 << 20).start();
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    let line = |row: usize| match row {
        100 => "1,loop".to_owned(),
        200 => "1,allocate".to_owned(),
        _ => format!("{row},fine"),
    };
    let lines: Vec<String> = (0..300).map(line).collect();
    put(&host, "numbers", "text/csv", format!("x,text\n{}\n", lines.join("\n")));
    let mut specification = specification();
    specification.as_object_mut().unwrap().remove("key");
    specification["call_timeout_ms"] = json!(400);
    let done = run(&host, &specification);
    let failed = errors(&host, done["id"].as_u64().unwrap());
    assert_eq!(codes(&failed).keys().collect::<Vec<_>>(), ["limit_exceeded", "timeout"], "{failed:?}");
    assert_eq!(failed.iter().map(|row| row["row"].clone()).collect::<Vec<_>>(), [100, 200]);
    assert_eq!(done["rows"]["succeeded"], 298);
}

#[test]
fn the_first_failure_ends_a_job_unless_it_may_skip() {
    let host = host_with_poison();
    let mut careful = specification();
    careful.as_object_mut().unwrap().remove("on_error");
    let id = start(&host, &careful);
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!(failed["state"], "failed");
    let reason = failed["error"].as_str().unwrap();
    assert!(reason.starts_with("row ") && reason.contains(" failed: "), "{reason}");
    host.get("/v1/datasets/doubled").error(404);
    let mut sparing = specification();
    sparing["max_failed_share"] = json!(0.001);
    let id = start(&host, &sparing);
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    let reason = failed["error"].as_str().unwrap();
    assert!(reason.contains("rows failed, and 20 may"), "{reason}");
    assert!(!errors(&host, id).is_empty());
    host.get("/v1/datasets/doubled").error(404);
}

#[test]
fn failed_rows_can_be_tried_again() {
    let host = host_with_poison();
    let first = run(&host, &specification());
    let id = first["id"].as_u64().unwrap();
    let again = super::change(&host, id, "retry").expect(201);
    let retried = wait_for(&host, again["id"].as_u64().unwrap(), &["succeeded", "failed"]);
    assert_eq!(retried["state"], "succeeded", "{retried}");
    assert_eq!((&retried["retry_of"], &retried["rows"]["total"]), (&json!(id), &json!(ROWS / 100)));
    // The same rows fail for the same reasons, and the version is that of the rows that succeeded before.
    assert_eq!(retried["rows"]["failed"], ROWS / 100);
    let sorted = |id: u64| {
        let mut rows = errors(&host, id);
        rows.sort_by_key(|row| row["row"].as_u64());
        rows
    };
    assert_eq!(sorted(again["id"].as_u64().unwrap()), sorted(id));
    assert_eq!(version_of(&host, &retried)["rows"], ROWS - ROWS / 100);
    assert_eq!(job(&host, id)["state"], "succeeded");
}

#[test]
fn rows_that_succeed_the_second_time_join_the_others() {
    let host = Host::start();
    with_income(&host);
    let census = table::with_keys(&table::census(), 0);
    put(&host, "census", "application/vnd.apache.parquet", table::to_parquet(&[census], 200));
    let mut strict = super::income_job("census", "scores");
    // Without a stand-in for what is missing.
    strict["inputs"]["workclass"] = json!("workclass");
    strict["on_error"] = json!("skip");
    let first = run(&host, &strict);
    let missing = first["rows"]["failed"].as_u64().unwrap();
    assert!(missing > 0);
    let id = first["id"].as_u64().unwrap();
    let body = json!({ "inputs": super::income_job("census", "scores")["inputs"] });
    let again =
        host.send(&modelhost_tests::inference::to(&format!("/v1/jobs/{id}/retry"), &body)).expect(201);
    let retried = wait_for(&host, again["id"].as_u64().unwrap(), &["succeeded", "failed"]);
    assert_eq!(
        (&retried["rows"]["succeeded"], &retried["rows"]["failed"]),
        (&json!(missing), &json!(0)),
        "{retried}"
    );
    let predicted = output(&host, &retried);
    let mut ids = table::integers(&predicted, "id");
    assert_eq!(ids.len(), 500);
    assert!(!ids.is_sorted(), "the rows of the second attempt come last");
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..500));
}
