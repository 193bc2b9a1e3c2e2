//! A journal that is damaged, and made anew: what it has lost is lost, and nothing else is.

use std::fs;

use modelhost_tests::host::{Host, Setup};
use serde_json::json;

use super::{CSV, PARQUET, put, stored};
use crate::predictions::{publish, put_lines, put_table};

/// Damages the last line of the journal that holds this text, and makes the registry anew.
fn lose(setup: &Setup, text: &str) {
    let journal = setup.data_dir().join("journal.jsonl");
    let whole = fs::read_to_string(&journal).unwrap();
    let line = whole.lines().rfind(|line| line.contains(text)).unwrap();
    // As long as before; what the line ends in tells that it is damaged.
    fs::write(&journal, whole.replace(line, &line.replacen("\"change\"", "\"chance\"", 1))).unwrap();
    assert!(!setup.check(&[]).status.success());
    assert!(setup.check(&["--rebuild"]).status.success());
}

#[test]
fn files_whose_records_a_journal_has_lost_are_set_aside() {
    let host = Host::start();
    for (dataset, file, bytes) in [("lost", "income.parquet", PARQUET), ("kept", "income.csv", CSV)] {
        put(&host, dataset, &[(file, bytes)]).expect(201);
    }
    let parquet = stored(&host).into_iter().find(|name| name.ends_with(".parquet")).unwrap();
    let setup = host.stop();
    lose(&setup, "lost@");
    let aside = setup.data_dir().join("files-without-records/1/datasets").join(parquet);
    let mut host = setup.start();
    for _ in 0..2 {
        assert_eq!(fs::read(&aside).unwrap(), PARQUET);
        assert_eq!(stored(&host).len(), 1);
        host.get("/v1/datasets/lost").error(404);
        host.get("/v1/datasets/kept/versions/1/preview").expect(200);
        // Nothing else is lost at the starts that follow.
        host = host.stop().start();
    }
}

#[test]
fn numbers_of_tables_whose_records_are_lost_are_not_given_out_again() {
    let host = Host::start();
    put_table(&host, "t", &json!({ "key": "k" }));
    for (version, lines) in [(1, "{\"k\":1,\"v\":1}"), (2, "{\"k\":1,\"v\":2}")] {
        put_lines(&host, "d", lines);
        assert_eq!(publish(&host, "t", &format!("d@{version}")), version);
    }
    put(&host, "after", &[("income.csv", CSV)]).expect(201);
    let setup = host.stop();
    lose(&setup, "\"prediction-table\"");
    let host = setup.start();
    let aside = setup.data_dir().join("files-without-records/1/tables/t/2.arrow");
    assert!(aside.exists());
    // Known after another start, too.
    let host = host.stop().start();
    assert_eq!(publish(&host, "t", "d@2"), 3);
    assert!(aside.exists());
}
