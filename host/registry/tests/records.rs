//! Records of things that are no models: as durable as models, and found again by check and rebuild.
#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod support;

use std::fs;
use std::path::Path;

use modelhost_core::ErrorCode;
use modelhost_registry::{RecordKind, RecordUpdate, Registry, RegistryError};
use serde_json::{Value, json};
use support::*;
use tempfile::TempDir;

use RecordKind::{Dataset, DatasetVersion, Job};

fn put(registry: &Registry, name: &str, value: Value, expected: Option<u64>) -> Result<u64, RegistryError> {
    registry.update(vec![RecordUpdate::put(Job, name, value, expected)])
}

fn generation(registry: &Registry, kind: RecordKind, name: &str) -> Option<u64> {
    registry.record(kind, name).unwrap().map(|record| record.generation)
}

/// Every record, as one value.
fn all(registry: &Registry) -> Value {
    let of_kind = |kind| {
        let records = registry.records(kind, "").unwrap();
        let records = records.into_iter().map(|record| json!([record.name, record.generation, record.value]));
        records.collect::<Vec<_>>()
    };
    json!([of_kind(Dataset), of_kind(DatasetVersion), of_kind(Job)])
}

fn assert_sound(data: &Path) {
    let report = Registry::check(data).unwrap();
    assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
}

#[test]
fn a_record_is_changed_by_those_who_know_it() {
    let folder = TempDir::new().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let first = put(&registry, "7", json!({"state": "waiting"}), Some(0)).unwrap();
    let second = put(&registry, "7", json!({"state": "running"}), Some(first)).unwrap();
    for expected in [0, first] {
        let error = put(&registry, "7", json!({}), Some(expected)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::PreconditionFailed, "{error}");
    }
    let record = registry.record(Job, "7").unwrap().unwrap();
    assert_eq!((record.generation, record.value), (second, json!({"state": "running"})));
    assert_eq!(registry.record(Dataset, "7").unwrap(), None);
    registry.update(vec![RecordUpdate::delete(Job, "7", Some(second))]).unwrap();
    assert_eq!(registry.record(Job, "7").unwrap(), None);
    let error = registry.update(vec![RecordUpdate::delete(Job, "7", None)]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound, "{error}");
    // What was read before the deletion does not match what came after it.
    let again = put(&registry, "7", json!({}), Some(0)).unwrap();
    assert!(again > second);
}

#[test]
fn several_records_change_at_once_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let both = |head: u64, expected| {
        registry.update(vec![
            RecordUpdate::put(Dataset, "d", json!({"next": head}), Some(expected)),
            RecordUpdate::put(DatasetVersion, &format!("d@{head}"), json!([head]), Some(0)),
        ])
    };
    let first = both(1, 0).unwrap();
    assert_eq!(generation(&registry, DatasetVersion, "d@1"), Some(first));
    assert_eq!(both(2, 0).unwrap_err().code(), ErrorCode::PreconditionFailed);
    assert_eq!(generation(&registry, DatasetVersion, "d@2"), None);
    both(2, first).unwrap();
    let names = |prefix: &str| {
        let records = registry.records(DatasetVersion, prefix).unwrap();
        records.into_iter().map(|record| record.name).collect::<Vec<_>>()
    };
    assert_eq!(names("d@"), ["d@1", "d@2"]);
    assert!(names("e").is_empty());
    for (wrong, names) in [("a name that no record can have", ["", "x"]), ("twice", ["x", "x"])] {
        let updates = names.map(|name| RecordUpdate::put(Job, name, json!(1), None));
        let error = registry.update(updates.to_vec()).unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
        assert_eq!(registry.record(Job, "x").unwrap(), None);
    }
}

