//! What was recorded is there after a restart, damage to it is noticed, and the registry can be made anew.

use std::fs;

use modelhost_tests::folder;
use modelhost_tests::host::{Host, Setup};
use modelhost_tests::http::Request;
use serde_json::{Value, json};

use crate::operate::{alias, answering_version, component, rollback, with_versions};

/// Everything that the API says about what is recorded.
fn records(host: &Host) -> Vec<Value> {
    [
        "/v1/models",
        "/v1/models/m",
        "/v1/models/m/versions",
        "/v1/models/m/revisions",
        "/v1/models/other/revisions",
    ]
    .map(|target| host.get(target).expect(200))
    .to_vec()
}

/// A host with some history, stopped, and what it said.
fn with_history() -> (Setup, Vec<Value>) {
    let host = with_versions(3);
    host.deploy("m", 1);
    host.deploy("m", 2);
    host.send(&rollback(r#"{"comment":"slow"}"#)).expect(200);
    host.send(&alias("champion", 2)).expect(200);
    host.send(&Request::delete("/v1/models/m/versions/3")).expect(204);
    host.deploy_new("other", &component(3));
    let said = records(&host);
    (host.stop(), said)
}

#[track_caller]
fn assert_as_before(setup: &Setup, said: &[Value]) {
    let host = setup.start();
    assert_eq!(records(&host), said);
    assert_eq!(answering_version(&host, "m"), 1);
    assert_eq!(answering_version(&host, "other"), 1);
    assert_eq!(host.upload("m", &component(9)).expect(201)["number"], 4);
}

#[test]
fn a_restart_changes_nothing() {
    let (setup, said) = with_history();
    let checked = setup.check(&["--json"]);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert!(checked.status.success() && report["sound"] == true, "{report}");
    assert_eq!((&report["models"], &report["versions"]), (&json!(2), &json!(3)));
    assert_eq!(report["notes"], json!([]));
    assert_as_before(&setup, &said);
}

#[test]
fn the_registry_can_be_made_anew() {
    let (setup, said) = with_history();
    fs::remove_dir_all(setup.data_dir().join("registry")).unwrap();
    let rebuilt = setup.check(&["--rebuild"]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert!(String::from_utf8_lossy(&rebuilt.stdout).contains("2 models, 3 versions"));
    assert!(setup.check(&[]).status.success());
    assert_as_before(&setup, &said);
}

#[test]
fn a_damaged_registry_is_noticed_and_can_be_made_anew() {
    let (setup, said) = with_history();
    let store = setup.data_dir().join("registry/db");
    let length = fs::metadata(&store).unwrap().len();
    fs::write(&store, vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
    let checked = setup.check(&[]);
    assert_eq!(checked.status.code(), Some(1), "{}", String::from_utf8_lossy(&checked.stdout));
    let rebuilt = setup.check(&["--rebuild"]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert_as_before(&setup, &said);
}

#[test]
fn a_damaged_component_is_noticed() {
    let (setup, _) = with_history();
    let components = setup.data_dir().join("artifacts/components");
    let name = folder::names(&components).remove(0);
    let mut bytes = fs::read(components.join(&name)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(components.join(&name), bytes).unwrap();
    let checked = setup.check(&[]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stdout).contains(&name));
}

#[test]
fn one_folder_has_one_host() {
    let host = Host::start();
    let checked = host.setup().check(&[]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("in use"));
}
