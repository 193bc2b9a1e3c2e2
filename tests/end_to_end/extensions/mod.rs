//! The extensions of the Open Inference Protocol that Triton's clients use.

mod logging;
mod model_config;
mod parameters;
mod repository;
mod statistics;
mod trace;

use modelhost_tests::artifacts;
use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, Setup};
use modelhost_tests::http::{Request, Response};
use modelhost_tests::onnx;
use serde_json::{Value, json};

/// A host whose model `m` doubles a column.
fn serving() -> Host {
    serving_with(&Setup::new())
}

fn serving_with(setup: &Setup) -> Host {
    let host = setup.start();
    host.deploy_new("m", &doubling());
    host
}

fn doubling() -> Vec<u8> {
    with_graph(artifacts::test_plugin("labelled"), "net", &onnx::multiplication(2.0))
}

fn post(host: &Host, target: &str, body: &Value) -> Response {
    host.send(&Request::post(target, body.to_string()))
}

#[test]
fn the_server_lists_the_extensions_that_work() {
    let host = Host::start();
    let metadata = host.get("/v2").expect(200);
    let extensions = metadata["extensions"].as_array().unwrap();
    for extension in [
        "model_configuration",
        "model_repository",
        "model_repository(unload_dependents)",
        "parameters",
        "schedule_policy",
        "statistics",
        "trace",
        "logging",
    ] {
        assert!(extensions.contains(&json!(extension)), "{metadata}");
    }
    for absent in ["sequence", "system_shared_memory", "cuda_shared_memory"] {
        assert!(!extensions.contains(&json!(absent)), "{metadata}");
    }
}

#[test]
fn what_is_not_json_is_refused_in_one_sentence() {
    let host = serving();
    for target in [
        "/v2/repository/index",
        "/v2/repository/models/m/load",
        "/v2/repository/models/m/unload",
        "/v2/trace/setting",
        "/v2/models/m/trace/setting",
        "/v2/logging",
    ] {
        for body in ["[]", "nonsense", "{", "\"x\"", "{} {}", "7"] {
            host.send(&Request::post(target, body)).error(400);
        }
        host.send(&Request::post(target, "[".repeat(10_000))).error(400);
        host.send(&Request::new("DELETE", target, "")).error(405);
    }
    let large = format!("{{\"log_file\": \"{}\"}}", "x".repeat(1 << 20));
    host.send(&Request::post("/v2/logging", large)).error(413);
    host.get("/v2/repository/index").error(405);
    host.get("/v2/models/m/ready").expect(200);
}