fn filled(data: &Path) -> Value {
    let registry = Registry::open(data).unwrap();
    add(&registry, "income", 1);
    put(&registry, "1", json!({"rows": u64::MAX, "text": "ä\n"}), None).unwrap();
    put(&registry, "2", json!(null), None).unwrap();
    deploy(&registry, "income", 1).unwrap();
    registry.update(vec![RecordUpdate::delete(Job, "2", None)]).unwrap();
    registry.update(vec![RecordUpdate::put(Dataset, "d", json!([1, 2]), None)]).unwrap();
    put(&registry, "1", json!({"rows": 2}), None).unwrap();
    all(&registry)
}

#[test]
fn records_are_there_after_a_restart_and_a_rebuild() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let expected = filled(&data);
    assert_eq!(all(&Registry::open(&data).unwrap()), expected);
    assert_sound(&data);
    let checked = Registry::check(&data).unwrap().records;
    let names: Vec<_> = checked.iter().map(|(kind, record)| (*kind, record.name.as_str())).collect();
    assert_eq!(names, [(Dataset, "d"), (Job, "1")]);
    // The store is lost: the journal has everything.
    fs::remove_dir_all(data.join("registry")).unwrap();
    assert_eq!(all(&Registry::open(&data).unwrap()), expected);
    let report = Registry::rebuild(&data).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    assert_eq!(all(&Registry::open(&data).unwrap()), expected);
    assert_sound(&data);
}

#[test]
fn a_torn_change_of_records_was_not_made() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    filled(&data);
    let journal = data.join("journal.jsonl");
    let whole = fs::read(&journal).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    // As if the last line had not reached the disk: then the store has not seen it either.
    fs::remove_dir_all(data.join("registry")).unwrap();
    fs::write(&journal, &whole[..last + 20]).unwrap();
    let registry = Registry::open(&data).unwrap();
    assert_eq!(registry.record(Job, "1").unwrap().unwrap().value["text"], "ä\n");
    put(&registry, "1", json!({"rows": 2}), None).unwrap();
    drop(registry);
    assert_sound(&data);
}

#[test]
fn a_rebuild_from_a_damaged_journal_keeps_the_other_records() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    filled(&data);
    let journal = data.join("journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let damaged: Vec<String> = text
        .lines()
        .map(|line| if line.contains("\"text\"") { line.replace("rows", "sworn") } else { line.to_owned() })
        .collect();
    fs::write(&journal, damaged.join("\n") + "\n").unwrap();
    assert!(Registry::open(&data).is_err());
    let report = Registry::rebuild(&data).unwrap();
    assert!(!report.findings.is_empty());
    assert_sound(&data);
    let registry = Registry::open(&data).unwrap();
    assert_eq!(registry.record(Job, "1").unwrap().unwrap().value, json!({"rows": 2}));
    assert_eq!(registry.record(Job, "2").unwrap(), None);
    let before = generation(&registry, Job, "1").unwrap();
    let after = put(&registry, "1", json!(3), Some(before)).unwrap();
    assert!(after > before, "{after} follows {before}");
}

#[test]
fn a_rebuild_is_remembered_until_files_without_records_are_safe() {
    let folder = TempDir::new().unwrap();
    filled(folder.path());
    assert!(!Registry::open(folder.path()).unwrap().was_rebuilt());
    Registry::rebuild(folder.path()).unwrap();
    assert!(Registry::open(folder.path()).unwrap().was_rebuilt());
    let registry = Registry::open(folder.path()).unwrap();
    assert!(registry.was_rebuilt());
    registry.forget_rebuild().unwrap();
    drop(registry);
    assert!(!Registry::open(folder.path()).unwrap().was_rebuilt());
}

#[test]
fn an_older_host_sees_only_where_there_are_records() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let formats = || -> Vec<u64> {
        let text = fs::read_to_string(data.join("journal.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["format"].as_u64().unwrap()).collect()
    };
    let registry = Registry::open(&data).unwrap();
    add(&registry, "income", 1);
    assert_eq!(formats(), [1]);
    put(&registry, "1", json!(1), None).unwrap();
    deploy(&registry, "income", 1).unwrap();
    assert_eq!(formats(), [1, 3, 1]);
    drop(registry);
    assert_sound(&data);
}
