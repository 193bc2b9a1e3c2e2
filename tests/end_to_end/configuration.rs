//! How an operator configures a model: it holds at once, it is durable, and what cannot be is refused in one sentence.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use modelhost_tests::artifacts;
use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::{Request, Response};
use modelhost_tests::inference::{behaviour, column, output};
use modelhost_tests::onnx;
use serde_json::{Value, json};

const PATH: &str = "/v1/models/m/configuration";

fn configure(configuration: &Value) -> Request {
    Request::put(PATH, configuration)
}

fn etag(response: &Response) -> String {
    response.header("etag").unwrap_or_else(|| panic!("no ETag: {}", response.text())).to_owned()
}

/// A host whose model `m` carries a graph `net`.
fn serving(setup: Setup) -> Host {
    let host = setup.start();
    host.deploy_new("m", &with_graph(artifacts::test_plugin("labelled"), "net", &onnx::multiplication(2.0)));
    host
}

#[test]
fn a_configuration_survives_being_killed_and_a_rebuild() {
    let host = serving(Setup::new());
    let nothing = json!({ "engine": "auto", "dynamic_batching": {} });
    let before = host.get(PATH);
    assert_eq!(before.expect(200), nothing);
    let wanted = json!({
        "engine": "tract", "weight": 3, "max_concurrent_requests": 5, "max_queued_requests": 0,
        "dynamic_batching": { "max_batch_size": 8 },
        "graphs": { "net": { "max_queue_delay_microseconds": 50, "max_queue_size": 9 } },
    });
    let changed = host.send(&configure(&wanted));
    assert_eq!(changed.expect(200), wanted);
    assert_ne!(etag(&changed), etag(&before));
    host.send(&column("m", &[1.0])).expect(200);
    let setup = host.kill();
    let check = setup.check(&[]);
    assert!(check.status.success(), "{check:?}");
    let host = setup.start();
    let after = host.get(PATH);
    assert_eq!((after.expect(200), etag(&after)), (wanted.clone(), etag(&changed)));
    assert_eq!(host.get("/v1/models/m").expect(200)["configuration"], wanted);
    host.send(&column("m", &[1.0])).expect(200);
    let setup = host.stop();
    let rebuilt = setup.check(&["--rebuild"]);
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    let host = setup.start();
    assert_eq!(host.get(PATH).expect(200), wanted);
    // A PUT replaces the whole; what it does not name follows the host again.
    assert_eq!(host.send(&configure(&json!({}))).expect(200), nothing);
    assert_eq!(host.get("/v1/models/m").expect(200).get("configuration"), None);
}

#[test]
fn two_operators_do_not_overwrite_each_other() {
    let host = serving(Setup::new());
    let seen = etag(&host.get(PATH));
    let heavy = configure(&json!({ "weight": 2 })).header("If-Match", seen.clone());
    let changed = host.send(&heavy);
    changed.expect(200);
    assert!(host.send(&heavy).error(412).contains("somebody else"));
    host.send(&configure(&json!({ "weight": 4 })).header("If-Match", etag(&changed))).expect(200);
    assert_eq!(host.get(PATH).expect(200)["weight"], 4);
}

