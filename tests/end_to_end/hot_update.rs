//! Under steady load, deployments and rollbacks drop no request, mix no versions, and take effect when they return.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, deployment};
use modelhost_tests::http::{Connection, Request};
use modelhost_tests::{artifacts, inference, onnx};
use serde_json::Value;

const CHANGES: u64 = 200;
const CONNECTIONS: usize = 6;

/// The versions say in their answers which one they are: by the label that was packed into them, and by what they
/// multiply with.
const VERSIONS: [(&str, f32); 2] = [("first", 2.0), ("second", 3.0)];

/// Which changes have begun and which have returned. Change 0 is the first deployment.
struct Progress {
    begun: AtomicU64,
    returned: AtomicU64,
    is_over: AtomicBool,
}

/// The version that answers after a change: the two take turns.
fn version_after(change: u64) -> u64 {
    1 + change % 2
}

/// The version that an answer comes from, all parts of it.
#[track_caller]
fn version_of(answer: &Value, values: &[f32]) -> u64 {
    let version = inference::version(answer);
    let (label, factor) = VERSIONS[version as usize - 1];
    for name in ["label", "label_again"] {
        let labels = inference::output(answer, name).as_array().unwrap();
        assert!(
            labels.len() == values.len() && labels.iter().all(|found| found == label),
            "{version}: {answer}"
        );
    }
    let products: Vec<f64> = values.iter().map(|value| f64::from(value * factor)).collect();
    assert_eq!(*inference::output(answer, "y"), serde_json::json!(products), "{version}");
    version
}

/// Asks without a pause until all changes are made, and answers how often it asked.
fn load(host: &Host, progress: &Progress, seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut connection = host.connect();
    let mut asked = 0;
    while !progress.is_over.load(SeqCst) {
        // A client that connects anew now and then must see nothing of it either.
        if asked % 50 == 49 {
            connection = host.connect();
        }
        let values: Vec<f32> = (0..random.usize(1..40)).map(|_| random.i16(..).into()).collect();
        let settled = progress.returned.load(SeqCst);
        let response = connection.send(&inference::column("model", &values)).unwrap();
        let version = version_of(&response.expect(200), &values);
        if progress.begun.load(SeqCst) == settled {
            assert_eq!(version, version_after(settled), "change {settled} had returned before the request");
        }
        asked += 1;
    }
    asked
}

/// Deploys by name, rolls back, or rolls back to a revision by its number: all three lead to the next version.
fn change(number: u64) -> Request {
    let rollback = |body: &str| Request::post("/v1/models/model/rollback", body);
    match number % 3 {
        0 => deployment("model", version_after(number)),
        1 => rollback(""),
        _ => rollback(&format!(r#"{{"revision":{}}}"#, number - 1)),
    }
}

#[test]
fn updates_drop_nothing_and_mix_nothing() {
    let host = Host::start();
    for (label, factor) in VERSIONS {
        let component = with_graph(artifacts::test_plugin("labelled"), label, &onnx::multiplication(factor));
        host.upload("model", &component).expect(201);
    }
    host.deploy("model", version_after(0));
    host.deploy("model", version_after(1));
    let progress =
        Progress { begun: AtomicU64::new(1), returned: AtomicU64::new(1), is_over: AtomicBool::new(false) };
    let asked: Vec<u64> = thread::scope(|scope| {
        let (host, progress) = (&host, &progress);
        let load = |seed| move || load(host, progress, seed);
        let workers: Vec<_> = (0..CONNECTIONS).map(|seed| scope.spawn(load(seed as u64))).collect();
        let operator = scope.spawn(move || make_changes(host, progress));
        let outcome = operator.join();
        progress.is_over.store(true, SeqCst);
        let asked = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        outcome.unwrap();
        asked
    });
    println!("requests on each connection: {asked:?}");
    assert!(asked.iter().all(|requests| *requests > CHANGES / 2), "{asked:?} are no load");
    let revisions = host.get("/v1/models/model/revisions").expect(200);
    assert_eq!(revisions["revisions"].as_array().unwrap().len() as u64, CHANGES + 2);
}

fn make_changes(host: &Host, progress: &Progress) {
    let mut operator = host.connect();
    let mut client: Connection = host.connect();
    for number in 2..CHANGES + 2 {
        progress.begun.store(number, SeqCst);
        let revision = operator.send(&change(number)).unwrap().expect(200);
        assert_eq!(revision["traffic"][0]["version"], version_after(number), "change {number}");
        progress.returned.store(number, SeqCst);
        let answer = client.send(&inference::column("model", &[1.0])).unwrap().expect(200);
        assert_eq!(version_of(&answer, &[1.0]), version_after(number), "change {number}");
    }
}
