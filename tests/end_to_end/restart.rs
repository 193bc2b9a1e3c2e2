//! Starting again takes no longer for all that was ever uploaded, and stopping drops nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::{Connection, Request};
use modelhost_tests::inference::{behaviour, column, column_body, output, to};
use modelhost_tests::{artifacts, folder, onnx};

const MODELS: u64 = 10;
const VERSIONS_OF_EACH: u64 = 10;
const READY_WITHIN: Duration = Duration::from_secs(2);

fn label(model: u64, version: u64) -> String {
    format!("model-{model}-version-{version}")
}

/// Component and network of each version are its own.
fn component(model: u64, version: u64) -> Vec<u8> {
    let factor = (100 * model + version) as f32;
    with_graph(artifacts::test_plugin("labelled"), &label(model, version), &onnx::multiplication(factor))
}

/// Files of compiled code, with the time of their last change.
fn compiled(data_dir: &Path) -> BTreeMap<String, SystemTime> {
    let root = data_dir.join("artifacts/compiled");
    let changed = |path: String| {
        let time = fs::metadata(root.join(&path)).unwrap().modified().unwrap();
        (path, time)
    };
    folder::listing(&root).into_keys().map(changed).collect()
}

#[test]
fn a_hundred_versions_are_ready_in_two_seconds_and_not_compiled_again() {
    let host = Host::start();
    for model in 1..=MODELS {
        for version in 1..=VERSIONS_OF_EACH {
            host.upload(&format!("model-{model}"), &component(model, version)).expect(201);
        }
        host.deploy(&format!("model-{model}"), 1 + model % VERSIONS_OF_EACH);
    }
    let setup = host.stop();
    let before = compiled(setup.data_dir());
    assert_eq!(before.len() as u64, MODELS * VERSIONS_OF_EACH);
    // Killed as well as stopped, and where compiling is impossible.
    for attempt in 0..4 {
        let host = setup.clone().set("runtime.compilation.seconds", 0).start();
        println!("ready after {:?}", host.start_time);
        assert!(host.start_time < READY_WITHIN, "attempt {attempt}: {:?}", host.start_time);
        for model in 1..=MODELS {
            let answer = host.send(&column(&format!("model-{model}"), &[1.0])).expect(200);
            let deployed = 1 + model % VERSIONS_OF_EACH;
            assert_eq!(*output(&answer, "label"), serde_json::json!([label(model, deployed)]));
        }
        let by_number = to("/v2/models/model-3/versions/7/infer", &column_body(&[1.0]));
        assert_eq!(*output(&host.send(&by_number).expect(200), "y"), serde_json::json!([307.0]));
        assert_eq!(compiled(setup.data_dir()), before, "something was compiled again");
        assert!(!host.log().contains("compiling"), "{}", host.log());
        if attempt % 2 == 0 {
            host.kill();
        } else {
            host.stop();
        }
    }
}

/// Compiled code that was made by another engine, or lost, is made again without anybody's doing.
#[test]
fn lost_code_is_compiled_again() {
    let host = Host::start();
    host.deploy_new("m", &component(1, 1));
    let setup = host.stop();
    fs::remove_dir_all(setup.data_dir().join("artifacts/compiled")).unwrap();
    let host = setup.start();
    host.send(&column("m", &[1.0])).expect(200);
    assert_eq!(compiled(setup.data_dir()).len(), 1);
}

/// Where the host keeps the network of a model's first version.
fn graph_file(host: &Host, model: &str) -> PathBuf {
    let version = host.get(&format!("/v1/models/{model}/versions/1")).expect(200);
    let hex = version["graphs"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    host.data_dir().join(format!("artifacts/graphs/{hex}.onnx"))
}

/// One model that cannot be loaded leaves the others alone.
#[test]
fn a_version_that_does_not_load_is_unavailable_and_nothing_else() {
    let host = Host::start();
    host.deploy_new("broken", &component(1, 1));
    host.deploy_new("well", &component(1, 2));
    let file = graph_file(&host, "broken");
    let setup = host.stop();
    let network = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let host = setup.start();
    host.send(&column("well", &[1.0])).expect(200);
    host.send(&column("broken", &[1.0])).error(503);
    host.get("/v2/models/broken/ready").expect(503);
    assert!(host.log().contains("deployed version does not load"), "{}", host.log());
    // It is tried again, and needs nobody to deploy it.
    fs::write(&file, network).unwrap();
    wait_until("it answers again", || host.send(&column("broken", &[1.0])).status == 200);
}

/// What works is not given up for what does not.
#[test]
fn a_rollback_to_what_does_not_load_changes_nothing() {
    let host = Host::start();
    host.deploy_new("m", &component(1, 1));
    host.deploy_new("m", &component(1, 2));
    let file = graph_file(&host, "m");
    let setup = host.stop();
    fs::remove_file(file).unwrap();
    let host = setup.start();
    let refused = host.client(&["rollback", "m"]);
    assert!(!refused.status.success());
    assert_eq!(host.get("/v1/models/m/deployment").expect(200)["number"], 2);
    assert_eq!(
        *output(&host.send(&column("m", &[1.0])).expect(200), "label"),
        serde_json::json!([label(1, 2)])
    );
}

#[test]
fn stopping_finishes_what_is_in_flight() {
    let mut host = Host::start();
    host.deploy_new("hostile", &artifacts::test_plugin("hostile"));
    let address = host.address();
    let mut idle = host.connect();
    idle.send(&Request::get("/v2")).unwrap().expect(200);
    let mut slow = host.connect();
    let answer = thread::spawn(move || slow.send(&behaviour("hostile", "sleep", 1500)));
    wait_until("the slow request runs", || is_pending(&host));
    host.terminate();
    wait_until("no connection is taken any more", || Connection::open(address).is_err());
    assert!(!answer.is_finished(), "the slow request was over before it could be interrupted");
    assert_eq!(idle.read_to_end().unwrap(), b"", "an idle connection is closed");
    let answer = answer.join().unwrap().unwrap();
    answer.expect(200);
    let status = host.wait();
    assert_eq!(status.code(), Some(0), "{}", host.log());
}

fn is_pending(host: &Host) -> bool {
    host.get("/metrics")
        .text()
        .contains("nv_inference_pending_request_count{model=\"hostile\",version=\"1\"} 1")
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let mut host = Setup::new().set("server.shutdown_grace_ms", 300).start();
    host.deploy_new("hostile", &artifacts::test_plugin("hostile"));
    let mut slow = host.connect();
    let answer = thread::spawn(move || slow.send(&behaviour("hostile", "loop", 0)));
    wait_until("the slow request runs", || is_pending(&host));
    let began = Instant::now();
    host.terminate();
    host.wait();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(answer.join().unwrap().is_err(), "cut off without an answer");
}

#[test]
fn an_upload_that_is_complete_survives_the_stop() {
    let mut host = Host::start();
    let (address, component) = (host.address(), component(1, 1));
    let data_dir = host.data_dir();
    let upload = thread::spawn(move || {
        let request = Request::post("/v1/models/m/versions?deploy=true", component);
        Connection::open(address).unwrap().send(&request).unwrap().status
    });
    wait_until("the upload is there", || !folder::names(&data_dir.join("staging")).is_empty());
    host.terminate();
    host.wait();
    assert_eq!(upload.join().unwrap(), 201);
    let host = host.setup().start();
    host.send(&column("m", &[1.0])).expect(200);
}
