//! Starts after crashes, losses and damage; checks; rebuilds.
#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use modelhost_core::{Digest, ErrorCode};
use modelhost_registry::{Registry, RegistryError};
use support::*;
use tempfile::TempDir;

/// A little history with every kind of change in it.
fn fill(registry: &Registry) {
    let income = model("income");
    for content in 1..=4 {
        add(registry, "income", content);
    }
    add(registry, "spam", 4);
    add(registry, "gone", 9);
    deploy(registry, "income", 1).unwrap();
    deploy(registry, "income", 2).unwrap();
    registry.rollback(&income, None, None, Some("slow".into()), None).unwrap();
    registry.set_alias(&income, &alias("champion"), version(2), None).unwrap();
    registry.set_alias(&income, &alias("old"), version(1), None).unwrap();
    registry.delete_alias(&income, &alias("old"), None).unwrap();
    registry.delete_version(&income, version(3), None).unwrap();
    registry.delete_version(&model("gone"), version(1), None).unwrap();
    registry.configure(&income, weighing(3), None).unwrap();
    registry.configure(&model("spam"), weighing(2), None).unwrap();
    registry.configure(&model("spam"), weighing(0), None).unwrap();
}

fn filled() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    fill(&Registry::open(&data).unwrap());
    (folder, data)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn assert_sound(data: &Path) {
    let report = Registry::check(data).unwrap();
    assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
}

#[test]
fn everything_is_there_after_a_restart() {
    let (_folder, data) = filled();
    let first = snapshot(&Registry::open(&data).unwrap());
    assert_eq!(first.len(), 2);
    assert_eq!(snapshot(&Registry::open(&data).unwrap()), first);
    assert_sound(&data);
}

#[test]
fn the_data_folder_is_private_and_for_one_process() {
    let (_folder, data) = filled();
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    let registry = Registry::open(&data).unwrap();
    for error in [
        Registry::open(&data).err().unwrap(),
        Registry::check(&data).unwrap_err(),
        Registry::rebuild(&data).unwrap_err(),
    ] {
        assert!(matches!(error, RegistryError::InUse { .. }), "{error}");
    }
    drop(registry);
    assert_sound(&data);
}

#[test]
fn a_folder_that_is_not_there_is_neither_checked_nor_made() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing");
    assert!(matches!(Registry::check(&missing), Err(RegistryError::Io { .. })));
    assert!(matches!(Registry::rebuild(&missing), Err(RegistryError::Io { .. })));
    assert!(!missing.exists());
}

#[test]
fn a_store_that_lost_its_newest_changes_gets_them_from_the_journal() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let registry = Registry::open(&data).unwrap();
    add(&registry, "income", 100);
    drop(registry);
    let old = folder.path().join("old");
    copy(&data.join("registry"), &old);
    let registry = Registry::open(&data).unwrap();
    fill(&registry);
    let expected = snapshot(&registry);
    drop(registry);
    fs::remove_dir_all(data.join("registry")).unwrap();
    fs::rename(&old, data.join("registry")).unwrap();
    let report = Registry::check(&data).unwrap();
    assert!(report.is_sound() && report.notes.len() == 1, "{report:?}");
    assert_eq!(snapshot(&Registry::open(&data).unwrap()), expected);
    assert_sound(&data);
}

#[test]
fn a_lost_store_is_made_from_the_journal() {
    let (_folder, data) = filled();
    let expected = snapshot(&Registry::open(&data).unwrap());
    fs::remove_dir_all(data.join("registry")).unwrap();
    assert_eq!(snapshot(&Registry::open(&data).unwrap()), expected);
}

