//! The API of OpenAI for models that declare the task: `/v1/completions`, `/v1/chat/completions` and `/v1/embeddings`,
//! close enough that its official clients work. What a model cannot do is refused, not ignored.
//!
//! Which inputs, outputs and parameters such a model has is described in `docs/generation.md`.

mod chat;
mod completions;
mod embeddings;
mod generation;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use modelhost_core::{ErrorCode, ModelName, Tensor};
use modelhost_serving::{ModelReference, NamedTensors, Servable, Task, VersionSelector};
use serde_json::{Map, Value};

pub(super) use self::chat::chat;
pub(super) use self::completions::completions;
pub(super) use self::embeddings::embeddings;
use super::read_text_request;
use crate::body::Reservation;
use crate::error::{ApiError, shortened};
use crate::service::Call;

/// Texts of one request.
const MAX_TEXTS: usize = 2_048;

/// A request whose model is found and declares the task.
struct Asked {
    servable: Arc<Servable>,
    /// As the client wrote it.
    model: String,
    /// What else the body says; null is as good as nothing.
    fields: Map<String, Value>,
    _reservation: Reservation,
}

async fn read(call: &mut Call<'_>, task: Task, expected: &str) -> Result<Asked, ApiError> {
    let (mut fields, reservation) = read_text_request(call, expected).await?;
    fields.retain(|_, value| !value.is_null());
    let model = match fields.remove("model") {
        Some(Value::String(model)) => model,
        _ => return Err(refused("model", "must be the name of a model, such as \"novelist\"")),
    };
    let (name, selector) = parse_model(&model)?;
    let servable = call.shared.host.servable(&name, &selector)?;
    call.record.model = Some(name);
    call.record.version = Some(servable.version());
    if !task.is_declared(servable.capabilities()) {
        let message = format!("model {model} does not declare the task {:?}", task.as_str());
        return Err(ApiError::invalid(message).about_field("model"));
    }
    servable.check_load()?;
    Ok(Asked { servable, model, fields, _reservation: reservation })
}

/// `name`, `name@3` or `name@alias`.
fn parse_model(text: &str) -> Result<(ModelName, VersionSelector), ApiError> {
    match text.parse() {
        Ok(ModelReference { model, version }) => Ok((model, version)),
        Err(_) => {
            let message = format!("model {:?} does not exist", shortened(text));
            Err(ApiError::not_found(message).about_field("model"))
        }
    }
}

/// A field that cannot be as it is.
fn refused(field: &'static str, rule: &str) -> ApiError {
    ApiError::invalid(format!("{field:?} {rule}")).about_field(field)
}

/// One text or a list of them; never empty.
fn texts(field: &'static str, value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let elements = match value {
        Some(Value::String(text)) => return Ok(vec![text]),
        Some(Value::Array(elements)) if !elements.is_empty() => elements,
        _ => return Err(refused(field, "must be a string or a list of strings")),
    };
    if elements.len() > MAX_TEXTS {
        return Err(refused(field, &format!("has more than {MAX_TEXTS} texts")));
    }
    let text = |element| match element {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Array(_) => {
            Err(refused(field, "holds tokens: send texts, each model has tokens of its own"))
        }
        _ => Err(refused(field, "must be a string or a list of strings")),
    };
    elements.into_iter().map(text).collect()
}

/// Fields that would change the answer and are not supported, unless they ask for nothing.
fn refuse_unsupported(fields: &Map<String, Value>, supported: &[&str]) -> Result<(), ApiError> {
    const UNSUPPORTED: [&str; 19] = [
        "audio",
        "best_of",
        "dimensions",
        "echo",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "modalities",
        "n",
        "prediction",
        "presence_penalty",
        "response_format",
        "suffix",
        "tool_choice",
        "tools",
        "top_logprobs",
        "web_search_options",
    ];
    for field in UNSUPPORTED.into_iter().filter(|field| !supported.contains(field)) {
        if fields.get(field).is_some_and(|value| !asks_for_nothing(field, value)) {
            return Err(refused(field, "is not supported: leave it out"));
        }
    }
    Ok(())
}

