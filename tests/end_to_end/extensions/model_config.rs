//! `/config`: what clients such as perf_analyzer read before they send anything.

use modelhost_tests::http::Request;
use serde_json::json;

use super::{post, serving};

#[test]
fn a_model_tells_its_batches_and_tensors() {
    let host = serving();
    let config = host.get("/v2/models/m/config").expect(200);
    assert_eq!(config["name"], "m");
    assert_eq!(config["platform"], host.get("/v2/models/m").expect(200)["platform"]);
    assert_eq!(config["backend"], "modelhost");
    assert_eq!(config["max_batch_size"], 32);
    assert_eq!(config["version_policy"], json!({ "all": {} }));
    assert_eq!(config["model_transaction_policy"], json!({ "decoupled": false }));
    assert_eq!(config["instance_group"][0]["kind"], "KIND_CPU");
    assert!(config["dynamic_batching"].is_object(), "{config}");
    let input = &config["input"][0];
    assert_eq!((&input["name"], &input["data_type"]), (&json!("x"), &json!("TYPE_FP32")));
    // The signature is [-1]: without the batch there is nothing left.
    assert_eq!(input["dims"], json!([]));
    assert_eq!(host.get("/v2/models/m/versions/1/config").expect(200), config);
}

#[test]
fn what_an_operator_configures_is_told() {
    let host = serving();
    let batching = json!({ "max_batch_size": 1, "max_queue_delay_microseconds": 7 });
    let configuration = json!({ "dynamic_batching": batching, "max_concurrent_requests": 3 });
    host.send(&Request::put("/v1/models/m/configuration", &configuration)).expect(200);
    let config = host.get("/v2/models/m/config").expect(200);
    assert_eq!((&config["max_batch_size"], config.get("dynamic_batching")), (&json!(1), None));
    assert_eq!(config["instance_group"][0]["count"], 3);
}

#[test]
fn what_does_not_exist_has_no_configuration() {
    let host = serving();
    for target in ["/v2/models/no/config", "/v2/models/m/versions/9/config", "/v2/models/%00/config"] {
        host.get(target).error(404);
    }
    post(&host, "/v2/models/m/config", &json!({})).error(405);
}
