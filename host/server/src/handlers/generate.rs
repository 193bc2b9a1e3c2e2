//! `POST /v2/models/{model}[/versions/{version}]/generate` and `…/generate_stream`, Triton's generate extension: inputs
//! and parameters as plain JSON fields, outputs likewise; the responses of a plugin that streams as server-sent events.
//!
//! A field, at the top or in `parameters`, that has the name of an input is that input; any other is a parameter.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use modelhost_core::{Parameter, Signature, TensorDescription};
use modelhost_protocol::{InferRequest, InferResponse, ResponseOutput, decode_json_request, encode_response};
use modelhost_serving::{NamedTensors, RequestOptions, Servable};
use serde_json::{Map, Value, json};

use super::{model_name, read_text_request, version_selector};
use crate::body::Reservation;
use crate::error::{ApiError, shortened};
use crate::events;
use crate::reply::{Reply, json};
use crate::service::Call;

const EXPECTED: &str = "a request such as {\"text_input\": \"Once\", \"parameters\": {\"max_tokens\": 8}}";

/// Answers with one response.
pub(super) async fn generate(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let (servable, request, _reservation) = read_request(call).await?;
    let InferRequest { id, parameters, timeout, priority, inputs, .. } = request;
    let outputs = servable.infer(inputs, parameters, RequestOptions { timeout, priority }).await?;
    Ok(json(StatusCode::OK, &response(&servable, id.as_deref(), &outputs)?))
}

/// Answers with an event for each response. What fails before the first of them has its own status.
pub(super) async fn generate_stream(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let (servable, request, _reservation) = read_request(call).await?;
    let InferRequest { id, parameters, timeout, priority, inputs, .. } = request;
    let mut responses = servable.infer_stream(inputs, parameters, RequestOptions { timeout, priority });
    let first = responses.next().await.transpose()?;
    let responses = stream::iter(first.map(Ok)).chain(responses);
    Ok(events::reply(responses.map(move |outputs| {
        let outputs = outputs.map_err(ApiError::from);
        let response = outputs.and_then(|outputs| response(&servable, id.as_deref(), &outputs));
        match response {
            Ok(response) => events::event(&response),
            Err(error) => events::event(&json!({ "error": error.public_message() })),
        }
    })))
}

async fn read_request(call: &mut Call<'_>) -> Result<(Arc<Servable>, InferRequest, Reservation), ApiError> {
    let model = model_name(call)?;
    let selector = version_selector(call)?;
    let servable = call.shared.host.servable(&model, &selector)?;
    call.record.model = Some(model);
    call.record.version = Some(servable.version());
    let (fields, reservation) = read_text_request(call, EXPECTED).await?;
    servable.check_load()?;
    let request = infer_request(fields, servable.signature())?;
    Ok((servable, request, reservation))
}

/// The same request in the form that other requests have, so that its elements are read by the same rules.
fn infer_request(fields: Map<String, Value>, signature: &Signature) -> Result<InferRequest, ApiError> {
    let mut mapped = Mapped { signature, inputs: Vec::new(), parameters: Map::new(), lists: Vec::new() };
    let mut request = Map::new();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("id", Value::String(id)) if !mapped.is_input("id") => {
                request.insert(name, Value::String(id));
            }
            ("id", _) if !mapped.is_input("id") => return Err(ApiError::invalid("\"id\" must be a string")),
            ("parameters", Value::Object(parameters)) => {
                parameters.into_iter().try_for_each(|(name, value)| mapped.add(name, value))?;
            }
            (_, value) => mapped.add(name, value)?,
        }
    }
    request.insert("inputs".to_owned(), Value::Array(mapped.inputs));
    request.insert("parameters".to_owned(), Value::Object(mapped.parameters));
    let mut request = decode_json_request(Value::Object(request).to_string().as_bytes())?;
    request.parameters.extend(mapped.lists);
    Ok(request)
}

struct Mapped<'a> {
    signature: &'a Signature,
    inputs: Vec<Value>,
    parameters: Map<String, Value>,
    /// Parameters that are given as lists: one of the same name for each element.
    lists: Vec<(String, Parameter)>,
}

impl Mapped<'_> {
    fn description(&self, name: &str) -> Option<&TensorDescription> {
        self.signature.inputs.iter().find(|input| input.name == name)
    }

    fn is_input(&self, name: &str) -> bool {
        self.description(name).is_some()
    }

    fn add(&mut self, name: String, value: Value) -> Result<(), ApiError> {
        if let Some(description) = self.description(&name) {
            if value.as_array().is_some_and(|elements| elements.iter().any(Value::is_array)) {
                let message = format!("input {name:?} is a list of lists: send it to infer, with its shape");
                return Err(ApiError::invalid(message));
            }
            let shape = shape(&description.shape, &value);
            let data = if value.is_array() { value } else { json!([value]) };
            let datatype = description.datatype.to_string();
            self.inputs.push(json!({ "name": name, "datatype": datatype, "shape": shape, "data": data }));
            return Ok(());
        }
        match value {
            Value::Null => {}
            Value::Array(elements) => {
                for element in elements {
                    self.lists.push((name.clone(), parameter(&name, element)?));
                }
            }
            Value::Object(_) => return Err(not_a_parameter(&name)),
            value => {
                if self.parameters.insert(name.clone(), value).is_some() {
                    return Err(ApiError::invalid(format!("parameter {name:?} is given more than once")));
                }
            }
        }
        Ok(())
    }
}

/// A single value is a tensor of one element, a list the last dimension of one; every other free dimension is 1.
fn shape(described: &[i64], value: &Value) -> Vec<u64> {
    let mut shape: Vec<u64> = described.iter().map(|extent| u64::try_from(*extent).unwrap_or(1)).collect();
    if let Value::Array(elements) = value {
        match shape.last_mut() {
            Some(last) => *last = elements.len() as u64,
            // Where a scalar is expected this says so.
            None => shape.push(elements.len() as u64),
        }
    }
    shape
}