fn asks_for_nothing(field: &str, value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(number) if matches!(field, "n" | "best_of") => number.as_f64() == Some(1.0),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || (field == "tool_choice" && text == "none"),
        Value::Array(elements) => {
            elements.is_empty()
                || (field == "modalities" && matches!(&elements[..], [only] if only == "text"))
        }
        Value::Object(object) => {
            object.is_empty()
                || (field == "response_format" && object.get("type").is_some_and(|kind| kind == "text"))
        }
        Value::Null => true,
    }
}

fn flag(fields: &Map<String, Value>, field: &'static str) -> Result<bool, ApiError> {
    match fields.get(field) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(refused(field, "must be true or false")),
    }
}

fn text_input(texts: &[String]) -> Result<NamedTensors, ApiError> {
    let tensor = Tensor::from_bytes_elements(vec![texts.len() as u64], texts)
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    Ok(vec![("text_input".to_owned(), tensor)])
}

/// The sum of an output of whole numbers; 0 where the model has none of that name.
fn total(outputs: &NamedTensors, name: &str) -> u64 {
    numbers(outputs, name).into_iter().sum()
}

fn numbers(outputs: &NamedTensors, name: &str) -> Vec<u64> {
    let found = outputs
        .iter()
        .find(|(known, tensor)| known == name && tensor.datatype() == modelhost_core::Datatype::Int64);
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_le_bytes);
    let data = found.map(|(_, tensor)| tensor.data().as_ref()).unwrap_or_default();
    data.chunks_exact(8).map(|bytes| u64::try_from(number(bytes)).unwrap_or(0)).collect()
}

/// A name for an answer, which nobody has to guess.
fn new_id(prefix: &str) -> String {
    format!("{prefix}-{:032x}", fastrand::u128(..))
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// What a plugin that declares a task answered beside what it declared.
fn broken(servable: &Servable, reason: &str) -> ApiError {
    ApiError::new(ErrorCode::PluginFailed, format!("model {}: {reason}", servable.model()))
}

#[cfg(test)]
mod tests {
    use modelhost_core::VersionNumber;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_may_be_a_version() {
        let parsed = |text: &str| parse_model(text).map(|(name, selector)| (name.to_string(), selector));
        assert_eq!(parsed("m").unwrap(), ("m".to_owned(), VersionSelector::Deployed));
        assert_eq!(parsed("m@3").unwrap().1, VersionSelector::Number(VersionNumber(3)));
        assert!(matches!(parsed("m@best").unwrap().1, VersionSelector::Alias(_)));
        for bad in ["", "@3", "m@", "m@99999999999999999999", "a b", "m@a@b"] {
            assert_eq!(parsed(bad).unwrap_err().code, ErrorCode::NotFound, "{bad}");
        }
    }

    #[test]
    fn tokens_are_no_texts() {
        let said = |value: Value| texts("prompt", Some(value)).unwrap_err().to_string();
        assert!(said(json!([1, 2])).contains("holds tokens"));
        assert!(said(json!([[1, 2]])).contains("holds tokens"));
        assert!(said(json!([])).contains("must be a string"));
        assert!(texts("prompt", None).is_err());
        assert_eq!(texts("prompt", Some(json!(["a", "b"]))).unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_asks_for_nothing_is_no_obstacle() {
        let check = |fields: Value| {
            let Value::Object(fields) = fields else { panic!("no object") };
            refuse_unsupported(&fields, &[]).map_err(|error| error.to_string())
        };
        let harmless = json!({
            "n": 1, "presence_penalty": 0.0, "logprobs": false, "tools": [], "logit_bias": {},
            "response_format": {"type": "text"}, "user": "ada", "store": true,
        });
        assert_eq!(check(harmless), Ok(()));
        for bad in [json!({"n": 2}), json!({"logprobs": 3}), json!({"tools": [{}]}), json!({"echo": true})] {
            assert!(check(bad).unwrap_err().contains("is not supported"));
        }
    }
}
