//! Versions that are ensembles: they keep their steps, and come back with them.
#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use modelhost_core::{Capabilities, ComponentMetadata, Digest, Ensemble, EnsembleStep, ErrorCode, Signature};
use modelhost_registry::{Added, NewVersion, Registry, RegistryError, ensemble_file};
use support::*;
use tempfile::TempDir;

fn pipeline(registry: &Registry, steps: &[(&str, u64)]) -> Ensemble {
    let step = |(name, number): &(&str, u64)| {
        let record = registry.model(&model(name)).unwrap().unwrap();
        EnsembleStep {
            model: model(name),
            version: version(*number),
            digest: record.version(version(*number)).unwrap().digest,
            inputs: BTreeMap::from([("x".to_owned(), "x".to_owned())]),
            outputs: BTreeMap::from([("y".to_owned(), "y".to_owned())]),
        }
    };
    let steps = steps.iter().map(step).collect();
    Ensemble { inputs: vec!["x".to_owned()], outputs: vec!["y".to_owned()], steps }
}

fn add_ensemble(registry: &Registry, name: &str, ensemble: &Ensemble) -> Result<Added, RegistryError> {
    let file = ensemble_file(Some("what it does"), ensemble);
    let _reservation = registry.artifacts().store_ensemble(&file).unwrap();
    let new = NewVersion {
        digest: Digest::of(&file),
        size_bytes: file.len() as u64,
        uploaded_by: None,
        signature: Signature::default(),
        graphs: Vec::new(),
        samples: Vec::new(),
        capabilities: Capabilities::default(),
        metadata: ComponentMetadata::default(),
        compiled_size_bytes: 0,
        ensemble: Some(ensemble.clone()),
    };
    registry.add_version(&model(name), new)
}

/// Two components, an ensemble of them whose name comes before theirs, and one of that.
fn filled() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let registry = Registry::open(&data).unwrap();
    add(&registry, "income", 2);
    add(&registry, "spam", 4);
    let inner = pipeline(&registry, &[("income", 1), ("spam", 1)]);
    add_ensemble(&registry, "both", &inner).unwrap();
    let outer = pipeline(&registry, &[("both", 1), ("spam", 1)]);
    add_ensemble(&registry, "all", &outer).unwrap();
    (folder, data)
}

fn assert_sound(data: &Path) {
    let report = Registry::check(data).unwrap();
    assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
}

#[test]
fn what_an_ensemble_names_stays_as_long_as_it_does() {
    let (_folder, data) = filled();
    let refusal = |registry: &Registry, name: &str| {
        let error = registry.delete_version(&model(name), version(1), None).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Conflict);
        error.to_string()
    };
    for _ in 0..2 {
        let registry = Registry::open(&data).unwrap();
        let sentence = refusal(&registry, "spam");
        assert!(
            sentence.contains("version 1 of model \"all\", version 1 of model \"both\" first"),
            "{sentence}"
        );
        assert!(refusal(&registry, "both").contains("version 1 of model \"all\" first"));
    }
    let registry = Registry::open(&data).unwrap();
    for name in ["all", "both", "spam", "income"] {
        registry.delete_version(&model(name), version(1), None).unwrap();
    }
    assert_eq!(count_files(&data.join("artifacts")), 0);
    drop(registry);
    assert_sound(&data);
}

#[test]
fn the_same_steps_are_the_same_version_and_steps_that_are_gone_are_none() {
    let (_folder, data) = filled();
    let registry = Registry::open(&data).unwrap();
    let ensemble = pipeline(&registry, &[("income", 1), ("spam", 1)]);
    let again = add_ensemble(&registry, "both", &ensemble).unwrap();
    assert_eq!((again.created, again.version.number), (false, version(1)));
    assert_eq!(again.version.ensemble.as_ref(), Some(&ensemble));
    add(&registry, "income", 6);
    let other = pipeline(&registry, &[("income", 2), ("spam", 1)]);
    assert_eq!(add_ensemble(&registry, "both", &other).unwrap().version.number, version(2));
    registry.delete_version(&model("both"), version(2), None).unwrap();
    registry.delete_version(&model("income"), version(2), None).unwrap();
    let error = add_ensemble(&registry, "both", &other).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(error.to_string().contains("version 2 of model \"income\""), "{error}");
    drop(registry);
    assert_sound(&data);
}

#[test]
fn only_what_an_older_host_does_not_know_is_marked_as_newer() {
    let (_folder, data) = filled();
    let journal = fs::read_to_string(data.join("journal.jsonl")).unwrap();
    let formats: Vec<bool> = journal.lines().map(|line| line.starts_with("{\"format\":4")).collect();
    assert_eq!(formats, [false, false, true, true]);
    let manifest =
        |name: &str| fs::read_to_string(data.join(format!("artifacts/manifests/{name}/1.json"))).unwrap();
    assert!(manifest("spam").starts_with("{\"format\":1") && manifest("all").starts_with("{\"format\":2"));
}

#[test]
fn a_rebuild_brings_ensembles_back_from_manifests_after_their_steps() {
    let (_folder, data) = filled();
    let before = Registry::open(&data).unwrap().models().unwrap();
    let journal = fs::read(data.join("journal.jsonl")).unwrap();
    // Any one line is lost, or all of them.
    let lines: Vec<&[u8]> = journal.split_inclusive(|byte| *byte == b'\n').collect();
    let without = |lost: usize| -> Vec<u8> {
        let kept = lines.iter().enumerate().filter(|(index, _)| *index != lost).map(|(_, line)| *line);
        kept.flatten().copied().collect()
    };
    for damaged in (0..lines.len()).map(without).chain([Vec::new()]) {
        fs::write(data.join("journal.jsonl"), &damaged).unwrap();
        let report = Registry::rebuild(&data).unwrap();
        assert_eq!((report.models, report.versions), (4, 4), "{report:?}");
        let after = Registry::open(&data).unwrap().models().unwrap();
        let versions = |models: &[modelhost_registry::Model]| -> Vec<_> {
            models.iter().flat_map(|model| model.versions.clone()).collect()
        };
        assert_eq!(versions(&after), versions(&before));
        assert_sound(&data);
    }
}

#[test]
fn a_damaged_file_of_an_ensemble_is_found() {
    let (_folder, data) = filled();
    let folder = data.join("artifacts/ensembles");
    let path = folder.read_dir().unwrap().next().unwrap().unwrap().path();
    fs::write(path, b"{}").unwrap();
    let report = Registry::check(&data).unwrap();
    assert_eq!(report.findings.len(), 1, "{report:?}");
}
