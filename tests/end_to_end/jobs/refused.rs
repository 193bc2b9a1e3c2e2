//! What cannot be is refused with one sentence before a job exists; what turns out on the way ends the job with one.

use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::{artifacts, table};
use serde_json::{Value, json};

use super::{ask, errors, income_job, job, left_behind, put, start, wait_for, with_income};
use modelhost_tests::http::Request;
use modelhost_tests::inference::to;
use modelhost_tests::small_disk::SmallDisk;

#[test]
fn what_does_not_fit_together_is_refused_before_there_is_a_job() {
    let host = Host::start();
    with_income(&host);
    put(&host, "census", "application/vnd.apache.parquet", table::repeated_census(1_000));
    put(&host, "other", "text/csv", "a,b\n1,x\n");
    host.send(&Request::put("/v1/predictions/people", &json!({ "key": "person" }))).expect(201);
    put(
        &host,
        "texts",
        "text/csv",
        "age,education_num,capital_gain,capital_loss,hours_per_week,workclass,marital_status,occupation,relationship,native_country\n1,1,1,1,1,7,a,a,a,a\n",
    );
    let with = |key: &str, value: Value| {
        let mut specification = income_job("census", "scores");
        specification[key] = value;
        specification
    };
    let cases = [
        (with("dataset", json!("nothing")), 404, "dataset \"nothing\" does not exist"),
        (with("dataset", json!("census@7")), 404, "version 7 of dataset \"census\" does not exist"),
        (with("dataset", json!("census@x")), 400, "expected a number, or latest"),
        (with("model", json!("nothing")), 404, "model nothing is not known"),
        (with("model", json!("income@9")), 404, "has no version 9"),
        (with("model", json!("income@champion")), 404, "has no alias champion"),
        (with("output", json!({ "dataset": "a b" })), 400, "output: "),
        (with("key", json!("nothing")), 400, "the key column \"nothing\" is not there"),
        (with("carry", json!(["nothing"])), 400, "column \"nothing\", which is to be carried through"),
        (with("inputs", json!({ "nothing": "age" })), 400, "the model has no input \"nothing\""),
        (with("inputs", json!({ "age": "nothing" })), 400, "takes column \"nothing\", which is not there"),
        (with("inputs", json!({ "age": ["age", "id"] })), 422, "not 2 columns"),
        (with("inputs", json!({ "age": { "column": "age", "if_null": "x" } })), 400, "which is no FP32"),
        (with("outputs", json!({ "nothing": "x" })), 400, "the model has no output \"nothing\""),
        (with("outputs", json!({ "label": "probability" })), 400, "two columns \"probability\""),
        (with("where", json!("age >")), 400, "where cannot be used"),
        (with("where", json!("age")), 400, "expected a condition"),
        (with("where", json!("nothing > 3")), 400, "where cannot be used"),
        (with("where", json!("age IN (SELECT 1)")), 400, "where holds a query within an expression"),
        (with("where", json!("repeat('x', 1000000000000) = 'y'")), 400, "where cannot be used"),
        (with("columns", json!(["age"])), 400, "which is not there"),
        (with("batch_size", json!(0)), 400, "batch_size"),
        (with("batch_size", json!(1_000_000)), 400, "expected at most 65536"),
        (with("share_percent", json!(101)), 400, "share_percent is 101"),
        (with("max_failed_share", json!(0.5)), 400, "\"skip\""),
        (with("on_error", json!("ignore")), 400, "on_error"),
        (with("nonsense", json!(1)), 400, "nonsense"),
        (with("columns", json!(["age AS \"\u{1}row\""])), 400, "which numbers rows"),
        (with("output", json!({ "dataset": "scores", "table": "nothing" })), 404, "nothing"),
        (
            with("output", json!({ "dataset": "scores", "table": "people" })),
            422,
            "table people cannot take the output: key column \"person\" is not in the dataset: it has id, label, probability",
        ),
        (income_job("other", "scores"), 400, "which is not there"),
    ];
    for (specification, status, sentence) in cases {
        let refused = ask(&host, &specification).error(status);
        assert!(refused.contains(sentence), "{refused}\n{specification}");
        let tried = host.send(&to("/v1/jobs?dry_run=true", &specification)).error(status);
        assert_eq!(tried, refused, "{specification}");
    }
    let mut mistyped = income_job("texts", "scores");
    mistyped.as_object_mut().unwrap().remove("key");
    let refused = ask(&host, &mistyped).error(422);
    assert!(
        refused.contains("column \"workclass\" is Int64, which does not fit input \"workclass\""),
        "{refused}"
    );
    assert_eq!(host.get("/v1/jobs").expect(200)["jobs"], json!([]));
    host.get("/v1/jobs/1").error(404);
    host.get("/v1/jobs/x").error(404);
    assert_eq!(left_behind(&host, 1), Vec::<String>::new());
}

#[test]
fn a_file_that_is_damaged_ends_the_job_with_its_name_and_publishes_nothing() {
    let setup = Setup::new();
    let host = setup.start();
    with_income(&host);
    put(&host, "census", "application/vnd.apache.parquet", table::repeated_census(200_000));
    let version = host.get("/v1/datasets/census/versions/1").expect(200);
    let file = &version["files"][0];
    let digest = file["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let path = host.data_dir().join("datasets").join(format!("{digest}.parquet"));
    // A page in the middle is zeros now; the footer is as it was.
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let id = start(&host, &income_job("census", "scores"));
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!(failed["state"], "failed", "{failed}");
    let reason = failed["error"].as_str().unwrap();
    let name = file["name"].as_str().unwrap();
    assert!(reason.contains(name) && reason.contains("from row "), "{reason}");
    host.get("/v1/datasets/scores").error(404);
    assert!(errors(&host, id).is_empty());
    // A truncated one is noticed by its length.
    std::fs::write(&path, &bytes[..middle]).unwrap();
    let id = start(&host, &income_job("census", "scores"));
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains(name), "{failed}");
    host.get("/v1/datasets/scores").error(404);
}

