//! Request parameters that the protocol reserves.

use modelhost_tests::inference::{column_body, to};
use serde_json::{Value, json};

use super::serving;

#[test]
fn reserved_parameters_are_obeyed_or_refused() {
    let host = serving();
    let ask = |parameters: Value| {
        let mut body = column_body(&[1.0]);
        body["parameters"] = parameters;
        host.send(&to("/v2/models/m/infer", &body))
    };
    for good in [
        json!({ "priority": 1, "timeout": 60_000_000 }),
        json!({ "sequence_id": 0, "sequence_start": false, "sequence_end": false }),
        json!({ "sequence_id": "" }),
        json!({ "temperature": 0.5, "my_triton_": true }),
    ] {
        ask(good).expect(200);
    }
    for name in ["sequence_id", "sequence_start", "sequence_end"] {
        let value = if name == "sequence_id" { json!(42) } else { json!(true) };
        let sentence = ask(json!({ name: value })).error(400);
        assert!(sentence.contains(name) && sentence.contains("sequences are not supported"), "{sentence}");
    }
    assert!(ask(json!({ "sequence_id": "session" })).error(400).contains("sequence_id"));
    for name in ["triton_final_response", "headers"] {
        assert!(ask(json!({ name: "x" })).error(400).contains(name));
    }
}
