//! Versions come and go under those who read: no lookup fails, and none sees two versions at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::host::Host;
use modelhost_tests::http::{Connection, Request};
use serde_json::{Value, json};

use super::{get, look_up, publish, put_dataset, put_lines, put_table, table_of};

const CONNECTIONS: usize = 4;
const KEYS_OF_ONE_LOOKUP: u64 = 20;

/// How many keys the quick proof has; the whole one, which takes minutes, has a million.
const KEYS: u64 = 20_000;

/// The rows of one version: each says which one it is of, twice.
fn lines(keys: u64, mark: u64) -> String {
    let line = |key| format!("{{\"key\":{key},\"mark\":{mark},\"list\":[{mark},{key}]}}\n");
    (0..keys).map(line).collect()
}

#[test]
fn lookups_go_on_while_versions_are_published() {
    look_up_while_publishing(KEYS);
}

/// `cargo test --release --workspace --test end_to_end -- --ignored --nocapture one_million_keys`
#[test]
#[ignore = "takes minutes and gigabytes; the quick one beside it proves the same of fewer keys"]
fn lookups_of_one_million_keys_go_on_while_versions_are_published() {
    look_up_while_publishing(1_000_000);
}

fn look_up_while_publishing(keys: u64) {
    let host = Host::start();
    put_lines(&host, "d", &lines(keys, 1));
    put_table(&host, "t", &json!({ "key": "key", "dataset": "d" }));
    let began = Instant::now();
    publish(&host, "t", "d");
    let publishing = began.elapsed();
    let (is_over, newest) = (AtomicBool::new(false), AtomicU64::new(1));
    let times = thread::scope(|scope| {
        let readers: Vec<_> = (0..CONNECTIONS)
            .map(|reader| {
                scope.spawn({
                    let (host, is_over, newest) = (&host, &is_over, &newest);
                    move || read(host, keys, reader as u64, is_over, newest)
                })
            })
            .collect();
        for mark in 2..=5 {
            put_lines(&host, "d", &lines(keys, mark));
            assert_eq!(publish(&host, "t", "d"), mark);
            newest.store(mark, Relaxed);
            thread::sleep(Duration::from_millis(100));
        }
        is_over.store(true, Relaxed);
        let mut times: Vec<Duration> =
            readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
        times.sort_unstable();
        times
    });
    assert!(times.len() > 100, "only {} lookups", times.len());
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{keys} keys, first version published in {publishing:?}; {} lookups on {CONNECTIONS} connections while four more \
         were uploaded and published: p50 {:?}, p99 {:?}",
        times.len(),
        at(0.5),
        at(0.99)
    );
}

/// Answers the times of lookups of one key.
fn read(host: &Host, keys: u64, seed: u64, is_over: &AtomicBool, newest: &AtomicU64) -> Vec<Duration> {
    let mut connection = host.connect();
    let mut random = seed + 1;
    let mut times = Vec::new();
    while !is_over.load(Relaxed) {
        let at_least = newest.load(Relaxed);
        // The constants of a well-known generator of pseudo-random numbers.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = (random >> 33) % keys;
        let began = Instant::now();
        let found = connection.send(&Request::get(format!("/v1/predictions/t/{key}"))).unwrap();
        times.push(began.elapsed());
        assert_is_of_one_version(&found.expect(200), key, at_least);
        read_many(&mut connection, keys, key, at_least);
    }
    times
}

fn read_many(connection: &mut Connection, keys: u64, first: u64, at_least: u64) {
    let wanted: Vec<u64> = (0..KEYS_OF_ONE_LOOKUP).map(|number| (first + number * 7_919) % keys).collect();
    let request = Request::post("/v1/predictions/t/lookup", json!({ "keys": wanted }).to_string());
    let found = connection.send(&request).unwrap().expect(200);
    let predictions = found["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), wanted.len());
    for (prediction, key) in predictions.iter().zip(wanted) {
        assert_is_of_one_version(prediction, key, at_least);
        assert_eq!(prediction["version"], predictions[0]["version"], "{found}");
    }
}

#[track_caller]
fn assert_is_of_one_version(prediction: &Value, key: u64, at_least: u64) {
    let mark = prediction["version"].as_u64().unwrap_or_else(|| panic!("{prediction}"));
    assert!(mark >= at_least, "version {mark} after {at_least} was published");
    assert_eq!(prediction["values"], json!({ "mark": mark, "list": [mark, key] }), "{prediction}");
}

#[test]
fn a_rollback_is_one_step_and_older_versions_are_kept_for_it() {
    let host = Host::start();
    put_table(&host, "t", &json!({ "key": "key", "keep_versions": 2 }));
    for mark in 1..=3 {
        put_dataset(&host, "d", &[json!({ "key": "a", "mark": mark })]);
        assert_eq!(publish(&host, "t", "d"), mark);
    }
    let mark = |host: &Host| get(host, "t", "a").expect(200)["values"]["mark"].as_u64().unwrap();
    let rollback = |body: &str| Request::post("/v1/predictions/t/rollback", body);
    let files = || {
        let folder = std::fs::read_dir(host.data_dir().join("tables/t")).unwrap();
        let mut names: Vec<_> =
            folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!((mark(&host), files()), (3, vec!["2.arrow".to_owned(), "3.arrow".to_owned()]));
    assert_eq!(host.send(&rollback("")).expect(200)["current"], 2);
    assert_eq!(mark(&host), 2);
    assert!(host.send(&rollback("")).error(409).contains("no version before"));
    assert!(host.send(&rollback(r#"{"version":1}"#)).error(404).contains("it keeps 2, 3"));
    assert_eq!(host.send(&rollback(r#"{"version":3}"#)).expect(200)["current"], 3);
    assert_eq!(host.send(&rollback("")).expect(200)["current"], 2);
    // What answers is never forgotten, and no number is used twice.
    put_dataset(&host, "d", &[json!({ "key": "a", "mark": 4 })]);
    assert_eq!(publish(&host, "t", "d"), 4);
    assert_eq!((mark(&host), files()), (4, vec!["3.arrow".to_owned(), "4.arrow".to_owned()]));
}

#[test]
fn everything_is_there_after_a_restart() {
    let host = Host::start();
    table_of(&host, "t", &[json!({ "key": "a", "mark": 1 })]);
    put_dataset(&host, "t", &[json!({ "key": "a", "mark": 2 })]);
    publish(&host, "t", "t");
    host.send(&Request::post("/v1/predictions/t/rollback", "")).expect(200);
    let host = host.kill().start();
    let found = look_up(&host, "t", &json!({ "keys": ["a"] })).expect(200);
    assert_eq!(
        (&found["predictions"][0]["version"], &found["predictions"][0]["values"]),
        (&json!(1), &json!({ "mark": 1 }))
    );
    let table = host.get("/v1/predictions/t").expect(200);
    assert_eq!((&table["current"], &table["next_version"]), (&json!(1), &json!(3)));
}
