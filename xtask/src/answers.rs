//! Owns the comparison of an answer with the expected one.
//!
//! An answer may say more than was expected of it (identifiers, times), so only what is expected
//! is compared. It must not know where either comes from.

use serde_json::Value;

/// Relative to the larger number, or absolute below one: engines round differently.
const TOLERANCE: f64 = 1e-4;

/// The first difference, with the place where it is; none when the answer is as expected.
pub fn difference(expected: &Value, actual: &Value) -> Option<String> {
    at("answer", expected, actual)
}

fn at(place: &str, expected: &Value, actual: &Value) -> Option<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => expected.iter().find_map(|(key, value)| {
            let place = format!("{place}.{key}");
            match actual.get(key) {
                Some(found) => at(&place, value, found),
                None => Some(format!("{place} is missing")),
            }
        }),
        (Value::Array(expected), Value::Array(actual)) if expected.len() != actual.len() => {
            Some(format!("{place} has {} elements, not {}", actual.len(), expected.len()))
        }
        (Value::Array(expected), Value::Array(actual)) => {
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.find_map(|(index, (expected, actual))| at(&format!("{place}[{index}]"), expected, actual))
        }
        (Value::Number(one), Value::Number(other)) if close(one.as_f64(), other.as_f64()) => None,
        _ if expected == actual => None,
        _ => Some(format!("{place} is {actual}, not {expected}")),
    }
}

fn close(expected: Option<f64>, actual: Option<f64>) -> bool {
    let (Some(expected), Some(actual)) = (expected, actual) else { return false };
    (expected - actual).abs() <= TOLERANCE * expected.abs().max(actual.abs()).max(1.0)
}

#[cfg(test)]
mod proofs {
    use serde_json::json;

    use super::difference;

    #[test]
    fn more_than_expected_is_fine() {
        let actual = json!({"id": "7", "outputs": [{"name": "p", "data": [0.5, 1], "parameters": {}}]});
        assert_eq!(difference(&json!({"outputs": [{"name": "p", "data": [0.5, 1]}]}), &actual), None);
    }

    #[test]
    fn numbers_are_compared_within_the_tolerance() {
        assert_eq!(difference(&json!([0.5, 10000, 3]), &json!([0.50009, 10000.9, 3.0])), None);
        assert!(difference(&json!([0.5]), &json!([0.5002])).is_some());
        assert!(difference(&json!([10000]), &json!([10002])).is_some());
    }

    #[test]
    fn the_place_of_a_difference_is_named() {
        let found =
            difference(&json!({"outputs": [{"data": ["spam"]}]}), &json!({"outputs": [{"data": ["ham"]}]}));
        assert_eq!(found.as_deref(), Some("answer.outputs[0].data[0] is \"ham\", not \"spam\""));
        let found = difference(&json!({"outputs": []}), &json!({"error": "no"}));
        assert_eq!(found.as_deref(), Some("answer.outputs is missing"));
        let found = difference(&json!([1, 2]), &json!([1]));
        assert_eq!(found.as_deref(), Some("answer has 1 elements, not 2"));
    }

    #[test]
    fn a_number_is_no_string() {
        assert!(difference(&json!(1), &json!("1")).is_some());
    }
}
