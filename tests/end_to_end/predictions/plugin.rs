//! What a plugin gets from a lookup, and only where an operator allows it.

use modelhost_tests::artifacts;
use modelhost_tests::host::Host;
use modelhost_tests::http::Request;
use modelhost_tests::inference::{output, to};
use serde_json::{Value, json};

use super::{grant, publish, put_dataset, put_table, table_of};

fn ask(host: &Host, keys: &[&str], parameters: &Value) -> Value {
    let body = json!({
        "parameters": parameters,
        "inputs": [{ "name": "key", "datatype": "BYTES", "shape": [keys.len()], "data": keys }],
    });
    host.send(&to("/v2/models/lookup/infer", &body)).expect(200)
}

/// What the plugin tells, line by line.
fn told(host: &Host, keys: &[&str], parameters: &Value) -> Vec<String> {
    let lines = output(&ask(host, keys, parameters), "told").clone();
    serde_json::from_value(lines).unwrap()
}

fn host_with_plugin() -> Host {
    let host = Host::start();
    host.deploy_new("lookup", &artifacts::test_plugin("lookup"));
    host
}

#[test]
fn nothing_is_granted_before_an_operator_grants_it_and_then_at_once() {
    let host = host_with_plugin();
    table_of(&host, "t", &[json!({ "key": "a", "value": 1 })]);
    table_of(&host, "other", &[json!({ "key": "a", "value": 1 })]);
    let refused = |table: &str| told(&host, &["a"], &json!({ "table": table })).remove(0);
    assert!(
        refused("t").starts_with("NotGranted: table \"t\": table \"t\" is not granted to this model"),
        "{}",
        refused("t")
    );
    grant(&host, "lookup", &["t", "later"]);
    assert_eq!(refused("t"), "version 1 rows [Some(0)] stale false");
    assert!(refused("other").starts_with("NotGranted"));
    assert!(
        refused("nowhere").starts_with("NotGranted"),
        "what is not granted is not told apart from what is not there"
    );
    assert!(refused("later").starts_with("NoSuchTable"));
    put_table(&host, "later", &json!({ "key": "key" }));
    assert!(refused("later").contains("nothing was published"));
    let host = host.stop().start();
    assert_eq!(told(&host, &["a"], &json!({ "table": "t" })), ["version 1 rows [Some(0)] stale false"]);
    grant(&host, "lookup", &[]);
    assert!(told(&host, &["a"], &json!({ "table": "t" }))[0].starts_with("NotGranted"));
}

#[test]
fn rows_are_typed_tensors_in_the_order_of_their_keys() {
    let host = host_with_plugin();
    grant(&host, "lookup", &["t"]);
    table_of(
        &host,
        "t",
        &[
            json!({ "key": "a", "age": 36, "score": 0.5, "vip": true, "items": ["x", "y"], "top": [{ "n": 1 }, { "n": 2 }] }),
            json!({ "key": "b", "age": null, "score": 1.5, "vip": false, "items": ["z"], "top": [{ "n": 3 }, { "n": 4 }] }),
        ],
    );
    let columns = json!({ "columns": "age,score,vip,items,top.n" });
    assert_eq!(
        told(&host, &["b", "nobody", "a", "b"], &columns),
        [
            "version 1 rows [Some(0), None, Some(1), Some(2)] stale false",
            "age Int64 [3] [0, 36, 0] lengths [None, None, None] nulls [true, false, true]",
            "score Fp64 [3] [1.5, 0.5, 1.5] lengths [None, None, None] nulls [false, false, false]",
            "vip Bool [3] [false, true, false] lengths [None, None, None] nulls [false, false, false]",
            "items Bytes [3, 2] [\"z\", \"\", \"x\", \"y\", \"z\", \"\"] lengths [Some(1), Some(2), Some(1)] nulls [false, false, false]",
            "top.n Int64 [3, 2] [3, 4, 1, 2, 3, 4] lengths [None, None, None] nulls [false, false, false]",
        ]
    );
    assert_eq!(
        told(&host, &["a"], &json!({ "columns": "items" }))[1],
        "items Bytes [1, 2] [\"x\", \"y\"] lengths [None] nulls [false]"
    );
    assert_eq!(told(&host, &["nobody"], &columns)[1], "age Int64 [0] [] lengths [] nulls []");
    assert_eq!(told(&host, &[], &json!({})), ["version 1 rows [] stale false"]);
}

#[test]
fn keys_may_be_numbers_and_many() {
    let host = host_with_plugin();
    grant(&host, "lookup", &["t"]);
    let rows: Vec<Value> = (0..500).map(|key| json!({ "key": key, "value": key * 3 })).collect();
    table_of(&host, "t", &rows);
    let keys: Vec<String> = (0..1_000).rev().map(|key| key.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let lines = told(&host, &keys, &json!({ "integers": true, "columns": "value" }));
    assert!(lines[0].starts_with("version 1 rows [None, None"), "{}", lines[0]);
    let values: Vec<i64> = (0..500).rev().map(|key| key * 3).collect();
    assert!(lines[1].starts_with(&format!("value Int64 [500] {values:?}")), "{}", lines[1]);
    assert!(told(&host, &["7"], &json!({}))[0].starts_with("InvalidKey: table \"t\": key \"7\" is a string"));
}

#[test]
fn a_plugin_sees_age_staleness_and_the_version_that_answers() {
    let host = host_with_plugin();
    grant(&host, "lookup", &["t"]);
    table_of(&host, "t", &[json!({ "key": "a", "value": 1 })]);
    put_table(&host, "t", &json!({ "key": "key", "max_age_seconds": 1 }));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(told(&host, &["a"], &json!({})), ["version 1 rows [Some(0)] stale true"]);
    let age = output(&ask(&host, &["a"], &json!({})), "age_ms")[0].as_i64().unwrap();
    assert!((1_100..60_000).contains(&age), "{age}");
    put_dataset(&host, "t", &[json!({ "key": "b", "value": 1 })]);
    publish(&host, "t", "t");
    assert_eq!(told(&host, &["a", "b"], &json!({})), ["version 2 rows [None, Some(0)] stale false"]);
    host.send(&Request::post("/v1/predictions/t/rollback", "")).expect(200);
    assert_eq!(told(&host, &["a", "b"], &json!({})), ["version 1 rows [Some(0), None] stale true"]);
}
