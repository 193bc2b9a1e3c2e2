//! Compares a host that was just started with what was acknowledged before it was killed.

use std::collections::{BTreeMap, BTreeSet};

use modelhost_tests::folder::names;
use modelhost_tests::host::Host;
use modelhost_tests::inference;
use serde_json::Value;

use super::MODELS;
use super::ledger::{Ledger, Promises};

/// Compares a host that was just started with the ledger, and makes what was left open definite.
pub fn verify(host: &Host, ledger: &mut Ledger) {
    assert_eq!(names(&host.data_dir().join("staging")), Vec::<String>::new(), "half-done files are left");
    let listed = host.get("/v1/models").expect(200);
    let models = listed["models"].as_array().unwrap();
    let mut digests = BTreeSet::new();
    let mut graphs = BTreeSet::new();
    for name in MODELS {
        let promises = ledger.models.entry(name).or_default();
        let Some(model) = models.iter().find(|model| model["name"] == name) else {
            assert!(promises.versions.is_empty(), "model {name} was acknowledged and is gone");
            continue;
        };
        verify_versions(host, name, model, promises, &ledger.sent);
        verify_deployment(host, name, model, promises);
        for version in model["versions"].as_array().unwrap() {
            digests.insert(hex(version));
            graphs.extend(version["graphs"].as_array().unwrap().iter().map(hex));
        }
    }
    let stems = |folder: &str| -> BTreeSet<String> {
        let names = names(&host.data_dir().join("artifacts").join(folder));
        names.iter().map(|name| name.split('.').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(stems("components"), digests, "components without a version, or the other way round");
    assert_eq!(stems("compiled"), digests, "compiled code without a version, or the other way round");
    assert_eq!(stems("graphs"), graphs, "graphs without a version, or the other way round");
}

fn hex(record: &Value) -> String {
    record["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned()
}

fn verify_versions(
    host: &Host,
    name: &str,
    model: &Value,
    promises: &mut Promises,
    sent: &BTreeMap<String, String>,
) {
    let mut there = BTreeMap::new();
    let mut connection = host.connect();
    for version in model["versions"].as_array().unwrap() {
        let number = version["number"].as_u64().unwrap();
        let digest = version["digest"].as_str().unwrap().to_owned();
        let label = sent.get(&digest).unwrap_or_else(|| panic!("{name}/{number}: nobody sent {digest}"));
        let target = format!("/v2/models/{name}/versions/{number}/infer");
        let asked = inference::to(&target, &inference::column_body(&[number as f32]));
        let answer = connection.send(&asked).unwrap().expect(200);
        assert_eq!(inference::version(&answer), number);
        assert_eq!(*inference::output(&answer, label), serde_json::json!([number as f64]));
        there.insert(number, digest);
    }
    for (number, digest) in &promises.versions {
        match there.get(number) {
            Some(found) => assert_eq!(found, digest, "{name}/{number}"),
            None => assert!(
                promises.perhaps_deleted.contains(number),
                "{name}/{number} was acknowledged and is gone"
            ),
        }
    }
    for number in &promises.deleted {
        assert!(!there.contains_key(number), "{name}/{number} was deleted and is back");
    }
    promises.perhaps_deleted.clear();
    promises.versions = there;
}

/// One change may have been on its way to its acknowledgement when the host was killed.
fn verify_deployment(host: &Host, name: &str, model: &Value, promises: &mut Promises) {
    let number = model["deployment"]["number"].as_u64();
    let version = model["deployment"]["traffic"][0]["version"].as_u64();
    match (promises.revision, number, version) {
        (Some((acknowledged, promised)), Some(number), Some(version)) => {
            let is_next = number == acknowledged + 1;
            assert!(
                is_next || (number, version) == (acknowledged, promised),
                "{name}: {acknowledged} became {number}"
            );
        }
        (None, Some(number), _) => assert_eq!(number, 1, "{name}"),
        (acknowledged, None, _) => assert_eq!(acknowledged, None, "{name}: the deployment is gone"),
        (_, Some(_), None) => panic!("{name}: a revision without a version"),
    }
    let revisions = host.get(&format!("/v1/models/{name}/revisions")).expect(200);
    let log = revisions["revisions"].as_array().unwrap();
    assert_eq!(log.len() as u64, number.unwrap_or(0), "{name}: the log of revisions has gaps");
    promises.revision = number.zip(version);
    if let Some(version) = version {
        let answer = host.send(&inference::column(name, &[1.0])).expect(200);
        assert_eq!(inference::version(&answer), version, "{name}");
    }
}
