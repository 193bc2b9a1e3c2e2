//! What completions and chats have in common: parameters for the plugin, and its responses as pieces of text.

use futures_util::{Stream, StreamExt as _, stream};
use modelhost_core::Parameter;
use modelhost_serving::{NamedTensors, Servable, Task};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{flag, new_id, now, numbers, refused, total};
use crate::error::ApiError;

/// Sequences at which a text may end, as in the API.
const MAX_STOPS: usize = 4;

/// How the answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) is_stream: bool,
    /// Whether the stream ends with what was used.
    pub(super) includes_usage: bool,
}

/// Who answers, and when it began. Each API writes it in its own way.
pub(super) struct Heading {
    pub(super) id: String,
    pub(super) model: String,
    /// Seconds since 1970.
    pub(super) created: u64,
}

impl Heading {
    /// Of an answer that begins now. `prefix` says of what kind it is.
    pub(super) fn new(prefix: &str, model: String) -> Heading {
        Heading { id: new_id(prefix), model, created: now() }
    }
}

/// What was read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) total_tokens: u64,
}

impl Usage {
    pub(super) fn of(outputs: &NamedTensors) -> Usage {
        Usage::default().and(outputs)
    }

    /// With one more response. Each says how long the prompt was, and what it adds itself.
    pub(super) fn and(self, outputs: &NamedTensors) -> Usage {
        let prompt_tokens = self.prompt_tokens.max(total(outputs, "prompt_tokens"));
        let completion_tokens = self.completion_tokens + total(outputs, "completion_tokens");
        Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// A text, or the next piece of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Why it ends here, if it does.
    pub(super) finish_reason: Option<String>,
}

/// The texts of a response, one a row.
pub(super) fn pieces(outputs: &NamedTensors) -> Vec<Piece> {
    let column = |name: &str| -> Vec<String> {
        let found = outputs.iter().find(|(known, _)| known == name);
        // A signature with these names has them as BYTES.
        let elements = found
            .filter(|(_, tensor)| tensor.datatype() == modelhost_core::Datatype::Bytes)
            .map(|(_, tensor)| tensor.bytes_elements());
        elements.into_iter().flatten().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    };
    let mut reasons = column("finish_reason").into_iter();
    let piece = |text| Piece { text, finish_reason: reasons.next().filter(|reason| !reason.is_empty()) };
    column("text_output").into_iter().map(piece).collect()
}

/// How many rows a response counts tokens for, to tell a broken plugin by.
pub(super) fn is_of_rows(outputs: &NamedTensors, rows: usize) -> bool {
    let counts = numbers(outputs, "completion_tokens").len();
    pieces(outputs).len() == rows && (counts == 0 || counts == rows)
}

/// The parameters that the plugin is given.
pub(super) fn parameters(
    task: Task,
    fields: &mut Map<String, Value>,
) -> Result<Vec<(String, Parameter)>, ApiError> {
    let mut parameters = vec![("task".to_owned(), Parameter::Text(task.as_str().to_owned()))];
    // The newer name goes before the older one.
    let (old, new) = (fields.remove("max_tokens"), fields.remove("max_completion_tokens"));
    if let Some(most) = new.or(old) {
        let most = most.as_i64().filter(|most| *most >= 1);
        let most = most.ok_or_else(|| refused("max_tokens", "must be a whole number from 1 up"))?;
        parameters.push(("max_tokens".to_owned(), Parameter::Integer(most)));
    }
    for (field, largest) in [("temperature", 2.0), ("top_p", 1.0)] {
        if let Some(value) = fields.remove(field) {
            let value = value.as_f64().filter(|value| (0.0..=largest).contains(value));
            let value =
                value.ok_or_else(|| refused(field, &format!("must be a number from 0 to {largest}")))?;
            parameters.push((field.to_owned(), Parameter::Number(value)));
        }
    }
    if let Some(seed) = fields.remove("seed") {
        let seed = seed.as_i64().ok_or_else(|| refused("seed", "must be a whole number"))?;
        parameters.push(("seed".to_owned(), Parameter::Integer(seed)));
    }
    for stop in stops(fields.remove("stop"))? {
        parameters.push(("stop".to_owned(), Parameter::Text(stop)));
    }
    Ok(parameters)
}

fn stops(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let stops = match value {
        Value::Array(stops) if stops.is_empty() => return Ok(Vec::new()),
        value => super::texts("stop", Some(value))?,
    };
    if stops.len() > MAX_STOPS || stops.iter().any(String::is_empty) {
        return Err(refused("stop", &format!("must be up to {MAX_STOPS} strings, none of them empty")));
    }
    Ok(stops)
}

/// How the client wants its answer.
pub(super) fn delivery(fields: &Map<String, Value>) -> Result<Delivery, ApiError> {
    let is_stream = flag(fields, "stream")?;
    let options = match fields.get("stream_options") {
        None => None,
        Some(Value::Object(options)) if is_stream => Some(options),
        Some(_) => {
            return Err(refused("stream_options", "must be an object, and only with \"stream\": true"));
        }
    };
    let includes_usage = options.map_or(Ok(false), |options| flag(options, "include_usage"))?;
    Ok(Delivery { is_stream, includes_usage })
}

/// What happens in a stream.
#[derive(Debug)]
pub(super) enum Step {
    /// More text.
    Piece(Piece),
    /// The end, and what was used.
    End(Usage),
    /// The end, and why.
    Failed(ApiError),
}

/// The steps of a stream of responses for one text. The last piece says why it ends, in its own step.
fn steps<S>(servable: &Servable, responses: S) -> impl Stream<Item = Step> + Send + use<S>
where
    S: Stream<Item = Result<NamedTensors, modelhost_serving::Error>> + Send + Unpin + 'static,
{
    let model = servable.model().clone();
    let state = (responses, Usage::default(), false, false);
    stream::unfold(state, move |(mut responses, usage, has_reason, has_ended)| {
        let model = model.clone();
        async move {
            if has_ended {
                return None;
            }
            let step = match responses.next().await {
                // A plugin that says nothing about it has come to an end of its own.
                None if !has_reason => {
                    let end = Piece { text: String::new(), finish_reason: Some("stop".to_owned()) };
                    return Some((Step::Piece(end), (responses, usage, true, false)));
                }
                None => Step::End(usage),
                Some(Err(error)) => Step::Failed(error.into()),
                Some(Ok(outputs)) if is_of_rows(&outputs, 1) => {
                    let (usage, piece) = (usage.and(&outputs), pieces(&outputs).pop()?);
                    let has_reason = has_reason || piece.finish_reason.is_some();
                    return Some((Step::Piece(piece), (responses, usage, has_reason, false)));
                }
                Some(Ok(_)) => Step::Failed(ApiError::new(
                    modelhost_core::ErrorCode::PluginFailed,
                    format!("model {model}: a response does not hold exactly one text"),
                )),
            };
            Some((step, (responses, usage, has_reason, true)))
        }
    })
}

/// The same where the first of them is no failure, which is an answer of its own.
///
/// # Errors
/// That failure.
pub(super) async fn begun<S>(
    servable: &Servable,
    responses: S,
) -> Result<impl Stream<Item = Step> + Send + use<S>, ApiError>
where
    S: Stream<Item = Result<NamedTensors, modelhost_serving::Error>> + Send + Unpin + 'static,
{
    let mut steps = Box::pin(steps(servable, responses));
    match steps.next().await {
        Some(Step::Failed(error)) => Err(error),
        first => Ok(stream::iter(first).chain(steps)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("no object") };
        object
    }

    #[test]
    fn parameters_are_named_as_in_the_api() {
        let mut fields = object(json!({
            "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0, "top_p": 0.5, "seed": -1, "stop": ["a", "b"],
        }));
        let parameters = parameters(Task::Chat, &mut fields).unwrap();
        let text = |text: &str| Parameter::Text(text.to_owned());
        let expected = [
            ("task", text("chat")),
            ("max_tokens", Parameter::Integer(7)),
            ("temperature", Parameter::Number(0.0)),
            ("top_p", Parameter::Number(0.5)),
            ("seed", Parameter::Integer(-1)),
            ("stop", text("a")),
            ("stop", text("b")),
        ];
        assert_eq!(parameters, expected.map(|(name, value)| (name.to_owned(), value)));
        for bad in [
            json!({"max_tokens": 0}),
            json!({"temperature": 2.5}),
            json!({"temperature": "hot"}),
            json!({"top_p": -0.1}),
            json!({"seed": 0.5}),
            json!({"stop": ["a", "b", "c", "d", "e"]}),
            json!({"stop": ""}),
        ] {
            assert!(super::parameters(Task::Chat, &mut object(bad.clone())).is_err(), "{bad}");
        }
    }

    #[test]
    fn usage_is_asked_for_in_streams() {
        let of = |fields: Value| delivery(&object(fields));
        let asked = of(json!({"stream": true, "stream_options": {"include_usage": true}})).unwrap();
        assert_eq!(asked, Delivery { is_stream: true, includes_usage: true });
        assert!(of(json!({"stream_options": {"include_usage": true}})).is_err());
        assert!(of(json!({"stream": "yes"})).is_err());
    }
}
