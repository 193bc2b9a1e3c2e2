//! Predictions that are older than they may be, and keys that a table does not know: what there is, marked, or the model.

use std::thread;
use std::time::Duration;

use modelhost_tests::component::with_graph;
use modelhost_tests::host::Host;
use modelhost_tests::{artifacts, onnx};
use serde_json::{Value, json};

use super::{get, look_up, publish, put_dataset, put_table, table_of};

/// Longer than the age of one second that the tables here allow.
fn wait_until_stale() {
    thread::sleep(Duration::from_millis(1_100));
}

/// A model that doubles `x` and answers `y`, and its inputs for two users.
fn host_with_model() -> Host {
    let host = Host::start();
    host.deploy_new(
        "double",
        &with_graph(artifacts::test_plugin("labelled"), "live", &onnx::multiplication(2.0)),
    );
    table_of(&host, "features", &[json!({ "key": "ada", "x": 21 }), json!({ "key": "new", "x": 4 })]);
    put_dataset(&host, "d", &[json!({ "key": "ada", "y": 1.5 }), json!({ "key": "bob", "y": 2.5 })]);
    host
}

fn request(x: f64) -> Value {
    json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1], "data": [x] }] })
}

#[test]
fn stale_predictions_are_served_and_marked() {
    let host = host_with_model();
    put_table(&host, "t", &json!({ "key": "key", "max_age_seconds": 1 }));
    wait_until_stale();
    publish(&host, "t", "d");
    // The predictions are as old as their dataset, whenever they were published.
    let found = get(&host, "t", "ada").expect(200);
    assert_eq!(
        (&found["stale"], &found["source"], &found["values"]["y"]),
        (&json!(true), &json!("table"), &json!(1.5))
    );
    assert!(found["age_seconds"].as_f64().unwrap() > 1.0, "{found}");
    put_dataset(&host, "d", &[json!({ "key": "ada", "y": 3.5 })]);
    publish(&host, "t", "d");
    let found = get(&host, "t", "ada").expect(200);
    assert_eq!((&found["stale"], &found["values"]["y"]), (&json!(false), &json!(3.5)));
    wait_until_stale();
    assert_eq!(get(&host, "t", "ada").expect(200)["stale"], true);
}

#[test]
fn the_model_answers_in_place_of_stale_predictions() {
    let host = host_with_model();
    let live = json!({ "model": "double", "features": "features" });
    put_table(&host, "t", &json!({ "key": "key", "max_age_seconds": 1, "when_stale": "live", "live": live }));
    put_dataset(&host, "d", &[json!({ "key": "ada", "y": 9.5 }), json!({ "key": "bob", "y": 2.5 })]);
    publish(&host, "t", "d");
    assert_eq!(get(&host, "t", "ada").expect(200)["source"], "table");
    wait_until_stale();
    let found = get(&host, "t", "ada").expect(200);
    assert_eq!(
        (&found["source"], &found["model"], &found["model_version"]),
        (&json!("live"), &json!("double"), &json!(1))
    );
    assert_eq!((&found["values"]["y"], &found["values"]["label"]), (&json!(42.0), &json!("live")));
    assert_eq!((&found["stale"], &found["age_seconds"]), (&json!(false), &json!(0.0)));
    // Without inputs there is nothing to ask: better what is old than nothing.
    let found = get(&host, "t", "bob").expect(200);
    assert_eq!(
        (&found["source"], &found["stale"], &found["values"]["y"]),
        (&json!("table"), &json!(true), &json!(2.5))
    );
    assert!(found["live_error"].as_str().unwrap().contains("has inputs"), "{found}");
    // With those of the client there is, and they go before the features.
    let asked = json!({ "keys": ["bob", "ada", "ada"], "requests": [request(1.0), null, request(2.0)] });
    let found = look_up(&host, "t", &asked).expect(200);
    let answers: Vec<(&Value, &Value)> = found["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|prediction| (&prediction["source"], &prediction["values"]["y"]))
        .collect();
    let live = json!("live");
    assert_eq!(answers, [(&live, &json!(2.0)), (&live, &json!(42.0)), (&live, &json!(4.0))]);
}

#[test]
fn the_model_answers_for_keys_that_a_table_does_not_know() {
    let host = host_with_model();
    put_table(&host, "t", &json!({ "key": "key", "live": { "model": "double", "features": "features" } }));
    // Nothing is published yet: everything is live.
    assert_eq!(get(&host, "t", "ada").expect(200)["table_error"], Value::Null);
    assert_eq!(get(&host, "t", "ada").expect(200)["values"]["y"], 42.0);
    publish(&host, "t", "d");
    assert_eq!(get(&host, "t", "ada").expect(200)["source"], "table");
    let found = get(&host, "t", "new").expect(200);
    assert_eq!((&found["source"], &found["values"]["y"]), (&json!("live"), &json!(8.0)));
    assert!(get(&host, "t", "nobody").error(404).contains("neither the request nor the feature table"));
    let found = look_up(&host, "t", &json!({ "keys": ["nobody", "eve"], "requests": [request(0.5), null] }))
        .expect(200);
    assert_eq!(found["predictions"][0]["values"]["y"], 1.0);
    assert!(found["predictions"][1]["error"].as_str().unwrap().contains("eve"), "{found}");
}

#[test]
fn a_model_that_fails_is_told() {
    let host = host_with_model();
    let settings = |model: &str, version: Value| {
        let live = json!({ "model": model, "features": "features", "version": version });
        json!({ "key": "key", "max_age_seconds": 1, "when_stale": "live", "live": live })
    };
    put_table(&host, "t", &settings("nobody", Value::Null));
    publish(&host, "t", "d");
    wait_until_stale();
    let found = get(&host, "t", "ada").expect(200);
    assert_eq!((&found["stale"], &found["live_error"]), (&json!(true), &json!("model nobody is not known")));
    assert_eq!(get(&host, "t", "new").error(404), "model nobody is not known");
    put_table(&host, "t", &settings("double", json!(7)));
    assert!(get(&host, "t", "new").error(404).contains("no version 7"));
    put_table(&host, "t", &settings("double", json!("champion")));
    assert!(get(&host, "t", "new").error(404).contains("no alias champion"));
    put_table(&host, "t", &settings("double", json!(1)));
    assert_eq!(get(&host, "t", "new").expect(200)["values"]["y"], 8.0);
    // Features that are no inputs are a mistake of the operator's, which is named.
    put_dataset(&host, "wrong", &[json!({ "key": "new", "z": 4 })]);
    publish(&host, "features", "wrong");
    let said = get(&host, "t", "new").error(422);
    assert!(said.contains("input \"x\"") && said.contains("no such column"), "{said}");
}
