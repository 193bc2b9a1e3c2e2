//! Jobs are paused, resumed, cancelled, watched and forgotten; what they need cannot be deleted meanwhile.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use modelhost_tests::host::{Host, wait_until};
use modelhost_tests::http::Request;
use modelhost_tests::{artifacts, table};
use serde_json::{Value, json};

use super::{change, income_job, job, left_behind, output, put, run, start, wait_for, with_income};

const ROWS: usize = 150_000;

fn host_with_census() -> Host {
    let host = Host::start();
    with_income(&host);
    put(&host, "census", "application/vnd.apache.parquet", table::repeated_census(ROWS));
    host
}

#[test]
fn a_paused_job_goes_on_where_it_was() {
    let host = host_with_census();
    let id = start(&host, &income_job("census", "scores"));
    wait_until("some rows are done", || job(&host, id)["rows_done"].as_u64().unwrap_or(0) > 5_000);
    let paused = change(&host, id, "pause").expect(200);
    assert_eq!(paused["state"], "paused", "{paused}");
    let committed = paused["rows"]["succeeded"].as_u64().unwrap();
    assert!(committed > 0, "what was done is kept: {paused}");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(job(&host, id)["rows"], paused["rows"]);
    // Also by another process.
    let host = host.kill().start();
    assert_eq!(job(&host, id)["state"], "paused");
    let refused = host.send(&Request::delete("/v1/datasets/census/versions/1")).error(409);
    assert!(refused.contains(&format!("job {id}")), "{refused}");
    change(&host, id, "resume").expect(200);
    let done = wait_for(&host, id, &["succeeded", "failed"]);
    super::predictions::assert_every_row_once(&output(&host, &done), ROWS);
    change(&host, id, "pause").error(409);
    change(&host, id, "resume").error(409);
    change(&host, id, "cancel").error(409);
}

#[test]
fn a_cancelled_job_leaves_nothing() {
    let host = host_with_census();
    let id = start(&host, &income_job("census", "scores"));
    wait_until("it runs", || job(&host, id)["state"] == "running");
    assert_eq!(change(&host, id, "cancel").expect(200)["state"], "cancelled");
    assert_eq!(left_behind(&host, id), Vec::<String>::new());
    host.get("/v1/datasets/scores").error(404);
    change(&host, id, "resume").error(409);
    assert_eq!(host.send(&Request::delete(format!("/v1/jobs/{id}"))).status, 204);
    host.get(&format!("/v1/jobs/{id}")).error(404);
    // Numbers are not used again.
    assert_eq!(start(&host, &income_job("census", "scores")), id + 1);
}

#[test]
fn what_a_job_needs_cannot_be_deleted() {
    let host = host_with_census();
    // Version 2 is neither deployed nor has it an alias.
    let labelled = artifacts::test_plugin("selective");
    host.deploy_new("selective", &labelled);
    let id = start(&host, &income_job("census", "scores"));
    let dataset = host.send(&Request::delete("/v1/datasets/census/versions/1")).error(409);
    assert_eq!(dataset, format!("version 1 of dataset \"census\" is needed by job {id}"));
    // Another version answers now; the job keeps the one that it began with.
    let other = host.upload("income", &artifacts::plugin("spam")).expect(201);
    host.deploy("income", other["number"].as_u64().unwrap());
    let version = host.send(&Request::delete("/v1/models/income/versions/1"));
    if job(&host, id)["state"] != "succeeded" {
        assert!(version.error(409).contains("batch job"), "{}", version.text());
    }
    host.send(&Request::delete(format!("/v1/jobs/{id}"))).error(409);
    let done = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!((&done["state"], &done["model"]["version"]), (&json!("succeeded"), &json!(1)), "{done}");
    assert_eq!(host.send(&Request::delete("/v1/models/income/versions/1")).status, 204);
    assert_eq!(host.send(&Request::delete("/v1/datasets/census/versions/1")).status, 204);
}