#[test]
fn values_that_cannot_be_are_named() {
    let host = serving(Setup::new().set("inference.onnxruntime", "off"));
    host.send(&configure(&json!({ "weight": 2 }))).expect(200);
    let before = host.get(PATH);
    let cases = [
        (json!({ "weight": 0 }), "weight"),
        (json!({ "weight": 1.5 }), "weight"),
        (json!({ "weight": 10_001 }), "1 to 10000"),
        (json!({ "max_concurrent_requests": -1 }), "max_concurrent_requests"),
        (json!({ "max_queued_requests": "many" }), "max_queued_requests"),
        (json!({ "engine": "torch" }), "`auto`, `tract`, `onnxruntime`"),
        (json!({ "dynamic_batching": { "max_batch_size": 0 } }), "dynamic_batching.max_batch_size"),
        (json!({ "dynamic_batching": { "max_queue_delay_microseconds": 10_000_001 } }), "at most 10000000"),
        (json!({ "graphs": { "net": { "max_queue_size": 0 } } }), "graphs.net.max_queue_size"),
        (json!({ "graphs": { "nett": {} } }), "expected net"),
        (json!({ "graphs": { "net": { "delay": 1 } } }), "delay"),
        (json!({ "wait": 1 }), "`max_queued_requests`"),
        (json!([]), "configuration"),
        (Value::Null, "configuration"),
    ];
    for (configuration, named) in cases {
        let sentence = host.send(&configure(&configuration)).error(400);
        assert!(sentence.contains(named), "{configuration}: {sentence}");
    }
    for body in ["{", "{} {}", "weight = 1"] {
        host.send(&Request::new("PUT", PATH, body)).error(400);
    }
    host.send(&Request::put("/v1/models/unknown/configuration", &json!({}))).error(404);
    host.get("/v1/models/unknown/configuration").error(404);
    host.send(&Request::delete(PATH)).error(405);
    let after = host.get(PATH);
    assert_eq!((after.expect(200), etag(&after)), (before.expect(200), etag(&before)));
}

#[test]
fn an_engine_that_is_not_there_is_refused_and_nothing_changes() {
    let host = serving(Setup::new().set("inference.onnxruntime", "off"));
    let before = host.get(PATH);
    let sentence = host.send(&configure(&json!({ "engine": "onnxruntime", "weight": 2 }))).error(422);
    assert!(sentence.contains("onnxruntime"), "{sentence}");
    let after = host.get(PATH);
    assert_eq!((after.expect(200), etag(&after)), (before.expect(200), etag(&before)));
    host.send(&column("m", &[1.0])).expect(200);
    host.send(&configure(&json!({ "engine": "tract" }))).expect(200);
    host.send(&column("m", &[1.0])).expect(200);
}

#[test]
fn limits_hold_at_once_and_refusals_say_when_to_come_back() {
    let host = Host::start();
    host.deploy_new("m", &artifacts::test_plugin("hostile"));
    host.send(&configure(&json!({ "max_concurrent_requests": 1, "max_queued_requests": 0 }))).expect(200);
    let (mut first, mut second) = (host.connect(), host.connect());
    let slow = thread::spawn(move || first.send(&behaviour("m", "sleep", 2_000)).unwrap());
    wait_until("the slow request runs", || pending(&host) == 1);
    let refused = second.send(&behaviour("m", "answer", 0)).unwrap();
    assert!(refused.error(429).contains("too many requests"));
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    // The connection of a request that was refused is still good.
    host.send(&configure(&json!({ "max_concurrent_requests": 2, "max_queued_requests": 0 }))).expect(200);
    second.send(&behaviour("m", "answer", 0)).unwrap().expect(200);
    assert!(!slow.is_finished(), "the slow request was over before the limits could be seen to hold");
    slow.join().unwrap().expect(200);
}

pub fn pending(host: &Host) -> u64 {
    let metrics = host.get("/metrics").text();
    let series = "nv_inference_pending_request_count{model=\"m\",version=\"1\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(series));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The engine changes back and forth under requests: each is answered, and by the end with the engine that is wanted.
#[test]
fn another_engine_takes_over_without_dropping_a_request() {
    let Some(library) = artifacts::onnxruntime() else { return };
    let host = serving(Setup::new().set("inference.onnxruntime", library));
    let is_over = AtomicBool::new(false);
    let answered = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = host.connect();
                    let mut answered = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        let answer = connection.send(&column("m", &[1.5])).unwrap().expect(200);
                        assert_eq!(*output(&answer, "y"), json!([3.0]));
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        for engine in ["onnxruntime", "tract", "onnxruntime", "auto", "onnxruntime"] {
            host.send(&configure(&json!({ "engine": engine }))).expect(200);
            thread::sleep(Duration::from_millis(100));
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum::<u64>()
    });
    assert!(answered > 20, "{answered} requests show nothing");
    let host = host.kill().start();
    assert_eq!(host.get(PATH).expect(200)["engine"], "onnxruntime");
    host.send(&column("m", &[1.5])).expect(200);
}
