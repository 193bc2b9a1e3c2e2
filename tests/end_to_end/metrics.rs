//! What an operator sees: counters that move with every single request, and a line in the log for each.

use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::Request;
use modelhost_tests::inference::{behaviour, column};
use modelhost_tests::{artifacts, onnx};
use serde_json::Value;

fn serving(setup: Setup) -> Host {
    let host = setup.set("runtime.limits.wall_time_ms", 200).start();
    host.deploy_new("hostile", &artifacts::test_plugin("hostile"));
    let labelled = with_graph(artifacts::test_plugin("labelled"), "net", &onnx::multiplication(2.0));
    host.deploy_new("m", &labelled);
    host
}

/// The value of a series, 0 where it does not exist.
fn value(host: &Host, series: &str) -> f64 {
    let text = host.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn every_request_counts() {
    let host = serving(Setup::new());
    let response = host.get("/metrics");
    assert!(
        response.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4"))
    );
    let counts = |name: &str| value(&host, &format!("{name}{{model=\"m\",version=\"1\"}}"));
    // Each request has two rows.
    let each = [
        ("nv_inference_request_success", 1.0),
        ("nv_inference_count", 2.0),
        ("nv_inference_exec_count", 1.0),
    ];
    for requests in 1..=3 {
        host.send(&column("m", &[1.0, 2.0])).expect(200);
        for (name, times) in each {
            assert_eq!(counts(name), times * f64::from(requests), "{name}");
        }
        for stage in ["preprocess", "predict", "postprocess"] {
            let series = format!("request_{stage}_seconds_count{{model_name=\"m\"}}");
            assert_eq!(value(&host, &series), f64::from(requests), "{series}");
        }
    }
    let total = counts("nv_inference_request_duration_us");
    let parts = ["queue", "compute_input", "compute_infer", "compute_output"];
    let parts: f64 = parts.iter().map(|part| counts(&format!("nv_inference_{part}_duration_us"))).sum();
    assert!(total > 0.0 && parts <= total, "{parts} of {total}");
    assert!(counts("nv_inference_compute_infer_duration_us") > 0.0);
    assert!(counts("nv_model_load_duration_secs") > 0.0);
    assert!(value(&host, "request_predict_seconds_sum{model_name=\"m\"}") > 0.0);
    assert_eq!(counts("nv_inference_pending_request_count"), 0.0);
}

#[test]
fn failures_are_told_apart() {
    let host = serving(Setup::new());
    let failures = |reason: &str| {
        let labels =
            ["model=\"hostile\"", "version=\"1\"", &format!("reason=\"{reason}\"")].map(str::to_owned);
        let text = host.get("/metrics").text();
        let is_it = |line: &&str| {
            line.starts_with("nv_inference_request_failure{")
                && labels.iter().all(|label| line.contains(label))
        };
        let line = text.lines().find(is_it).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let cases = [
        ("trap", 502, "BACKEND"),
        ("wrong-shape", 502, "BACKEND"),
        ("loop", 504, "CANCELED"),
        ("unavailable", 503, "REJECTED"),
        ("invalid", 400, "OTHER"),
    ];
    for (name, status, reason) in cases {
        let before = failures(reason);
        host.send(&behaviour("hostile", name, 0)).error(status);
        assert_eq!(failures(reason), before + 1, "{name}");
    }
    let before = failures("OTHER");
    host.send(&Request::post("/v2/models/hostile/infer", "no JSON")).error(400);
    assert_eq!(failures("OTHER"), before + 1, "a body that cannot be read");
    assert_eq!(value(&host, "nv_inference_request_success{model=\"hostile\",version=\"1\"}"), 0.0);
}

/// Names that clients make up become no series: there could be endlessly many.
#[test]
fn clients_cannot_make_series() {
    let host = serving(Setup::new());
    host.get("/v2/models/invented").error(404);
    host.send(&Request::post("/v2/models/invented/infer", "{}")).error(404);
    host.send(&Request::new("INVENTED", "/invented", "")).error(404);
    let metrics = host.get("/metrics").text();
    assert!(!metrics.to_lowercase().contains("invented"), "{metrics}");
}

#[test]
fn a_deleted_version_leaves_no_series() {
    let host = serving(Setup::new());
    host.deploy_new(
        "m",
        &with_graph(artifacts::test_plugin("labelled"), "other", &onnx::multiplication(3.0)),
    );
    assert!(host.get("/metrics").text().contains("{model=\"m\",version=\"1\"}"));
    host.send(&Request::delete("/v1/models/m/versions/1")).expect(204);
    assert!(!host.get("/metrics").text().contains("model=\"m\",version=\"1\""));
}

#[test]
fn every_request_has_a_line() {
    let host = serving(Setup::new().set("log.format", "json"));
    let lines = |id: &str| -> Vec<Value> {
        let log = host.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["request_id"] == id).collect()
    };
    host.send(&column("m", &[1.0]).header("X-Request-Id", "good-one")).expect(200);
    host.send(&behaviour("hostile", "trap", 0).header("X-Request-Id", "bad-one")).error(502);
    wait_until("both are in the log", || lines("good-one").len() == 1 && lines("bad-one").len() == 1);
    let line = &lines("good-one")[0];
    assert_eq!((&line["status"], &line["model"], &line["version"]), (&200.into(), &"m".into(), &1.into()));
    assert!(line["duration_ms"].as_f64().is_some_and(|time| time > 0.0), "{line}");
    let line = &lines("bad-one")[0];
    assert_eq!((&line["status"], &line["model"]), (&502.into(), &"hostile".into()));
    assert!(line["failure"].as_str().is_some_and(|failure| failure.contains("unreachable")), "{line}");
    // Every line of the log is an object, whoever wrote it.
    for line in host.log().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}
