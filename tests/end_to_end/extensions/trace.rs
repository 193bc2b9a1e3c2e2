//! Traces of sampled requests, and the settings that say which.

use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::Response;
use modelhost_tests::inference::column;
use serde_json::{Value, json};

use super::{doubling, post, serving, serving_with};

fn traced() -> Host {
    serving_with(&Setup::new().set("log.format", "json"))
}

fn ask(host: &Host, model: &str, requests: usize) {
    let mut connection = host.connect();
    for _ in 0..requests {
        connection.send(&column(model, &[1.0])).unwrap().expect(200);
    }
}

fn set(host: &Host, settings: &Value) -> Response {
    post(host, "/v2/trace/setting", settings)
}

fn traces(host: &Host) -> Vec<Value> {
    let log = host.log();
    let lines = log.lines().filter(|line| line.contains("modelhost::trace"));
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

const MOMENTS: [&str; 7] = [
    "REQUEST_START",
    "QUEUE_START",
    "COMPUTE_START",
    "COMPUTE_INPUT_END",
    "COMPUTE_OUTPUT_START",
    "COMPUTE_END",
    "REQUEST_END",
];

#[test]
fn a_trace_tells_the_moments_of_a_request_in_their_order() {
    let host = traced();
    ask(&host, "m", 3);
    let settings = set(&host, &json!({ "trace_level": ["TIMESTAMPS"], "trace_rate": "2" })).expect(200);
    assert_eq!(settings["trace_level"], json!(["TIMESTAMPS"]));
    ask(&host, "m", 6);
    wait_until("three traces are there", || traces(&host).len() >= 3);
    set(&host, &json!({ "trace_level": ["OFF"] })).expect(200);
    ask(&host, "m", 6);
    let traces = traces(&host);
    assert_eq!(traces.len(), 3, "one of two requests, and none while it was off");
    for trace in &traces {
        assert_eq!((&trace["model_name"], &trace["model_version"]), (&json!("m"), &json!(1)));
        let moments = MOMENTS.map(|moment| trace[moment].as_u64().unwrap());
        assert!(moments.is_sorted() && moments[0] < moments[6], "{trace}");
    }
    assert!(traces[0]["id"] != traces[1]["id"]);
}

#[test]
fn a_count_ends_them_and_a_model_may_have_its_own() {
    let host = traced();
    host.deploy_new("other", &doubling());
    let on = json!({ "trace_level": "TIMESTAMPS", "trace_rate": 1, "trace_count": 2 });
    assert_eq!(post(&host, "/v2/models/m/trace/setting", &on).expect(200)["trace_count"], "2");
    assert_eq!(host.get("/v2/trace/setting").expect(200)["trace_level"], json!(["OFF"]));
    ask(&host, "m", 5);
    ask(&host, "other", 5);
    wait_until("two traces are there", || traces(&host).len() >= 2);
    assert_eq!(traces(&host).len(), 2);
    let settings = host.get("/v2/models/m/trace/setting").expect(200);
    assert_eq!(settings["trace_count"], "0");
    let follow = json!({ "trace_level": null, "trace_rate": null, "trace_count": null });
    let settings = post(&host, "/v2/models/m/trace/setting", &follow).expect(200);
    assert_eq!(settings, host.get("/v2/trace/setting").expect(200));
}

#[test]
fn the_settings_are_those_that_triton_has() {
    let host = serving();
    let default = json!({
        "trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1",
        "log_frequency": "0", "trace_file": "", "trace_mode": "triton",
    });
    assert_eq!(host.get("/v2/trace/setting").expect(200), default);
    assert_eq!(host.get("/v2/models/m/trace/setting").expect(200), default);
    let same = json!({ "trace_file": "", "log_frequency": "0", "trace_count": "-1", "trace_mode": "triton" });
    assert_eq!(set(&host, &same).expect(200), default);
    for bad in [
        json!({ "trace_file": "/tmp/trace.json" }),
        json!({ "trace_level": ["TENSORS"] }),
        json!({ "trace_level": ["OFF", "TIMESTAMPS"] }),
        json!({ "trace_level": [] }),
        json!({ "trace_rate": 0 }),
        json!({ "trace_rate": "-3" }),
        json!({ "trace_rate": "99999999999999999999" }),
        json!({ "trace_count": -2 }),
        json!({ "log_frequency": "5" }),
        json!({ "trace_mode": "opentelemetry" }),
        json!({ "trace_everything": true }),
        json!({ "trace_level": "TIMESTAMPS", "trace_rate": {} }),
    ] {
        set(&host, &bad).error(400);
    }
    assert_eq!(host.get("/v2/trace/setting").expect(200), default, "one bad value changes nothing");
    host.get("/v2/models/unknown/trace/setting").error(404);
    post(&host, "/v2/models/unknown/trace/setting", &json!({ "trace_rate": 1 })).error(404);
}
