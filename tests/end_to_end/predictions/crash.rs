//! Killed in the middle of a publication, a table is at the next start what it was before or what was published, and
//! nothing is left that nobody needs.

use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::host::{Host, Setup};
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
    assert_eq!(host.send(&publication("t", "d1")).status, 201);
}

/// Kills the host some time into a publication. Whether it was acknowledged before.
fn publish_and_kill(host: &Host, dataset: &str, after: Duration) -> bool {
    let mut connection = host.connect();
    let request = publication("t", dataset);
    let pid = host.pid();
    thread::scope(|scope| {
        let publishing =
            scope.spawn(move || connection.send(&request).is_ok_and(|response| response.status == 201));
        thread::sleep(after);
        modelhost_tests::process::kill(pid);
        publishing.join().unwrap()
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
