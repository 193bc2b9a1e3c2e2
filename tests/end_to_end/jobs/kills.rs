//! The host is killed again and again while a job runs: afterwards every row is there once, as in an undisturbed run.

use std::thread;
use std::time::Duration;

use modelhost_tests::host::Setup;
use modelhost_tests::table;
use serde_json::Value;

use super::{errors, income_job, job, left_behind, output, put, run, start, wait_for, with_income};

fn killed(rows: usize, kills: usize) {
    let host = Setup::new().start();
    with_income(&host);
    put(&host, "census", "application/vnd.apache.parquet", table::repeated_census(rows));
    let undisturbed = run(&host, &income_job("census", "calm"));
    let expected = output(&host, &undisturbed);
    let id = start(&host, &income_job("census", "disturbed"));
    let mut random = fastrand::Rng::with_seed(11);
    let mut host = Some(host);
    let mut met_running = 0;
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(random.u64(20..600)));
        let running = host.take().expect("one host runs");
        let state = job(&running, id)["state"].clone();
        met_running += usize::from(state == "running" || state == "queued");
        host = Some(running.kill().start());
    }
    let host = host.expect("one host runs");
    let done = wait_for(&host, id, &["succeeded", "failed", "cancelled"]);
    println!("{kills} kills, {met_running} of them while the job ran");
    assert!(met_running * 2 > kills, "the job was over too soon for {kills} kills: {met_running}");
    assert_eq!(done["state"], "succeeded", "{done}");
    assert_eq!(done["rows"]["succeeded"], rows);
    assert!(errors(&host, id).is_empty());
    let disturbed = output(&host, &done);
    super::predictions::assert_every_row_once(&disturbed, rows);
    assert_eq!(disturbed, expected);
    // One version, whatever was interrupted.
    let versions = host.get("/v1/datasets/disturbed/versions").expect(200);
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(1));
    let left: Vec<String> = left_behind(&host, id).into_iter().filter(|name| name.contains("part")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_job_survives_kills() {
    killed(400_000, 8);
}

#[test]
#[ignore = "some minutes: the size that is promised"]
fn a_job_of_a_million_rows_survives_twenty_kills() {
    killed(1_000_000, 20);
}

#[test]
fn a_job_that_was_killed_with_failed_rows_has_each_once() {
    let host = Setup::new().start();
    host.deploy_new("selective", &modelhost_tests::artifacts::test_plugin("selective"));
    let rows = 60_000;
    let line = |id: usize| match id % 100 {
        0 => format!("{id},,fine"),
        50 => format!("{id},1.5,invalid"),
        _ => format!("{id},{},fine", id as f32 / 2.0),
    };
    let lines: Vec<String> = (0..rows).map(line).collect();
    put(&host, "numbers", "text/csv", format!("id,x,text\n{}\n", lines.join("\n")));
    let specification = serde_json::json!({
        "dataset": "numbers", "model": "selective", "output": { "dataset": "doubled" }, "key": "id",
        "on_error": "skip", "batch_size": 256, "parallelism": 1,
    });
    let id = start(&host, &specification);
    let mut host = host;
    for pause in [300, 700, 400, 900] {
        thread::sleep(Duration::from_millis(pause));
        host = host.kill().start();
    }
    let done = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!(done["state"], "succeeded", "{done}");
    let failed = errors(&host, id);
    let failed_rows: Vec<usize> = failed.iter().map(|row| row["row"].as_u64().unwrap() as usize).collect();
    assert!(failed_rows.iter().copied().eq((0..rows).step_by(50)), "{} failed rows", failed_rows.len());
    assert!(
        failed.iter().all(|row| row["key"] == row["row"] && row["code"] == code_of(row)),
        "{:?}",
        failed.first()
    );
    let predicted = output(&host, &done);
    let ids = table::integers(&predicted, "id");
    assert!(ids.iter().copied().eq((0..rows as i64).filter(|id| id % 50 != 0)));
    assert!(table::singles(&predicted, "y").iter().zip(&ids).all(|(y, id)| *y == *id as f32));
}

fn code_of(row: &Value) -> &'static str {
    if row["row"].as_u64().is_some_and(|row| row.is_multiple_of(100)) { "null" } else { "invalid_input" }
}
