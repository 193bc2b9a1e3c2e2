//! Changes of one table at the same time, and under those who read it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use modelhost_tests::host::{Host, wait_until};
use modelhost_tests::http::Request;
use serde_json::json;

use super::{get, publication, publish, put_dataset, put_lines, put_table, staged};

/// Enough for a publication to take longer than the requests that are sent meanwhile.
fn many_rows(mark: u64) -> String {
    (0..1_500_000).map(|key| format!("{{\"key\":{key},\"mark\":{mark}}}\n")).collect()
}

/// A table with two small versions and a large dataset `large`.
fn host_with_large() -> Host {
    let host = Host::start();
    put_table(&host, "t", &json!({ "key": "key" }));
    for mark in 1..=2 {
        put_dataset(&host, "d", &[json!({ "key": 1, "mark": mark })]);
        publish(&host, "t", "d");
    }
    put_lines(&host, "large", &many_rows(3));
    host
}

fn mark(host: &Host) -> u64 {
    get(host, "t", "1").expect(200)["values"]["mark"].as_u64().unwrap()
}

/// Something is being published.
fn wait_until_under_way(host: &Host) {
    wait_until("a publication is under way", || !staged(host).is_empty());
}

#[test]
fn a_rollback_does_not_wait_for_a_publication() {
    let host = host_with_large();
    thread::scope(|scope| {
        let publishing = scope.spawn(|| host.send(&publication("t", "large")));
        wait_until_under_way(&host);
        let current =
            host.send(&Request::post("/v1/predictions/t/rollback", "")).expect(200)["current"].clone();
        assert_eq!((current, mark(&host)), (json!(1), 1));
        put_table(&host, "t", &json!({ "key": "key", "keep_versions": 5 }));
        assert!(!publishing.is_finished(), "the publication was too quick for this test");
        // It takes effect when it is done, as the version after those that there are.
        let published = publishing.join().unwrap().expect(201);
        assert_eq!(published["number"], 3);
    });
    let table = host.get("/v1/predictions/t").expect(200);
    assert_eq!((&table["settings"]["keep_versions"], &table["current"]), (&json!(5), &json!(3)));
    assert_eq!(mark(&host), 3);
    // What was rolled back from is still there.
    host.send(&Request::post("/v1/predictions/t/rollback", r#"{"version":2}"#)).expect(200);
    assert_eq!(mark(&host), 2);
}

#[test]
fn a_publication_to_a_deleted_table_leaves_the_next_one_of_its_name_alone() {
    let host = host_with_large();
    thread::scope(|scope| {
        let publishing = scope.spawn(|| host.send(&publication("t", "large")));
        wait_until_under_way(&host);
        assert_eq!(host.send(&Request::delete("/v1/predictions/t")).status, 204);
        put_table(&host, "t", &json!({ "key": "key" }));
        assert_eq!(publish(&host, "t", "d@1"), 1);
        assert!(!publishing.is_finished(), "the publication was too quick for this test");
        assert_eq!(publishing.join().unwrap().error(404), "prediction table t is not known");
    });
    assert_eq!(mark(&host), 1);
    let host = host.kill().start();
    assert_eq!(mark(&host), 1);
    let table = host.get("/v1/predictions/t").expect(200);
    assert_eq!((&table["current"], &table["next_version"]), (&json!(1), &json!(2)));
}

#[test]
fn tables_are_made_and_deleted_by_several_at_once() {
    let host = Host::start();
    put_dataset(&host, "d", &[json!({ "key": 1, "mark": 1 })]);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut connection = host.connect();
                for _ in 0..20 {
                    let made = connection.send(&Request::put("/v1/predictions/t", &json!({ "key": "key" })));
                    assert!(matches!(made.unwrap().status, 200 | 201 | 412));
                    let published = connection.send(&publication("t", "d")).unwrap();
                    assert!(matches!(published.status, 200 | 201 | 404 | 412), "{}", published.text());
                    let found = connection.send(&Request::get("/v1/predictions/t/1")).unwrap();
                    assert!(matches!(found.status, 200 | 404), "{}", found.text());
                    let deleted = connection.send(&Request::delete("/v1/predictions/t")).unwrap();
                    assert!(matches!(deleted.status, 204 | 404 | 412), "{}", deleted.text());
                }
            });
        }
    });
    put_table(&host, "t", &json!({ "key": "key" }));
    host.send(&publication("t", "d")).json();
    assert_eq!(mark(&host), 1);
}

#[test]
fn rollbacks_and_settings_change_under_those_who_read() {
    let host = Host::start();
    put_table(&host, "t", &json!({ "key": "key" }));
    for mark in 1..=3 {
        put_dataset(&host, "d", &[json!({ "key": 1, "mark": mark }), json!({ "key": 2, "mark": mark })]);
        publish(&host, "t", "d");
    }
    let is_over = AtomicBool::new(false);
    let lookups: u64 = thread::scope(|scope| {
        let read = || {
            let mut connection = host.connect();
            let mut lookups = 0;
            while !is_over.load(Relaxed) {
                let request = Request::post("/v1/predictions/t/lookup", r#"{"keys":[1,2]}"#);
                let found = connection.send(&request).unwrap().expect(200);
                let version = &found["predictions"][0]["version"];
                for prediction in found["predictions"].as_array().unwrap() {
                    assert_eq!(&prediction["version"], version, "{found}");
                    assert_eq!(&prediction["values"]["mark"], version, "{found}");
                }
                lookups += 1;
            }
            lookups
        };
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(read)).collect();
        for round in 0..30_u64 {
            let version = json!({ "version": round % 3 + 1 }).to_string();
            host.send(&Request::post("/v1/predictions/t/rollback", version)).expect(200);
            put_table(&host, "t", &json!({ "key": "key", "max_age_seconds": round + 60 }));
        }
        thread::sleep(Duration::from_millis(50));
        is_over.store(true, Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert!(lookups > 100, "only {lookups} lookups");
}

#[test]
fn what_answers_already_is_not_published_again() {
    let host = host_with_large();
    let again = host.send(&publication("t", "d@2"));
    assert_eq!((again.status, &again.json()["number"]), (200, &json!(2)));
    assert_eq!(host.get("/v1/predictions/t").expect(200)["next_version"], 3);
    // What answered before is another version when it is published again.
    assert_eq!(publish(&host, "t", "d@1"), 3);
}

#[test]
fn versions_of_a_table_have_keys_of_one_kind() {
    let host = host_with_large();
    put_dataset(&host, "texts", &[json!({ "key": "one", "mark": 1 })]);
    let said = host.send(&publication("t", "texts")).error(422);
    assert_eq!(
        said,
        "the keys of texts@1 are strings, those of version 1 of table t are whole numbers: other keys need another table"
    );
    assert_eq!(mark(&host), 2);
}
