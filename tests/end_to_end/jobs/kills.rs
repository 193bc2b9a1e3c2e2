//! The host is killed again and again while a job runs: afterwards every row is there once, as in an undisturbed run.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::{artifacts, table};
use serde_json::{Value, json};

use super::{
    change, errors, income_job, job, left_behind, numbers, output, put, run, selective_job, start, wait_for,
    with_income, with_selective,
};

/// Kills the host so often at random moments, and starts it again. Answers how many of the kills met a job that was not
/// over.
fn kill_at_random(host: Host, id: u64, kills: usize, pauses: std::ops::Range<u64>) -> (Host, usize) {
    let mut random = fastrand::Rng::with_seed(11);
    let mut host = host;
    let (mut met_running, mut met_waiting) = (0, 0);
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(random.u64(pauses.clone())));
        let state = job(&host, id)["state"].clone();
        met_running += usize::from(state == "running");
        met_waiting += usize::from(state == "queued");
        host = host.kill().start();
    }
    println!("{kills} kills, {met_running} while the job ran, {met_waiting} while it waited");
    assert!(met_running > 0, "no kill met a job at work");
    (host, met_running + met_waiting)
}

#[test]
fn a_job_of_a_million_rows_survives_twenty_kills() {
    let (rows, kills) = (1_000_000, 20);
    let host = Setup::new().start();
    with_income(&host);
    put(&host, "census", "application/vnd.apache.parquet", table::repeated_census(rows));
    let undisturbed = run(&host, &income_job("census", "calm"));
    let expected = output(&host, &undisturbed);
    let mut slow = income_job("census", "disturbed");
    // So that it is not over before the last kill.
    slow["share_percent"] = json!(20);
    let id = start(&host, &slow);
    let (host, met_running) = kill_at_random(host, id, kills, 20..600);
    let done = wait_for(&host, id, &["succeeded", "failed", "cancelled", "paused"]);
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
    let left = || left_behind(&host, id).into_iter().filter(|name| name.contains("part")).count();
    wait_until("its parts are removed", || left() == 0);
}

#[test]
fn a_kill_while_the_output_is_published_makes_no_second_version() {
    let rows = 100_000;
    let mut host = Setup::new().start();
    with_income(&host);
    put(&host, "census", "application/vnd.apache.parquet", table::repeated_census(rows));
    let files = |host: &Host| fs::read_dir(host.data_dir().join("datasets")).unwrap().count();
    for attempt in 0..6_u64 {
        let before = files(&host);
        let dataset = format!("scores{attempt}");
        let mut specification = income_job("census", &dataset);
        // Other bytes each time.
        specification["where"] = json!(format!("id >= {attempt}"));
        let id = start(&host, &specification);
        // The first file gets its place, then the others, then they are recorded, then the job.
        let began = Instant::now();
        while files(&host) == before {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing is published: {}", job(&host, id));
        }
        thread::sleep(Duration::from_micros(attempt * 500));
        host = host.kill().start();
        let done = wait_for(&host, id, &["succeeded", "failed", "paused"]);
        assert_eq!(done["state"], "succeeded", "{done}");
        let ids = table::integers(&output(&host, &done), "id");
        assert!(ids.iter().copied().eq(attempt as i64..rows as i64), "{} rows", ids.len());
        let versions = host.get(&format!("/v1/datasets/{dataset}/versions")).expect(200);
        assert_eq!(versions["versions"].as_array().map(Vec::len), Some(1), "{versions}");
    }
}

/// Of a hundred rows one is null, and one does not please the plugin.
fn spoilt(id: usize) -> String {
    match id % 100 {
        0 => ",fine".to_owned(),
        50 => "1.5,invalid".to_owned(),
        _ => format!("{},fine", id as f32 / 2.0),
    }
}

fn code_of(row: &Value) -> &'static str {
    if row["row"].as_u64().is_some_and(|row| row.is_multiple_of(100)) { "null" } else { "invalid_input" }
}

#[test]
fn a_job_that_was_killed_with_failed_rows_has_each_once() {
    let rows = 300_000;
    let host = Setup::new().start();
    with_selective(&host);
    put(&host, "numbers", "text/csv", numbers(rows, spoilt));
    let mut specification = selective_job("numbers", "doubled");
    specification["on_error"] = json!("skip");
    // Many calls for the rows that are to blame: it takes a while.
    specification["batch_size"] = json!(256);
    specification["parallelism"] = json!(1);
    let id = start(&host, &specification);
    let (host, met_running) = kill_at_random(host, id, 5, 20..250);
    assert!(met_running > 1, "the job was over too soon");
    let done = wait_for(&host, id, &["succeeded", "failed", "paused"]);
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
    retried_and_killed(host, id, rows);
}

/// Kills the host while a job runs, which may be soon over.
fn kill_once(host: Host, id: u64) -> Host {
    wait_until("it runs", || job(&host, id)["state"] != "queued");
    host.kill().start()
}

/// Tries the failed rows again, kills the host meanwhile, and forgets the first job: the second one does not need it.
fn retried_and_killed(host: Host, first: u64, rows: usize) {
    let again = change(&host, first, "retry").expect(201)["id"].as_u64().unwrap();
    let host = kill_once(host, again);
    let needed = host.send(&modelhost_tests::http::Request::delete("/v1/datasets/doubled/versions/1"));
    if job(&host, again)["state"] != "succeeded" {
        assert!(needed.error(409).contains(&format!("job {again}")), "{}", needed.text());
    }
    assert_eq!(host.send(&modelhost_tests::http::Request::delete(format!("/v1/jobs/{first}"))).status, 204);
    let host = host.kill().start();
    let done = wait_for(&host, again, &["succeeded", "failed", "paused"]);
    assert_eq!(done["state"], "succeeded", "{done}");
    assert_eq!(done["rows"]["failed"], rows / 50, "the same rows fail again");
    let ids = table::integers(&output(&host, &done), "id");
    assert!(ids.iter().copied().eq((0..rows as i64).filter(|id| id % 50 != 0)));
}

#[test]
fn a_job_that_ends_its_host_again_and_again_is_paused() {
    let mut host = Setup::new().start();
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    put(&host, "numbers", "text/csv", numbers(10, |_| "1,loop".to_owned()));
    let mut specification = selective_job("numbers", "doubled");
    specification["call_timeout_ms"] = json!(60_000);
    let id = start(&host, &specification);
    // It never commits anything: to the host it looks as if the job were why it ended.
    for _ in 0..5 {
        wait_until("it runs", || job(&host, id)["state"] == "running");
        thread::sleep(Duration::from_millis(200));
        host = host.kill().start();
    }
    let paused = wait_for(&host, id, &["paused", "running"]);
    let reason = paused["error"].as_str().unwrap_or_default();
    assert!(reason.contains("the host ended 5 times while this job worked"), "{paused}");
    // Whoever has seen to it may let it go on.
    change(&host, id, "resume").expect(200);
    wait_until("it runs", || job(&host, id)["state"] == "running");
    assert_eq!(change(&host, id, "cancel").expect(200)["state"], "cancelled");
}