#[test]
fn a_full_disk_ends_the_job_which_goes_on_when_there_is_room() {
    let setup = Setup::new();
    let Some(disk) = SmallDisk::mount(setup.data_dir(), 40 << 20) else {
        println!("not run: a file system can only be mounted by root");
        return;
    };
    let host = setup.start();
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    let lines: Vec<String> =
        (0..300_000_u32).map(|row| format!("{row},t{}", row.wrapping_mul(2_654_435_761))).collect();
    put(&host, "numbers", "text/csv", format!("x,text\n{}\n", lines.join("\n")));
    let filler = host.data_dir().join("filler");
    let specification = json!({
        "dataset": "numbers", "model": "selective", "carry": ["text"],
        "output": { "dataset": "doubled", "format": "csv" },
    });
    disk.fill_all_but(&filler, 3 << 20);
    let id = start(&host, &specification);
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("no room left"), "{failed}");
    host.get("/v1/datasets/doubled").error(404);
    std::fs::remove_file(&filler).unwrap();
    super::change(&host, id, "resume").expect(200);
    let done = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!(
        (&done["state"], &done["rows"]["succeeded"]),
        (&json!("succeeded"), &json!(300_000)),
        "{done}"
    );
    // Nothing is lost and nothing twice, whatever was half written when the disk was full.
    let files = super::version_of(&host, &done)["files"].as_array().unwrap().clone();
    let rows: Vec<String> = files.iter().flat_map(|file| rows_of_csv(&host.data_dir(), file)).collect();
    let expected = (0..300_000_u32)
        .map(|row| format!("{row},t{},{:?}", row.wrapping_mul(2_654_435_761), 2.0 * row as f32));
    assert!(rows.iter().map(String::as_str).eq(expected.collect::<Vec<_>>().iter().map(String::as_str)));
    assert_eq!(job(&host, id)["error"], Value::Null);
}

/// The rows of a file of a dataset.
fn rows_of_csv(data_dir: &std::path::Path, file: &Value) -> Vec<String> {
    let digest = file["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let text = std::fs::read_to_string(data_dir.join("datasets").join(format!("{digest}.csv"))).unwrap();
    text.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn rows_that_are_gone_when_a_job_goes_on_end_it() {
    let host = Host::start();
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    let rows = 200_000;
    let line = |row: u32| json!({ "id": row, "x": row, "text": "fine" }).to_string();
    let text = (0..rows).map(line).collect::<Vec<_>>().join("\n");
    put(&host, "numbers", "application/jsonl", text.as_str());
    let mut specification = super::selective_job("numbers", "doubled");
    // With a condition, rows that are gone could be taken for rows that are not wanted.
    specification["where"] = json!("id >= 0");
    let id = start(&host, &specification);
    wait_until("some rows are done", || job(&host, id)["rows_done"].as_u64().unwrap_or(0) > 1_000);
    assert_eq!(super::change(&host, id, "pause").expect(200)["state"], "paused");
    let file = host.get("/v1/datasets/numbers/versions/1").expect(200)["files"][0].clone();
    let digest = file["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let path = host.data_dir().join("datasets").join(format!("{digest}.jsonl"));
    // A line near the end is blank now, and the file as long as before.
    let gone = line(rows - 10);
    std::fs::write(&path, text.replace(&gone, &" ".repeat(gone.len()))).unwrap();
    super::change(&host, id, "resume").expect(200);
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    let reason = failed["error"].as_str().unwrap_or_default();
    let name = file["name"].as_str().unwrap();
    assert!(reason.contains(name) && reason.contains("from row 199999"), "{failed}");
    host.get("/v1/datasets/doubled").error(404);
}

#[test]
fn an_output_has_no_more_files_than_a_dataset_may() {
    let host = Setup::new().set("batch.max_dataset_files", 2).start();
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    put(&host, "numbers", "text/csv", super::numbers(3 * 65_536, |id| format!("{id},fine")));
    let id = start(&host, &super::selective_job("numbers", "doubled"));
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    let expected = "the output would have 3 files or more: batch.max_dataset_files allows 2";
    assert_eq!(failed["error"], expected, "{failed}");
}

#[test]
fn a_table_that_does_not_take_the_rows_leaves_them_where_they_are() {
    let host = Host::start();
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    host.send(&Request::put("/v1/predictions/doubles", &json!({ "key": "id" }))).expect(201);
    // A key that two rows have.
    put(&host, "numbers", "text/csv", "id,x,text\n1,1,fine\n1,2,fine\n");
    let mut specification = super::selective_job("numbers", "doubled");
    specification["output"]["table"] = json!("doubles");
    let id = start(&host, &specification);
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    let reason = failed["error"].as_str().unwrap_or_default();
    assert!(
        reason.starts_with("the predictions are doubled@1, which table doubles does not take: "),
        "{failed}"
    );
    assert_eq!(failed["output"], "doubled@1", "{failed}");
    assert_eq!(host.get("/v1/datasets/doubled/versions/1").expect(200)["rows"], 2);
}