#[test]
fn a_torn_line_is_a_change_that_did_not_happen() {
    let (folder, data) = filled();
    let before = snapshot(&Registry::open(&data).unwrap());
    let store_before = folder.path().join("store");
    copy(&data.join("registry"), &store_before);
    let start = fs::metadata(data.join("journal.jsonl")).unwrap().len() as usize;
    deploy(&Registry::open(&data).unwrap(), "income", 4).unwrap();
    let journal = fs::read(data.join("journal.jsonl")).unwrap();
    for cut in (start..journal.len()).step_by(17) {
        fs::remove_dir_all(data.join("registry")).unwrap();
        copy(&store_before, &data.join("registry"));
        fs::write(data.join("journal.jsonl"), &journal[..cut]).unwrap();
        assert_eq!(snapshot(&Registry::open(&data).unwrap()), before, "cut at {cut}");
        assert_eq!(fs::metadata(data.join("journal.jsonl")).unwrap().len() as usize, start);
    }
    deploy(&Registry::open(&data).unwrap(), "income", 4).unwrap();
    assert_sound(&data);
}

#[test]
fn what_a_crash_left_is_swept() {
    let (_folder, data) = filled();
    let files = count_files(&data.join("artifacts"));
    let orphan = Digest::of(b"orphan").hex();
    fs::write(data.join("staging/upload"), b"half").unwrap();
    fs::create_dir(data.join("staging/folder")).unwrap();
    fs::write(data.join(format!("artifacts/components/{orphan}.wasm")), b"orphan").unwrap();
    fs::write(data.join(format!("artifacts/graphs/{orphan}.onnx")), b"orphan").unwrap();
    fs::create_dir_all(data.join("artifacts/compiled/other")).unwrap();
    fs::write(data.join(format!("artifacts/compiled/other/{orphan}.cwasm")), b"orphan").unwrap();
    fs::copy(data.join("artifacts/manifests/spam/1.json"), data.join("artifacts/manifests/spam/2.json"))
        .unwrap();
    let report = Registry::check(&data).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.notes.len(), 4, "{report:?}");
    drop(Registry::open(&data).unwrap());
    assert_eq!(count_files(&data.join("artifacts")), files);
    assert_eq!(fs::read_dir(data.join("staging")).unwrap().count(), 0);
    assert_sound(&data);
}

#[test]
fn a_store_that_knows_more_than_the_journal_is_refused() {
    let (_folder, data) = filled();
    let journal = fs::read_to_string(data.join("journal.jsonl")).unwrap();
    let (shorter, _) = journal.trim_end().rsplit_once('\n').unwrap();
    fs::write(data.join("journal.jsonl"), format!("{shorter}\n")).unwrap();
    let error = Registry::open(&data).err().unwrap();
    assert!(matches!(error, RegistryError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("modelhost check --rebuild"), "{error}");
    assert_eq!(error.code(), ErrorCode::Internal);
    assert!(!Registry::check(&data).unwrap().is_sound());
    Registry::rebuild(&data).unwrap();
    drop(Registry::open(&data).unwrap());
    assert_sound(&data);
}

/// The newest configuration that the journal still has is the one that comes back; no manifest knows a later one.
#[test]
fn a_configuration_is_as_durable_as_its_line() {
    let (_folder, data) = filled();
    let journal = fs::read_to_string(data.join("journal.jsonl")).unwrap();
    let configured = |line: &&str| line.contains("\"configured\"");
    assert_eq!(journal.lines().filter(configured).count(), 3);
    let formats = |line: &str| line.contains("{\"format\":2") == line.contains("\"configured\"");
    assert!(journal.lines().all(formats), "only what an older host does not know is marked as newer");
    let registry = Registry::open(&data).unwrap();
    let weight = |registry: &Registry, name: &str| {
        registry.model(&model(name)).unwrap().unwrap().configuration.weight.map(u32::from)
    };
    registry.configure(&model("income"), weighing(7), None).unwrap();
    drop(registry);
    fs::remove_dir_all(data.join("registry")).unwrap();
    let registry = Registry::open(&data).unwrap();
    assert_eq!((weight(&registry, "income"), weight(&registry, "spam")), (Some(7), None));
    drop(registry);
    let journal = fs::read_to_string(data.join("journal.jsonl")).unwrap();
    fs::write(data.join("journal.jsonl"), journal.replace("\"weight\":7", "\"weight\":8")).unwrap();
    assert!(Registry::open(&data).is_err(), "the store knows more than the intact journal");
    Registry::rebuild(&data).unwrap();
    assert_eq!(weight(&Registry::open(&data).unwrap(), "income"), Some(3));
    assert_sound(&data);
}

/// As a folder looks in which nobody configured anything, whichever host wrote it.
#[test]
fn a_folder_without_configurations_is_what_an_older_host_writes() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let registry = Registry::open(&data).unwrap();
    add(&registry, "income", 1);
    deploy(&registry, "income", 1).unwrap();
    drop(registry);
    let journal = fs::read_to_string(data.join("journal.jsonl")).unwrap();
    assert!(!journal.contains("configur") && !journal.contains("{\"format\":2"), "{journal}");
    assert_sound(&data);
}

