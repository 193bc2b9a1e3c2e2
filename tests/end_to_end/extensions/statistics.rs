//! The statistics of a version move with every single request, and their times add up.

use std::time::Instant;

use modelhost_tests::host::Host;
use modelhost_tests::inference::{column, column_body, to};
use serde_json::{Value, json};

use super::serving;

fn of(host: &Host) -> Value {
    host.get("/v2/models/m/versions/1/stats").expect(200)["model_stats"][0].clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

#[test]
fn everything_that_triton_tells_is_there() {
    let host = serving();
    let before = of(&host);
    assert_eq!((&before["response_stats"], &before["batch_stats"]), (&json!({}), &json!([])));
    host.send(&column("m", &[1.0])).expect(200);
    let version = of(&host);
    for part in [
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
        "cache_hit",
        "cache_miss",
    ] {
        let timed = &version["inference_stats"][part];
        assert!(timed["count"].is_u64() && timed["ns"].is_u64(), "{part}: {version}");
    }
    for part in ["compute_infer", "compute_output", "success", "fail", "empty_response", "cancel"] {
        assert!(version["response_stats"]["0"][part]["count"].is_u64(), "{part}: {version}");
    }
    assert_eq!(version["memory_usage"][0]["type"], "CPU");
    assert!(number(&version["memory_usage"][0]["byte_size"]) > 0);
}

#[test]
fn counts_move_with_every_request() {
    let host = serving();
    for requests in 1..=5 {
        host.send(&column("m", &[1.0, 2.0, 3.0])).expect(200);
        let version = of(&host);
        assert_eq!(number(&version["inference_count"]), 3 * requests);
        assert_eq!(number(&version["execution_count"]), requests);
        assert_eq!(number(&version["response_stats"]["0"]["success"]["count"]), requests);
        let batches = version["batch_stats"].as_array().unwrap();
        assert_eq!(batches.len(), 1, "{version}");
        assert_eq!(number(&batches[0]["batch_size"]), 3);
        assert_eq!(number(&batches[0]["compute_infer"]["count"]), requests);
    }
    host.send(&column("m", &[1.0])).expect(200);
    let sizes: Vec<u64> = of(&host)["batch_stats"]
        .as_array()
        .unwrap()
        .iter()
        .map(|batch| number(&batch["batch_size"]))
        .collect();
    assert_eq!(sizes, [1, 3]);
    for failures in 1..=3 {
        host.send(&to("/v2/models/m/infer", &json!({ "inputs": [] }))).error(400);
        let version = of(&host);
        assert_eq!(number(&version["inference_stats"]["fail"]["count"]), failures);
        assert_eq!(number(&version["inference_stats"]["success"]["count"]), 6);
    }
}

#[test]
fn the_parts_are_no_more_than_the_whole() {
    let host = serving();
    let began = Instant::now();
    for _ in 0..20 {
        host.send(&to("/v2/models/m/infer", &column_body(&[1.0; 64]))).expect(200);
    }
    let outside = u64::try_from(began.elapsed().as_nanos()).unwrap();
    let stats = &of(&host)["inference_stats"];
    let ns = |part: &str| number(&stats[part]["ns"]);
    let parts: u64 = ["queue", "compute_input", "compute_infer", "compute_output"].map(ns).iter().sum();
    assert!(parts <= ns("success") && ns("success") <= outside, "{stats} of {outside}");
    assert!(ns("compute_infer") > 0 && ns("compute_output") > 0, "{stats}");
}
