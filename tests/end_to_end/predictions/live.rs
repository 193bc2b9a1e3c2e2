//! How much of the model one lookup may have: one row for a key, equal keys once, so many keys, so many bytes, so long.

use std::time::{Duration, Instant};

use modelhost_tests::artifacts;
use modelhost_tests::host::{Host, Setup};
use serde_json::{Value, json};

use super::{get, look_up, put_table, table_of};

/// A table to which nothing was published, its model, and inputs for it: the text says how the model behaves.
fn host_with(setup: Setup, features: &[Value]) -> Host {
    let host = setup.start();
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    table_of(&host, "features", features);
    put_table(&host, "t", &json!({ "key": "key", "live": { "model": "selective", "features": "features" } }));
    host
}

fn features(keys: std::ops::Range<u64>, text: &str) -> Vec<Value> {
    keys.map(|key| json!({ "key": key, "x": key, "text": text })).collect()
}

fn answered(host: &Host) -> u64 {
    let text = host.get("/metrics").text();
    let series = "nv_inference_request_success{model=\"selective\",version=\"1\"} ";
    text.lines().find_map(|line| line.strip_prefix(series)).map_or(0, |value| value.parse().unwrap())
}

fn count(predictions: &[Value], is_so: impl Fn(&Value) -> bool) -> usize {
    predictions.iter().filter(|prediction| is_so(prediction)).count()
}

#[test]
fn keys_are_numbers_where_the_features_have_numbers() {
    let host = host_with(Setup::new(), &features(0..3, "well"));
    let found = get(&host, "t", "2").expect(200);
    assert_eq!((&found["key"], &found["values"]["y"]), (&json!(2), &json!(4.0)), "{found}");
    assert!(get(&host, "t", "two").error(400).contains("no whole number"));
    let output = host.client(&["predictions", "get", "t", "1", "2", "9"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("selective 1") && shown.contains("4.0"), "{shown}");
    assert_eq!(output.status.code(), Some(1), "9 has no prediction");
}

#[test]
fn equal_keys_are_asked_once_and_different_inputs_each() {
    let host = host_with(Setup::new(), &features(0..3, "well"));
    let found = look_up(&host, "t", &json!({ "keys": vec![2; 1_000] })).expect(200);
    let predictions = found["predictions"].as_array().unwrap();
    assert_eq!(count(predictions, |prediction| prediction["values"]["y"] == json!(4.0)), 1_000);
    assert_eq!(answered(&host), 1);
    let request = |x: f64| {
        let input = |name, datatype, data: Value| json!({ "name": name, "datatype": datatype, "shape": [1], "data": [data] });
        json!({ "inputs": [input("x", "FP32", json!(x)), input("text", "BYTES", json!("well"))] })
    };
    let asked = json!({ "keys": [2, 2, 2], "requests": [request(5.0), null, request(6.0)] });
    let found = look_up(&host, "t", &asked).expect(200);
    let values: Vec<&Value> =
        found["predictions"].as_array().unwrap().iter().map(|found| &found["values"]["y"]).collect();
    assert_eq!(values, [&json!(10.0), &json!(4.0), &json!(12.0)]);
}

#[test]
fn a_client_asks_for_one_row_with_a_key() {
    let host = host_with(Setup::new(), &features(0..3, "well"));
    let rows = json!({ "inputs": [
        { "name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2] },
        { "name": "text", "datatype": "BYTES", "shape": [2], "data": ["well", "well"] },
    ] });
    let found = look_up(&host, "t", &json!({ "keys": [1], "requests": [rows] })).expect(200);
    let failed = &found["predictions"][0];
    assert_eq!((&failed["code"], answered(&host)), (&json!(400), 0), "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("2 rows"), "{failed}");
}

#[test]
fn the_model_is_asked_about_so_many_keys_and_no_more() {
    let host = host_with(Setup::new(), &features(0..200, "well"));
    let keys: Vec<u64> = (0..1_000).collect();
    let found = look_up(&host, "t", &json!({ "keys": keys })).expect(200);
    let predictions = found["predictions"].as_array().unwrap();
    assert_eq!(count(predictions, |prediction| prediction["source"] == "live"), 128);
    let refused = |prediction: &Value| {
        prediction["code"] == 400
            && prediction["error"].as_str().is_some_and(|said| said.contains("at most 128 keys"))
    };
    assert_eq!(count(predictions, refused), 72);
    // Those without features cost nothing, and are told as such.
    assert_eq!(count(predictions, |prediction| prediction["code"] == 404), 800);
    assert_eq!(answered(&host), 128);
}

#[test]
fn a_lookup_has_one_deadline() {
    let host = host_with(Setup::new(), &features(0..100, "sleep"));
    let ask = |timeout: Option<Duration>| {
        let timeout = timeout.map(|timeout| timeout.as_micros());
        let keys: Vec<u64> = (0..100).collect();
        let began = Instant::now();
        let found = look_up(&host, "t", &json!({ "keys": keys, "parameters": { "timeout": timeout } }));
        (found.expect(200)["predictions"].as_array().unwrap().clone(), began.elapsed())
    };
    // Each answer takes 200 ms, and 16 are waited for at a time: all of them would take more than a second.
    let (predictions, time) = ask(Some(Duration::from_millis(600)));
    let late = count(&predictions, |prediction| prediction["code"] == 504);
    assert!(late > 0 && late < 100, "{late} of 100 were late");
    assert_eq!(count(&predictions, |prediction| prediction["source"] == "live"), 100 - late);
    assert!(time < Duration::from_secs(5), "{time:?}");
    look_up(&host, "t", &json!({ "keys": [1], "parameters": { "timeout": 0 } })).error(400);
    look_up(&host, "t", &json!({ "keys": [1], "parameters": { "unknown": 0 } })).error(400);
    // Without one, the limit of a call is that of the lookup.
    let host = host.stop().set("runtime.limits.wall_time_ms", 300).start();
    let keys: Vec<u64> = (0..100).collect();
    let found = look_up(&host, "t", &json!({ "keys": keys })).expect(200);
    let predictions = found["predictions"].as_array().unwrap();
    assert!(count(predictions, |prediction| prediction["code"] == 504) > 0, "{found}");
}
