//! Inference requests, and what is read out of their answers.

use serde_json::{Value, json};

use crate::http::Request;

/// A request to a model that takes one column `x` of FP32.
pub fn column(model: &str, values: &[f32]) -> Request {
    to(&format!("/v2/models/{model}/infer"), &column_body(values))
}

/// The body of such a request.
pub fn column_body(values: &[f32]) -> Value {
    json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [values.len()], "data": values }] })
}

/// A request to the hostile plugin.
pub fn behaviour(model: &str, name: &str, amount: u64) -> Request {
    let mut body = column_body(&[1.5]);
    body["parameters"] = json!({ "behaviour": name, "amount": amount });
    to(&format!("/v2/models/{model}/infer"), &body)
}

/// A request with this body to any address.
pub fn to(target: &str, body: &Value) -> Request {
    Request::post(target, body.to_string())
}

/// The data of an output.
#[track_caller]
pub fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let outputs = answer["outputs"].as_array();
    let found = outputs.into_iter().flatten().find(|output| output["name"] == name);
    match found {
        Some(output) => &output["data"],
        None => panic!("no output {name:?} in {answer}"),
    }
}

/// The version that answered.
#[track_caller]
pub fn version(answer: &Value) -> u64 {
    answer["model_version"].as_str().and_then(|version| version.parse().ok()).unwrap()
}

/// How far numbers may be off: relative to the larger one, or absolute below one.
const TOLERANCE: f64 = 1e-4;

/// Compares an answer with the expected one: numbers within a tolerance, all else exactly. What the answer says
/// beyond that is left alone.
#[track_caller]
pub fn assert_as_expected(expected: &Value, actual: &Value) {
    match (expected, actual) {
        (Value::Object(expected_fields), Value::Object(_)) => {
            for (name, value) in expected_fields {
                assert_as_expected(value, &actual[name]);
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            expected.iter().zip(actual).for_each(|(expected, actual)| assert_as_expected(expected, actual));
        }
        (Value::Number(expected), Value::Number(actual)) => {
            let (expected, actual) = (expected.as_f64().unwrap(), actual.as_f64().unwrap());
            let allowed = TOLERANCE * expected.abs().max(actual.abs()).max(1.0);
            assert!((expected - actual).abs() <= allowed, "{actual} in place of {expected}");
        }
        _ => assert_eq!(expected, actual),
    }
}