#[test]
fn a_lost_journal_does_not_cost_the_artifacts() {
    let (_folder, data) = filled();
    let artifacts = count_files(&data.join("artifacts"));
    fs::remove_file(data.join("journal.jsonl")).unwrap();
    fs::remove_dir_all(data.join("registry")).unwrap();
    assert!(matches!(Registry::open(&data), Err(RegistryError::Corrupt(_))));
    assert_eq!(count_files(&data.join("artifacts")), artifacts);
    let report = Registry::rebuild(&data).unwrap();
    assert_eq!((report.models, report.versions, report.findings.len()), (2, 4, 4), "{report:?}");
    let registry = Registry::open(&data).unwrap();
    let income = registry.model(&model("income")).unwrap().unwrap();
    let numbers: Vec<u64> = income.versions.iter().map(|version| version.number.0).collect();
    assert_eq!(numbers, [1, 2, 4]);
    assert_eq!(add(&registry, "income", 77).version.number, version(5));
    drop(registry);
    assert_sound(&data);
}

#[test]
fn a_rebuild_gives_the_same_registry() {
    let (_folder, data) = filled();
    let expected = snapshot(&Registry::open(&data).unwrap());
    let journal = fs::read(data.join("journal.jsonl")).unwrap();
    for number in 1..=2 {
        let report = Registry::rebuild(&data).unwrap();
        assert_eq!((report.models, report.versions), (2, 4));
        assert!(report.findings.is_empty(), "{report:?}");
        let aside = data.canonicalize().unwrap().join(format!("registry.before-rebuild-{number}"));
        assert_eq!(report.moved_aside, [aside]);
        assert_eq!(fs::read(data.join("journal.jsonl")).unwrap(), journal);
        let registry = Registry::open(&data).unwrap();
        assert_eq!(snapshot(&registry), expected);
        drop(registry);
        assert_sound(&data);
    }
    let registry = Registry::open(&data).unwrap();
    assert_eq!(add(&registry, "gone", 9).version.number, version(2), "hidden numbers survive too");
}

#[test]
fn a_rebuild_saves_what_is_around_any_damaged_line() {
    let (folder, data) = filled();
    let original = snapshot(&Registry::open(&data).unwrap());
    let lines = fs::read_to_string(data.join("journal.jsonl")).unwrap().lines().count();
    for damaged in 0..lines {
        let copied = folder.path().join(format!("copy-{damaged}"));
        copy(&data, &copied);
        let journal = fs::read_to_string(data.join("journal.jsonl")).unwrap();
        let rotten: Vec<String> = journal
            .lines()
            .enumerate()
            .map(
                |(number, line)| {
                    if number == damaged { line.replace("\"model\"", "\"modal\"") } else { line.into() }
                },
            )
            .collect();
        fs::write(copied.join("journal.jsonl"), rotten.join("\n") + "\n").unwrap();
        assert!(!Registry::check(&copied).unwrap().is_sound(), "line {damaged}");
        let report = Registry::rebuild(&copied).unwrap();
        let registry = Registry::open(&copied).unwrap();
        let rebuilt = snapshot(&registry);
        drop(registry);
        for (name, (model, _)) in &original {
            for version in &model.versions {
                let kept = rebuilt[name].0.version(version.number);
                assert_eq!(kept, Some(version), "line {damaged}, {name}: {report:?}");
            }
        }
        assert_sound(&copied);
    }
}