fn parameter(name: &str, value: Value) -> Result<Parameter, ApiError> {
    match value {
        Value::Array(_) | Value::Object(_) | Value::Null => Err(not_a_parameter(name)),
        value => serde_json::from_value(value).map_err(|_| not_a_parameter(name)),
    }
}

fn not_a_parameter(name: &str) -> ApiError {
    let name = shortened(name);
    ApiError::invalid(format!(
        "{name:?} is neither an input of the model nor a parameter: expected true, false, a number, a string, or a list of those"
    ))
}

/// The outputs as fields: one element as it is, more as a list.
fn response(servable: &Servable, id: Option<&str>, outputs: &NamedTensors) -> Result<Value, ApiError> {
    let outputs: Vec<ResponseOutput<'_>> =
        outputs.iter().map(|(name, tensor)| ResponseOutput { name, tensor, is_binary: false }).collect();
    let response =
        InferResponse { model: servable.model(), version: servable.version(), id, outputs: &outputs };
    let written = encode_response(&response)?.pieces.concat();
    let broken = |error: serde_json::Error| ApiError::internal(format!("a response is no JSON: {error}"));
    let mut fields: Map<String, Value> = serde_json::from_slice(&written).map_err(broken)?;
    if let Some(Value::Array(outputs)) = fields.remove("outputs") {
        fields.extend(outputs.into_iter().filter_map(output_field));
    }
    Ok(Value::Object(fields))
}

fn output_field(mut output: Value) -> Option<(String, Value)> {
    let name = output.get("name")?.as_str()?.to_owned();
    let data = output.get_mut("data")?.take();
    let value = match data {
        Value::Array(mut elements) if elements.len() == 1 => elements.pop()?,
        data => data,
    };
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use modelhost_core::Datatype;
    use proptest::prelude::*;

    use super::*;

    fn signature() -> Signature {
        let input = |name: &str, datatype, shape: &[i64]| TensorDescription {
            name: name.into(),
            datatype,
            shape: shape.to_vec(),
        };
        let inputs = vec![
            input("text_input", Datatype::Bytes, &[-1]),
            input("ids", Datatype::Int64, &[-1, -1]),
            input("scale", Datatype::Fp32, &[]),
        ];
        Signature { inputs, outputs: Vec::new() }
    }

    fn map(fields: Value) -> Result<InferRequest, String> {
        let Value::Object(fields) = fields else { panic!("no object") };
        infer_request(fields, &signature()).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_are_inputs_by_name_and_parameters_otherwise() {
        let request = map(json!({
            "id": "7", "text_input": "once", "ids": [1, 2, 3], "stream": false,
            "parameters": {"scale": 0.5, "max_tokens": 8, "stop": ["a", "b"], "timeout": 1000, "none": null},
        }))
        .unwrap();
        assert_eq!(request.id.as_deref(), Some("7"));
        assert_eq!(request.timeout.unwrap().as_millis(), 1);
        let shapes = |name: &str| {
            let found = request.inputs.iter().find(|(known, _)| known == name);
            found.map(|(_, tensor)| tensor.shape().to_vec()).unwrap()
        };
        assert_eq!((shapes("text_input"), shapes("ids"), shapes("scale")), (vec![1], vec![1, 3], vec![]));
        let text = |text: &str| Parameter::Text(text.to_owned());
        assert_eq!(
            request.parameters,
            [
                ("max_tokens".to_owned(), Parameter::Integer(8)),
                ("stream".to_owned(), Parameter::Boolean(false)),
                ("stop".to_owned(), text("a")),
                ("stop".to_owned(), text("b")),
            ]
        );
    }

    #[test]
    fn what_fits_nowhere_is_named() {
        for (fields, said) in [
            (json!({"text_input": 5}), "text_input"),
            (json!({"ids": ["x"]}), "ids"),
            (json!({"ids": [[1]]}), "ids"),
            (json!({"other": {"a": 1}}), "\"other\" is neither an input of the model nor a parameter"),
            (json!({"other": [[1]]}), "\"other\" is neither"),
            (json!({"id": 5}), "\"id\" must be a string"),
            (json!({"x": 1, "parameters": {"x": 2}}), "more than once"),
        ] {
            let sentence = map(fields.clone()).unwrap_err();
            assert!(sentence.contains(said), "{fields}: {sentence}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let names = prop_oneof![
            Just("text_input".to_owned()),
            Just("ids".to_owned()),
            Just("scale".to_owned()),
            Just("parameters".to_owned()),
            Just("id".to_owned()),
            Just("timeout".to_owned()),
            ".{0,4}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::hash_map(names.clone(), inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_fields_are_a_request_or_refused(fields in proptest::collection::vec(any_json(), 1..8)) {
            let names = ["text_input", "ids", "scale", "parameters", "id", "timeout", "priority", "x"];
            let fields: Map<String, Value> = names.map(str::to_owned).into_iter().zip(fields).collect();
            if let Ok(request) = infer_request(fields, &signature()) {
                for (name, tensor) in &request.inputs {
                    let known = signature().inputs.into_iter().find(|input| input.name == *name).unwrap();
                    prop_assert_eq!(known.datatype, tensor.datatype());
                }
            }
        }
    }

    #[test]
    fn one_element_is_no_list() {
        let field = |data: Value| output_field(json!({"name": "y", "data": data})).unwrap().1;
        assert_eq!(field(json!(["text"])), json!("text"));
        assert_eq!(field(json!([1, 2])), json!([1, 2]));
        assert_eq!(field(json!([])), json!([]));
    }
}
