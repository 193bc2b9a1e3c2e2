//! Killed in the middle of a publication, a table is at the next start what it was before or what was published, and
//! nothing is left that nobody needs.

use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::artifacts;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::Request;
use serde_json::json;

use super::{get, publication, put_lines, put_table, staged};

const KEYS: u64 = 30_000;
const ROUNDS: u64 = 12;

fn lines(mark: u64) -> String {
    (0..KEYS).map(|key| format!("{{\"key\":{key},\"mark\":{mark}}}\n")).collect()
}

#[test]
fn a_publication_is_there_whole_or_not_at_all() {
    let setup = Setup::new();
    let host = setup.start();
    for mark in 1..=2 {
        put_lines(&host, &format!("d{mark}"), &lines(mark));
    }
    put_table(&host, "t", &json!({ "key": "key", "keep_versions": 2 }));
    let began = Instant::now();
    host.send(&publication("t", "d1")).expect(201);
    let one_publication = began.elapsed();
    let mut host = host;
    let (mut was_published, mut was_not) = (0, 0);
    for round in 0..ROUNDS {
        let before = state(&host);
        let dataset = if before.1 == 1 { "d2" } else { "d1" };
        let acknowledged =
            publish_and_kill(&host, dataset, one_publication.mul_f64(round as f64 * 1.5 / ROUNDS as f64));
        host = host.kill().start();
        let after = state(&host);
        if after == before {
            assert!(!acknowledged, "version {} was acknowledged and is gone", before.0 + 1);
            was_not += 1;
        } else {
            assert_eq!((after.0, after.1), (before.0 + 1, 3 - before.1));
            was_published += 1;
        }
        assert_nothing_is_left(&host);
    }
    println!("{was_published} publications were there after the kill, {was_not} were not");
    assert!(matches!(host.send(&publication("t", "d1")).status, 200 | 201));
}

#[test]
fn a_rollback_took_place_or_did_not() {
    let host = Setup::new().start();
    put_table(&host, "t", &json!({ "key": "key" }));
    for mark in 1..=2 {
        put_lines(&host, "d", &lines(mark));
        host.send(&publication("t", "d")).expect(201);
    }
    let mut host = host;
    for round in 0..ROUNDS {
        let before = state(&host);
        let wanted = 3 - before.0;
        let rollback = Request::post("/v1/predictions/t/rollback", json!({ "version": wanted }).to_string());
        let acknowledged = send_and_kill(&host, &rollback, Duration::from_micros(round * 300));
        host = host.kill().start();
        let after = state(&host);
        assert!(after == (wanted, wanted) || (after == before && acknowledged.is_none()), "{after:?}");
        assert_nothing_is_left(&host);
    }
}

#[test]
fn a_deleted_table_is_gone_and_one_that_is_not_is_whole() {
    let setup = Setup::new();
    let mut host = setup.start();
    put_lines(&host, "d", &lines(1));
    let (mut gone, mut there) = (0, 0);
    for round in 0..ROUNDS {
        put_table(&host, "t", &json!({ "key": "key" }));
        host.send(&publication("t", "d")).json();
        let deletion = Request::delete("/v1/predictions/t");
        let acknowledged = send_and_kill(&host, &deletion, Duration::from_micros(round * 300));
        host = host.kill().start();
        if host.get("/v1/predictions/t").status == 404 {
            gone += 1;
            assert!(!host.data_dir().join("tables/t").exists());
        } else {
            assert!(acknowledged.is_none(), "a deletion was acknowledged and the table is there");
            there += 1;
            assert_eq!(state(&host).1, 1);
            assert_nothing_is_left(&host);
        }
    }
    println!("{gone} deletions took place, {there} did not");
}

/// A job publishes its output to a table, and is killed on the way: it is published once.
#[test]
fn what_a_job_publishes_is_there_once() {
    let setup = Setup::new();
    let mut host = setup.start();
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    let rows: String =
        (0..2_000).map(|key| format!("{{\"key\":{key},\"x\":{key},\"text\":\"well\"}}\n")).collect();
    put_lines(&host, "numbers", &rows);
    put_table(&host, "t", &json!({ "key": "key", "keep_versions": 100 }));
    let job = json!({
        "dataset": "numbers", "model": "selective", "key": "key",
        "output": { "dataset": "doubled", "table": "t" },
    });
    let mut whole = Duration::from_millis(200);
    for round in 0..6_u32 {
        let began = Instant::now();
        let id = host.send(&Request::post("/v1/jobs", job.to_string())).expect(201)["id"].clone();
        let address = format!("/v1/jobs/{id}");
        let has_ended = |host: &Host| host.get(&address).expect(200)["state"] == "succeeded";
        if round > 0 {
            // Towards its end, where it publishes.
            thread::sleep(whole.mul_f64(0.5 + 0.1 * f64::from(round)));
            host = host.kill().start();
        }
        wait_until("the job has ended", || has_ended(&host));
        if round == 0 {
            whole = began.elapsed();
        }
        let table = host.get("/v1/predictions/t").expect(200);
        let versions = table["versions"].as_array().unwrap();
        assert_eq!(versions.len(), round as usize + 1, "{table}");
        assert_eq!(get(&host, "t", "7").expect(200)["values"]["y"], 14.0);
        assert_nothing_is_left(&host);
    }
}

/// Kills the host some time into a publication. Whether it was acknowledged before.
fn publish_and_kill(host: &Host, dataset: &str, after: Duration) -> bool {
    send_and_kill(host, &publication("t", dataset), after) == Some(201)
}

/// Kills the host some time after a request was sent. The status of the answer, where there was one.
fn send_and_kill(host: &Host, request: &Request, after: Duration) -> Option<u16> {
    let mut connection = host.connect();
    let pid = host.pid();
    thread::scope(|scope| {
        let sending = scope.spawn(move || connection.send(request).map(|response| response.status).ok());
        thread::sleep(after);
        modelhost_tests::process::kill(pid);
        sending.join().unwrap()
    })
}

/// The version that answers, and the mark of its rows.
fn state(host: &Host) -> (u64, u64) {
    let marks = [0, KEYS / 2, KEYS - 1].map(|key| {
        let found = get(host, "t", &key.to_string()).expect(200);
        (found["version"].as_u64().unwrap(), found["values"]["mark"].as_u64().unwrap())
    });
    assert!(marks.iter().all(|mark| *mark == marks[0]), "{marks:?}");
    marks[0]
}

fn assert_nothing_is_left(host: &Host) {
    let table = host.get("/v1/predictions/t").expect(200);
    let versions = table["versions"].as_array().unwrap();
    let mut expected: Vec<String> =
        versions.iter().map(|version| format!("{}.arrow", version["number"])).collect();
    let folder = |name: &str| -> Vec<String> {
        let entries = std::fs::read_dir(host.data_dir().join(name)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    expected.sort();
    assert_eq!(folder("tables/t"), expected);
    assert_eq!(folder("tables"), ["t"]);
    assert_eq!(staged(host), Vec::<String>::new());
}