#[test]
fn a_job_is_watched_to_its_end() {
    let host = host_with_census();
    let mut job = income_job("census", "scores");
    // Slow enough to be seen at work.
    job["share_percent"] = json!(10);
    let id = start(&host, &job);
    let mut stream = TcpStream::connect(host.address()).unwrap();
    write!(stream, "GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.to_ascii_lowercase().contains("content-type: text/event-stream"), "{text}");
    let views: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|json| serde_json::from_str(json).unwrap())
        .collect();
    assert_eq!(views.last().unwrap()["state"], "succeeded");
    let done: Vec<u64> = views.iter().filter_map(|view| view["rows_done"].as_u64()).collect();
    assert!(done.len() > 2 && done.is_sorted(), "{done:?}");
    assert!(views.iter().any(|view| view["rows_per_second"].as_f64().is_some_and(|rate| rate > 0.0)));
    assert!(views.iter().any(|view| view["seconds_left"].as_f64().is_some()));
}

#[test]
fn jobs_wait_for_their_turn() {
    let host = host_with_census();
    let first = start(&host, &income_job("census", "a"));
    let second = start(&host, &income_job("census", "b"));
    wait_until("the first one runs", || job(&host, first)["state"] == "running");
    assert_eq!(job(&host, second)["state"], "queued");
    // A queued job can be paused, and is then not next.
    assert_eq!(change(&host, second, "pause").expect(200)["state"], "paused");
    wait_for(&host, first, &["succeeded"]);
    assert_eq!(job(&host, second)["state"], "paused");
    change(&host, second, "resume").expect(200);
    wait_for(&host, second, &["succeeded"]);
    let listed = host.get("/v1/jobs").expect(200);
    let ids: Vec<&Value> = listed["jobs"].as_array().unwrap().iter().map(|job| &job["id"]).collect();
    assert_eq!(ids, [first, second]);
}

#[test]
fn the_command_line_does_it_all() {
    let host = host_with_census();
    let ok = |arguments: &[&str]| {
        let output = host.client(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}\n{out}\n{err}");
        (out.into_owned(), err.into_owned())
    };
    let job_arguments = [
        "census",
        "income",
        "scores",
        "--key",
        "id",
        "--if-null",
        "workclass=?",
        "--if-null",
        "occupation=?",
        "--if-null",
        "native_country=?",
    ];
    let (dry, _) = ok(&[&["batch", "dry-run"][..], &job_arguments].concat());
    assert!(dry.contains("hours_per_week") && dry.contains("<=50K") && dry.contains("probability"), "{dry}");
    host.get("/v1/datasets/scores").error(404);
    // Slow enough to be seen at work.
    let (shown, progress) = ok(&[&["batch", "run", "--share", "10"][..], &job_arguments].concat());
    assert!(shown.contains("succeeded") && shown.contains("scores@1"), "{shown}");
    assert!(progress.contains("rows/s") && progress.contains("of 150000 rows"), "{progress}");
    let (list, _) = ok(&["batch", "list"]);
    assert!(list.contains("census@1") && list.contains("income@1"), "{list}");
    let (json, _) = ok(&["batch", "show", "1", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["by"], "ada");
    assert_eq!(ok(&["batch", "errors", "1"]).0, "");
    let refused = host.client(&["batch", "retry", "1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no row of job 1 failed"));
    ok(&["batch", "delete", "1"]);
}

#[test]
fn a_dry_run_scores_the_first_rows_and_leaves_nothing() {
    let host = host_with_census();
    let mut specification = income_job("census", "scores");
    specification["where"] = json!("age > 80");
    let dry = host.send(&modelhost_tests::inference::to("/v1/jobs?dry_run=true", &specification)).expect(200);
    assert_eq!(dry["predictions"].as_array().map(Vec::len), Some(10));
    assert_eq!(
        dry["inputs"][0],
        json!({ "name": "age", "datatype": "FP32", "shape": [-1], "columns": ["age"] })
    );
    assert_eq!(host.get("/v1/jobs").expect(200)["jobs"], json!([]));
    let done = run(&host, &specification);
    let predicted = output(&host, &done);
    let ids: Vec<i64> =
        dry["predictions"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert_eq!(table::integers(&predicted, "id")[..10], ids);
}
