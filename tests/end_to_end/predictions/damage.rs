//! Files that are not what was written, and disks without room: told as such, never a wrong answer, and mended by what an
//! operator does about it.

use std::fs;
use std::path::PathBuf;

use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::Request;
use modelhost_tests::small_disk::SmallDisk;
use modelhost_tests::{artifacts, onnx};
use serde_json::{Value, json};

use super::{get, look_up, publication, publish, put_dataset, put_lines, put_table, staged, table_of};

fn rows(mark: u64) -> String {
    (0..20_000).map(|key| format!("{{\"key\":{key},\"mark\":{mark}}}\n")).collect()
}

/// A table with two versions, of which the second answers, and its file.
fn host_with_table(setup: &Setup) -> (Host, PathBuf) {
    let host = setup.start();
    put_table(&host, "t", &json!({ "key": "key", "dataset": "d" }));
    for mark in 1..=2 {
        put_lines(&host, "d", &rows(mark));
        assert_eq!(publish(&host, "t", "d"), mark);
    }
    let path = host.data_dir().join("tables/t/2.arrow");
    (host, path)
}

fn mark(host: &Host, key: u64) -> Value {
    get(host, "t", &key.to_string()).expect(200)["values"]["mark"].clone()
}

#[test]
fn a_file_that_cannot_be_read_is_told_until_it_is_mended() {
    let setup = Setup::new();
    let (host, path) = host_with_table(&setup);
    let whole = fs::read(&path).unwrap();
    let without_footer = whole[..whole.len() - 100].to_vec();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    let mut setup = host.stop();
    for damage in [None, Some(without_footer), Some(changed)] {
        fs::remove_file(&path).unwrap();
        if let Some(damage) = &damage {
            fs::write(&path, damage).unwrap();
        }
        let checked = setup.check(&[]);
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(!checked.status.success() && said.contains("version 2 of prediction table t"), "{said}");
        let host = setup.start();
        for _ in 0..3 {
            let said = get(&host, "t", "7").error(503);
            assert_eq!(said, "version 2 of table t cannot be read: roll back, or publish it again");
        }
        look_up(&host, "t", &json!({ "keys": [1, 2] })).error(503);
        // The log is written beside the answers. Lookups later it is still said once.
        let said = || host.log().matches("a table cannot be read").count();
        wait_until("the log says so", || said() > 0);
        look_up(&host, "t", &json!({ "keys": [1, 2] })).error(503);
        assert_eq!(said(), 1, "{}", host.log());
        // A rollback mends it, and back to what is damaged there is no way.
        host.send(&Request::post("/v1/predictions/t/rollback", "")).expect(200);
        assert_eq!(mark(&host, 7), 1);
        host.send(&Request::post("/v1/predictions/t/rollback", r#"{"version":2}"#)).error(503);
        assert_eq!(mark(&host, 7), 1);
        fs::write(&path, &whole).unwrap();
        host.send(&Request::post("/v1/predictions/t/rollback", r#"{"version":2}"#)).expect(200);
        assert_eq!(mark(&host, 7), 2);
        setup = host.stop();
        assert!(setup.check(&[]).status.success());
    }
}

#[test]
fn what_was_only_away_for_a_while_is_found_again() {
    let setup = Setup::new();
    let (host, path) = host_with_table(&setup);
    let setup = host.stop();
    // Beside its folder it would be swept away.
    let aside = setup.data_dir().join("aside.arrow");
    fs::rename(&path, &aside).unwrap();
    let host = setup.start();
    get(&host, "t", "7").error(503);
    fs::rename(&aside, &path).unwrap();
    assert_eq!(mark(&host, 7), 2);
}

#[test]
fn one_damaged_batch_fails_those_who_look_into_it_and_publishing_again_mends_it() {
    let setup = Setup::new();
    let (host, path) = host_with_table(&setup);
    let setup = host.stop();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let host = setup.start();
    let statuses: Vec<u16> =
        (0..20_000).step_by(500).map(|key| get(&host, "t", &key.to_string()).status).collect();
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
    // It is what answers already, but cannot be read.
    assert_eq!(publish(&host, "t", "d@2"), 3);
    assert_eq!([0, 7, 9_999, 19_999].map(|key| mark(&host, key)), [2, 2, 2, 2]);
}

#[test]
fn the_model_answers_for_a_table_that_cannot_be_read_and_the_answer_says_so() {
    let setup = Setup::new();
    let host = setup.start();
    host.deploy_new(
        "double",
        &with_graph(artifacts::test_plugin("labelled"), "live", &onnx::multiplication(2.0)),
    );
    table_of(&host, "features", &[json!({ "key": "ada", "x": 21 })]);
    put_dataset(&host, "d", &[json!({ "key": "ada", "y": 1.5 }), json!({ "key": "bob", "y": 2.5 })]);
    put_table(&host, "t", &json!({ "key": "key", "live": { "model": "double", "features": "features" } }));
    publish(&host, "t", "d");
    let setup = host.stop();
    fs::write(setup.data_dir().join("tables/t/1.arrow"), "nothing").unwrap();
    let host = setup.start();
    let found = get(&host, "t", "ada").expect(200);
    assert_eq!((&found["source"], &found["values"]["y"]), (&json!("live"), &json!(42.0)));
    assert!(
        found["table_error"].as_str().unwrap().contains("version 1 of table t cannot be read"),
        "{found}"
    );
    // It may have been in there.
    assert!(get(&host, "t", "bob").error(503).contains("cannot be read"));
    let found = look_up(&host, "t", &json!({ "keys": ["ada", "bob"] })).expect(200);
    assert_eq!(found["predictions"][1]["code"], 503, "{found}");
}

#[test]
fn a_full_disk_fails_a_publication_and_nothing_else() {
    let setup = Setup::new();
    let Some(disk) = SmallDisk::mount(setup.data_dir(), 48 << 20) else {
        println!("not run: a file system can only be mounted by root");
        return;
    };
    let host = setup.start();
    put_table(&host, "t", &json!({ "key": "key", "dataset": "d" }));
    put_lines(&host, "d", &rows(1));
    publish(&host, "t", "d");
    let text = "x".repeat(500);
    let long: String =
        (0..20_000).map(|key| format!("{{\"key\":{key},\"text\":\"{key}{text}\"}}\n")).collect();
    put_lines(&host, "d", &long);
    let filler = host.data_dir().join("filler");
    disk.fill_all_but(&filler, 2 << 20);
    let refused = host.send(&publication("t", "d@2"));
    assert!(refused.error(507).contains("no room left"), "{}", refused.text());
    assert_eq!(mark(&host, 7), 1);
    assert_eq!(staged(&host), Vec::<String>::new());
    let files = fs::read_dir(host.data_dir().join("tables/t")).unwrap().count();
    assert_eq!(files, 1);
    fs::remove_file(&filler).unwrap();
    assert_eq!(publish(&host, "t", "d@2"), 2);
    drop(host);
}
