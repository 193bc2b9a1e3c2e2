//! SQL of jobs that would bring a host or a job down: it is refused, or told row by row.

use std::time::{Duration, Instant};

use modelhost_tests::artifacts;
use modelhost_tests::host::Host;
use modelhost_tests::inference::to;
use modelhost_tests::table;
use serde_json::{Value, json};

use super::{ask, codes, errors, output, put, run, start, wait_for};

fn host_with(csv: String) -> Host {
    let host = Host::start();
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    put(&host, "numbers", "text/csv", csv);
    host
}

fn specification() -> Value {
    json!({
        "dataset": "numbers", "model": "selective", "output": { "dataset": "doubled" }, "on_error": "skip",
    })
}

#[test]
fn what_would_exhaust_the_host_is_refused() {
    let host = host_with("x,text\n1,a\n2,b\n".to_owned());
    let deep = |operator: &str, count: usize| format!("x{} > 1", operator.repeat(count));
    let cases = [
        (deep(" + x", 4_000), "operators and keywords within one another"),
        (deep(" IS NULL", 2_000), "operators and keywords within one another"),
        (deep(" > 1 OR x", 1_500), "operators and keywords within one another"),
        ("(".repeat(8_000), "operators and keywords within one another"),
        (format!("{}x{} IS NULL", "coalesce(".repeat(30), ", 1)".repeat(30)), "steps for a row"),
        ("replace(text, '', text) = 'x'".to_owned(), "where cannot be used"),
        ("regexp_replace(text, '', text, 'g') = 'x'".to_owned(), "where cannot be used"),
        ("levenshtein(text, text) = 1".to_owned(), "where cannot be used"),
        ("translate(text, 'a', text) = 'x'".to_owned(), "where cannot be used"),
        ("arrow_cast(x, 'FixedSizeList(1000000000, Int64)') IS NULL".to_owned(), "where cannot be used"),
        ("CAST(x AS INT[1000000000]) IS NULL".to_owned(), "where holds a cast to lists"),
        ("regexp_like(text, text)".to_owned(), "a search for a text or pattern that is not written out"),
    ];
    for (condition, sentence) in cases {
        let mut specification = specification();
        specification["where"] = json!(condition);
        for target in ["/v1/jobs?dry_run=true", "/v1/jobs"] {
            let refused = host.send(&to(target, &specification)).error(400);
            assert!(refused.contains(sentence), "{refused}\n{condition}");
        }
        let mut specification = specification.clone();
        specification.as_object_mut().unwrap().remove("where");
        specification["columns"] = json!([format!("({condition}) AS x"), "text"]);
        ask(&host, &specification).error(400);
    }
    // The host is there, and what is less deep is worked out.
    let mut fine = specification();
    fine["where"] = json!(format!("x{} > 150", " + x".repeat(99)));
    let done = run(&host, &fine);
    assert_eq!((&done["rows"]["succeeded"], &done["rows"]["filtered"]), (&json!(1), &json!(1)));
}

#[test]
fn a_row_on_which_an_expression_fails_is_one_failed_row() {
    let line = |row: usize| match row {
        700 => "0,fine".to_owned(),
        1_900 => "700,not a number".to_owned(),
        _ => format!("{},{}", row + 1, row),
    };
    let lines: Vec<String> = (0..3_000).map(line).collect();
    let host = host_with(format!("number,note\n{}\n", lines.join("\n")));
    let mut specification = specification();
    specification["key"] = json!("number");
    specification["where"] = json!("6000 / number >= 2");
    specification["columns"] =
        json!(["number", "number AS x", "CAST(CAST(note AS BIGINT) AS VARCHAR) AS text"]);
    let done = run(&host, &specification);
    let failed = errors(&host, done["id"].as_u64().unwrap());
    assert_eq!(codes(&failed).into_iter().collect::<Vec<_>>(), [("expression".to_owned(), 2)], "{failed:?}");
    let of = |place: usize| (failed[place]["row"].clone(), failed[place]["key"].clone());
    assert_eq!((of(0), of(1)), ((json!(700), json!(0)), (json!(1_900), json!(700))));
    let reason = |place: usize| failed[place]["reason"].as_str().unwrap().to_owned();
    assert!(reason(0).starts_with("where cannot be worked out"), "{}", reason(0));
    assert!(reason(1).starts_with("columns cannot be worked out"), "{}", reason(1));
    assert_eq!((&done["rows"]["succeeded"], &done["rows"]["filtered"]), (&json!(2_998), &json!(0)));
    let predicted = output(&host, &done);
    let expected: Vec<i64> =
        (0..3_000).filter(|row| *row != 700 && *row != 1_900).map(|row| row + 1).collect();
    assert_eq!(table::integers(&predicted, "number"), expected);
    // Where no row may fail, the job says which one has.
    specification["on_error"] = json!("fail");
    let id = start(&host, &specification);
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!(failed["state"], "failed", "{failed}");
    let reason = failed["error"].as_str().unwrap();
    assert!(reason.contains("cannot be worked out"), "{reason}");
}

#[test]
fn the_share_of_failed_rows_is_of_those_that_were_asked_about() {
    let line = |row: usize| format!("{row},{}", if row.is_multiple_of(2) { "invalid" } else { "fine" });
    let lines: Vec<String> = (0..20_000).map(line).collect();
    let host = host_with(format!("x,text\n{}\n", lines.join("\n")));
    let mut specification = specification();
    // A hundred fail: few of all rows, and half of those that are wanted.
    specification["where"] = json!("x % 100 < 2 AND x < 10000");
    let id = start(&host, &specification);
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("rows failed, and 20 may"), "{failed}");
    specification["max_failed_share"] = json!(0.5);
    assert_eq!(run(&host, &specification)["rows"]["failed"], 100);
}

#[test]
fn a_job_that_may_not_fail_looks_for_one_row_only() {
    let lines = vec!["1,loop"; 1_000];
    let host = host_with(format!("x,text\n{}\n", lines.join("\n")));
    let mut specification = specification();
    specification["on_error"] = json!("fail");
    specification["call_timeout_ms"] = json!(500);
    let began = Instant::now();
    let id = start(&host, &specification);
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["error"].as_str().unwrap().starts_with("row 0 failed: "), "{failed}");
    // Two thousand calls would take a quarter of an hour.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn rows_that_never_end_are_found_and_no_others() {
    let is_endless = |row: usize| row % 97 == 5;
    let line = |row: usize| format!("{row},{}", if is_endless(row) { "loop" } else { "fine" });
    let lines: Vec<String> = (0..1_500).map(line).collect();
    let host = host_with(format!("x,text\n{}\n", lines.join("\n")));
    let mut specification = specification();
    specification["call_timeout_ms"] = json!(1_000);
    let done = run(&host, &specification);
    let failed = errors(&host, done["id"].as_u64().unwrap());
    let rows: Vec<usize> = failed.iter().map(|row| row["row"].as_u64().unwrap() as usize).collect();
    assert_eq!(rows, (0..1_500).filter(|row| is_endless(*row)).collect::<Vec<_>>());
    assert_eq!(codes(&failed).keys().collect::<Vec<_>>(), ["timeout"]);
}