#[test]
fn a_damaged_store_is_refused_or_put_right_but_never_believed() {
    let (folder, data) = filled();
    let expected = snapshot(&Registry::open(&data).unwrap());
    let length = fs::metadata(data.join("registry/db")).unwrap().len() as usize;
    let mut refused = 0;
    for attempt in 0..24 {
        let copied = folder.path().join(format!("copy-{attempt}"));
        copy(&data, &copied);
        let path = copied.join("registry/db");
        let mut bytes = fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(length - 1) + 1;
        let start = attempt * used / 24;
        bytes[start..(start + 40).min(used)].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        match Registry::open(&copied) {
            Ok(registry) => assert_eq!(snapshot(&registry), expected, "damage at {start} of {used}"),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("check --rebuild"), "{error}");
                Registry::rebuild(&copied).unwrap();
                assert_eq!(snapshot(&Registry::open(&copied).unwrap()), expected);
            }
        }
        assert_sound(&copied);
    }
    println!("{refused} of 24 damaged stores were refused");
}

#[test]
fn a_check_finds_damaged_and_missing_artifacts_and_manifests() {
    let (_folder, data) = filled();
    let component = |content| {
        data.join(format!("artifacts/components/{}.wasm", Digest::of(&component_of(content)).hex()))
    };
    fs::write(component(1), b"other bytes").unwrap();
    fs::remove_file(component(2)).unwrap();
    fs::remove_file(data.join("artifacts/manifests/spam/1.json")).unwrap();
    fs::write(data.join("artifacts/manifests/income/4.json"), b"{}\n").unwrap();
    let report = Registry::check(&data).unwrap();
    assert_eq!(report.findings.len(), 4, "{report:?}");
    assert_eq!((report.models, report.versions, report.artifacts), (2, 4, 6), "{report:?}");
    fs::write(component(1), component_of(1)).unwrap();
    fs::write(component(2), component_of(2)).unwrap();
    assert_eq!(Registry::rebuild(&data).unwrap().findings.len(), 2, "two manifests are written anew");
    assert_sound(&data);
}

#[test]
fn a_newer_journal_is_not_touched() {
    let (_folder, data) = filled();
    let path = data.join("journal.jsonl");
    let payload = r#"{"format":5,"sequence":99"#;
    let line = format!("{payload},\"checksum\":\"{}\"}}\n", &Digest::of(payload.as_bytes()).hex()[..16]);
    let bytes = [fs::read(&path).unwrap(), line.into_bytes()].concat();
    fs::write(&path, &bytes).unwrap();
    for error in [
        Registry::open(&data).err().unwrap(),
        Registry::check(&data).unwrap_err(),
        Registry::rebuild(&data).unwrap_err(),
    ] {
        assert!(matches!(error, RegistryError::NewerFormat { found: 5, known: 4, .. }), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_disk_that_refuses_leaves_nothing_half_done() {
    let (_folder, data) = filled();
    let registry = Registry::open(&data).unwrap();
    let before = snapshot(&registry);
    let (new, reservations) = store(&registry, 50);
    // A file where the folder for the model's manifests would be.
    fs::write(data.join("artifacts/manifests/blocked"), b"").unwrap();
    let error = registry.add_version(&model("blocked"), new).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
    drop(reservations);
    fs::remove_file(data.join("artifacts/manifests/blocked")).unwrap();
    assert_eq!(snapshot(&registry), before);
    add(&registry, "blocked", 50);
    drop(registry);
    assert_sound(&data);
}
