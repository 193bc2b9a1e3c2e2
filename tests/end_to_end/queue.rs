//! What happens to requests that have to wait: who goes first, and who had better not begin.

use std::sync::mpsc;
use std::thread;

use modelhost_tests::artifacts;
use modelhost_tests::host::{Host, wait_until};
use modelhost_tests::http::Request;
use modelhost_tests::inference::{behaviour, column_body, to};
use serde_json::{Value, json};

use crate::configuration::pending;

/// A host whose model `m` answers one request at a time.
fn one_at_a_time() -> Host {
    let host = Host::start();
    host.deploy_new("m", &artifacts::test_plugin("hostile"));
    let configuration = json!({ "max_concurrent_requests": 1 });
    host.send(&Request::put("/v1/models/m/configuration", &configuration)).expect(200);
    host
}

fn with(parameters: Value) -> Request {
    let mut body = column_body(&[1.5]);
    body["parameters"] = parameters;
    to("/v2/models/m/infer", &body)
}

fn statistics(host: &Host) -> Value {
    host.get("/v2/models/m/stats").expect(200)["model_stats"][0]["inference_stats"].clone()
}

#[test]
fn what_cannot_be_in_time_is_not_started() {
    let host = one_at_a_time();
    // The host learns how long such requests take.
    for _ in 0..3 {
        host.send(&behaviour("m", "sleep", 400)).expect(200);
    }
    let mut connection = host.connect();
    let slow = thread::spawn(move || connection.send(&behaviour("m", "sleep", 3_000)).unwrap());
    wait_until("the slow request runs", || pending(&host) == 1);
    // Some 400 ms until it runs and 400 more.
    let hopeless = host.send(&with(json!({ "timeout": 300_000 }))).error(504);
    assert!(hopeless.contains("would pass before there is an answer"), "{hopeless}");
    let hopeful = host.send(&with(json!({ "timeout": 1_500_000 }))).error(504);
    assert!(hopeful.contains("passed while the request was waiting"), "{hopeful}");
    assert!(!slow.is_finished(), "the slow request was over too early to show anything");
    slow.join().unwrap().expect(200);
    assert_eq!(pending(&host), 0);
    let counts = statistics(&host);
    assert_eq!((&counts["success"]["count"], &counts["fail"]["count"]), (&json!(4), &json!(2)));
    // Alone it is let go on, though it is expected to be late: nothing else would show that the model became faster.
    host.send(&with(json!({ "timeout": 300_000 }))).expect(200);
}

#[test]
fn priority_goes_before_arrival() {
    let host = one_at_a_time();
    let (done, order) = mpsc::channel();
    let send = |name: &'static str, request: Request| {
        let (mut connection, done) = (host.connect(), done.clone());
        thread::spawn(move || {
            connection.send(&request).unwrap().expect(200);
            done.send(name).unwrap();
        })
    };
    let sleeping =
        |priority: Value| with(json!({ "behaviour": "sleep", "amount": 300, "priority": priority }));
    let requests = [("running", json!(0)), ("later", json!(3)), ("usual", json!(0)), ("first", json!(1))];
    let threads: Vec<_> = requests
        .into_iter()
        .zip(1..)
        .map(|((name, priority), number)| {
            let thread = send(name, sleeping(priority));
            wait_until("it waits", || pending(&host) == number);
            thread
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(order.try_iter().collect::<Vec<_>>(), ["running", "first", "usual", "later"]);
    for wrong in [json!("high"), json!(-1), json!(1.5), json!(true)] {
        assert!(host.send(&sleeping(wrong)).error(400).contains("priority"));
    }
}

/// The plugin sees neither of the two: the server answers to them.
#[test]
fn statistics_count_every_request() {
    let host = one_at_a_time();
    for answered in 1..=3_u64 {
        host.send(&with(json!({ "priority": 1, "timeout": 10_000_000 }))).expect(200);
        let counts = statistics(&host);
        for part in ["success", "queue", "compute_input", "compute_infer", "compute_output"] {
            assert_eq!(counts[part]["count"], answered, "{part}");
        }
        assert!(counts["success"]["ns"].as_u64() > counts["compute_input"]["ns"].as_u64());
        assert_eq!(counts["cache_hit"], json!({ "count": 0, "ns": 0 }));
    }
    host.send(&behaviour("m", "trap", 0)).error(502);
    host.send(&Request::post("/v2/models/m/infer", "no JSON")).error(400);
    assert_eq!(statistics(&host)["fail"]["count"], 2);
    let version = &host.get("/v2/models/m/versions/1/stats").expect(200)["model_stats"][0];
    assert_eq!((&version["name"], &version["version"]), (&json!("m"), &json!("1")));
    assert_eq!(
        (&version["inference_count"], &version["execution_count"], &version["memory_usage"][0]["type"]),
        (&json!(3), &json!(3), &json!("CPU"))
    );
    assert!(version["last_inference"].as_u64().is_some_and(|time| time > 1_600_000_000_000), "{version}");
    assert!(version["memory_usage"][0]["at_rest_byte_size"].as_u64().is_some_and(|bytes| bytes > 0));
    let all = host.get("/v2/models/stats").expect(200);
    assert_eq!(all["model_stats"].as_array().map(Vec::len), Some(1));
    host.get("/v2/models/unknown/stats").error(404);
    host.get("/v2/models/m/versions/7/stats").error(404);
    let server = host.get("/v2").expect(200);
    assert!(server["extensions"].as_array().is_some_and(|known| known.contains(&json!("statistics"))));
}
