//! Batch jobs through the front door: what comes out of them is what the model answers online, row by row, whatever
//! happens in between.

mod expressions;
mod formats;
mod interrupted;
mod kills;
mod poisoned;
mod predictions;
mod refused;
mod states;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use modelhost_tests::host::Host;
use modelhost_tests::http::{Request, Response};
use modelhost_tests::inference::to;
use modelhost_tests::{artifacts, table};
use serde_json::{Value, json};

/// Puts a dataset of one file there.
#[track_caller]
fn put(host: &Host, dataset: &str, media_type: &str, bytes: impl Into<Vec<u8>>) {
    let target = format!("/v1/datasets/{dataset}/versions");
    let request = Request::new("PUT", target, bytes).header("Content-Type", media_type);
    host.send(&request).expect(201);
}

/// Asks for a job.
fn ask(host: &Host, specification: &Value) -> Response {
    host.send(&to("/v1/jobs", specification))
}

/// Asks for a job, and answers its number.
#[track_caller]
fn start(host: &Host, specification: &Value) -> u64 {
    ask(host, specification).expect(201)["id"].as_u64().unwrap()
}

/// The job as it is now.
#[track_caller]
fn job(host: &Host, id: u64) -> Value {
    host.get(&format!("/v1/jobs/{id}")).expect(200)
}

/// Does something with a job.
fn change(host: &Host, id: u64, what: &str) -> Response {
    host.send(&Request::post(format!("/v1/jobs/{id}/{what}"), []))
}

/// Rows for the plugin that fails where a row's text says so: `id`, `x` and `text`.
fn numbers(rows: usize, fields: impl Fn(usize) -> String) -> String {
    let line = |id: usize| format!("{id},{}", fields(id));
    format!("id,x,text\n{}\n", (0..rows).map(line).collect::<Vec<_>>().join("\n"))
}

/// A job that asks the plugin that fails where a row's text says so about a dataset with the key `id`.
fn selective_job(dataset: &str, output: &str) -> Value {
    json!({
        "dataset": dataset, "model": "selective", "output": { "dataset": output }, "key": "id", "share_percent": 100,
    })
}

/// A host with that plugin.
fn with_selective(host: &Host) {
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
}

/// The job once it is in one of these states.
#[track_caller]
fn wait_for(host: &Host, id: u64, states: &[&str]) -> Value {
    let began = Instant::now();
    loop {
        let job = job(host, id);
        if states.iter().any(|state| job["state"] == *state) {
            return job;
        }
        assert!(began.elapsed() < Duration::from_secs(1_200), "not {states:?} after twenty minutes: {job}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a job that succeeds.
#[track_caller]
fn run(host: &Host, specification: &Value) -> Value {
    let id = start(host, specification);
    let job = wait_for(host, id, &["succeeded", "failed", "cancelled"]);
    assert_eq!(job["state"], "succeeded", "{job}");
    job
}

/// The dataset version that a job has made.
#[track_caller]
fn version_of(host: &Host, job: &Value) -> Value {
    let output = job["output"].as_str().unwrap_or_else(|| panic!("no output: {job}"));
    let (name, number) = output.split_once('@').unwrap();
    host.get(&format!("/v1/datasets/{name}/versions/{number}")).expect(200)
}

/// Its rows.
#[track_caller]
fn output(host: &Host, job: &Value) -> RecordBatch {
    table::of_version(&host.data_dir(), &version_of(host, job))
}

/// The failed rows of a job.
#[track_caller]
fn errors(host: &Host, id: u64) -> Vec<Value> {
    let response = host.get(&format!("/v1/jobs/{id}/errors"));
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How many failed rows have which code.
fn codes(errors: &[Value]) -> BTreeMap<String, usize> {
    let mut codes = BTreeMap::new();
    for error in errors {
        *codes.entry(error["code"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    codes
}

/// A host with the census model.
fn with_income(host: &Host) {
    host.deploy_new("income", &artifacts::plugin("income"));
}

/// A job that asks the census model about a dataset with the key `id`.
fn income_job(dataset: &str, output: &str) -> Value {
    let or_unknown = |column: &str| json!({ "column": column, "if_null": "?" });
    json!({
        "dataset": dataset, "model": "income", "output": { "dataset": output }, "key": "id",
        // Several pieces at once, whatever machine this is.
        "share_percent": 100,
        "inputs": {
            "workclass": or_unknown("workclass"),
            "occupation": or_unknown("occupation"),
            "native_country": or_unknown("native_country"),
        },
    })
}

/// What lies in the folder of jobs.
fn left_behind(host: &Host, id: u64) -> Vec<String> {
    let folder = host.data_dir().join("jobs").join(id.to_string());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
