//! The body of an inference request, made of tensors or of a request that somebody has written.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::inputs::InputTensor;
use crate::failure::Failure;

/// One `--parameter`.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    name: String,
    value: Value,
}

impl FromStr for Parameter {
    type Err = String;

    /// What is no number, boolean or text in JSON is text.
    fn from_str(argument: &str) -> Result<Parameter, String> {
        let Some((name, text)) = argument.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err("expected NAME=VALUE".to_owned());
        };
        let value = match serde_json::from_str(text) {
            Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
            _ => Value::from(text),
        };
        Ok(Parameter { name: name.to_owned(), value })
    }
}

#[derive(Serialize)]
struct InferenceRequest<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<&'a str, &'a Value>,
    inputs: &'a [InputTensor],
}

/// A request with these inputs.
///
/// # Errors
/// None that an input of this client can cause.
pub fn of_tensors(inputs: &[InputTensor], parameters: &[Parameter]) -> Result<String, Failure> {
    let parameters = parameters.iter().map(|parameter| (parameter.name.as_str(), &parameter.value)).collect();
    Ok(serde_json::to_string(&InferenceRequest { parameters, inputs }).context("cannot write the request")?)
}

/// A written request with these parameters in it. Without any it goes to the host as it is, mistakes included.
///
/// # Errors
/// A request that cannot hold parameters.
pub fn with_parameters(request: String, parameters: &[Parameter]) -> Result<String, Failure> {
    if parameters.is_empty() {
        return Ok(request);
    }
    let mut object: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(&request).context("the request is no JSON object")?;
    let mut all: BTreeMap<String, Box<RawValue>> = match object.get("parameters") {
        Some(written) => {
            serde_json::from_str(written.get()).context("the request's parameters are no JSON object")?
        }
        None => BTreeMap::new(),
    };
    for Parameter { name, value } in parameters {
        all.insert(name.clone(), raw(value)?);
    }
    object.insert("parameters".to_owned(), raw(&all)?);
    Ok(serde_json::to_string(&object).context("cannot write the request")?)
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>, Failure> {
    Ok(serde_json::value::to_raw_value(value).context("cannot write a parameter")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(arguments: &[&str]) -> Vec<Parameter> {
        arguments.iter().map(|argument| argument.parse().unwrap()).collect()
    }

    #[test]
    fn parameters_have_the_type_they_look_like() {
        let values: Vec<Value> = parameters(&["k=3", "t=0.5", "b=true", "s=a=b", "q=\"3\"", "l=[1]"])
            .into_iter()
            .map(|p| p.value)
            .collect();
        let expected = serde_json::json!([3, 0.5, true, "a=b", "3", "[1]"]);
        assert_eq!(Value::from(values), expected);
        assert!("k".parse::<Parameter>().is_err());
    }

    #[test]
    fn a_written_request_keeps_its_digits() {
        let request = r#"{"parameters":{"k":1,"z":true},"inputs":[{"data":[0.10000000000000000555]}]}"#;
        assert_eq!(with_parameters(request.to_owned(), &[]).unwrap(), request);
        let merged = with_parameters(request.to_owned(), &parameters(&["k=3"])).unwrap();
        assert_eq!(merged, r#"{"inputs":[{"data":[0.10000000000000000555]}],"parameters":{"k":3,"z":true}}"#);
        assert!(with_parameters("[]".to_owned(), &parameters(&["k=3"])).is_err());
    }

    #[test]
    fn a_request_without_parameters_has_none() {
        assert_eq!(of_tensors(&[], &[]).unwrap(), r#"{"inputs":[]}"#);
        assert_eq!(of_tensors(&[], &parameters(&["k=3"])).unwrap(), r#"{"parameters":{"k":3},"inputs":[]}"#);
    }
}
