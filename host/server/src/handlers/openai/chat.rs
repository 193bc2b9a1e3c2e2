//! `POST /v1/chat/completions`: the next message of a conversation. How a conversation becomes a prompt is the
//! plugin's to say: it gets the messages as JSON.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use modelhost_serving::{RequestOptions, Task};
use serde::Serialize;
use serde_json::{Value, json};

use super::generation::{Heading, Step, Usage, begun, delivery, is_of_rows, parameters, pieces};
use super::{Asked, broken, read, refuse_unsupported, refused, text_input};
use crate::error::ApiError;
use crate::events;
use crate::reply::{Reply, json};
use crate::service::Call;

const EXPECTED: &str = "a request such as {\"model\": \"novelist\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}";

/// Messages of one conversation.
const MAX_MESSAGES: usize = 4_096;

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Message {
    role: String,
    content: String,
}

impl Heading {
    fn completion(&self, text: &str, finish_reason: Option<&str>, usage: Usage) -> Value {
        let message = json!({ "role": "assistant", "content": text, "refusal": null });
        let choice = json!({
            "index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason.unwrap_or("stop"),
        });
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [choice], "usage": usage,
        })
    }

    /// `usage` is left out, null or there.
    fn chunk(&self, choices: &[Value], usage: Option<Option<Usage>>) -> Bytes {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            chunk["usage"] = json!(usage);
        }
        events::event(&chunk)
    }
}

fn choice(delta: Value, finish_reason: Option<&str>) -> Value {
    json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason })
}

/// Answers a request.
pub(crate) async fn chat(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let Asked { servable, model, mut fields, _reservation } = read(call, Task::Chat, EXPECTED).await?;
    refuse_unsupported(&fields, &[])?;
    let delivery = delivery(&fields)?;
    let parameters = parameters(Task::Chat, &mut fields)?;
    let messages = messages(fields.remove("messages"))?;
    let conversation = serde_json::to_string(&messages)
        .map_err(|error| ApiError::internal(format!("messages cannot be written: {error}")))?;
    let inputs = text_input(&[conversation])?;
    let heading = Heading::new("chatcmpl", model);
    if !delivery.is_stream {
        let outputs = servable.infer(inputs, parameters, RequestOptions::default()).await?;
        let Some(piece) = pieces(&outputs).pop().filter(|_| is_of_rows(&outputs, 1)) else {
            return Err(broken(&servable, "the answer does not hold exactly one text"));
        };
        let completion = heading.completion(&piece.text, piece.finish_reason.as_deref(), Usage::of(&outputs));
        return Ok(json(StatusCode::OK, &completion));
    }
    let responses = servable.infer_stream(inputs, parameters, RequestOptions::default());
    let steps = begun(&servable, responses).await?;
    let no_usage = delivery.includes_usage.then_some(None);
    let opening = heading.chunk(&[choice(json!({ "role": "assistant", "content": "" }), None)], no_usage);
    let rest = steps.flat_map(move |step| {
        let events = match step {
            Step::Piece(piece) => {
                // The reason comes in a piece of its own, without text.
                let text = (!piece.text.is_empty()).then(|| choice(json!({ "content": piece.text }), None));
                let end = piece.finish_reason.map(|reason| choice(json!({}), Some(&reason)));
                text.into_iter().chain(end).map(|choice| heading.chunk(&[choice], no_usage)).collect()
            }
            Step::End(usage) => {
                let usage = delivery.includes_usage.then(|| heading.chunk(&[], Some(Some(usage))));
                usage.into_iter().chain([events::DONE]).collect()
            }
            Step::Failed(error) => vec![events::event(&error.openai_body())],
        };
        stream::iter(events)
    });
    Ok(events::reply(stream::iter([opening]).chain(rest)))
}

fn messages(value: Option<Value>) -> Result<Vec<Message>, ApiError> {
    match value {
        Some(Value::Array(messages)) if (1..=MAX_MESSAGES).contains(&messages.len()) => {
            messages.into_iter().map(message).collect()
        }
        _ => Err(refused("messages", &format!("must be a list of 1 to {MAX_MESSAGES} messages"))),
    }
}

fn message(message: Value) -> Result<Message, ApiError> {
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
    let role = match role {
        // The newer word for the same.
        "developer" => "system",
        "system" | "user" | "assistant" => role,
        _ => return Err(refused("messages", "must each have the role system, user or assistant")),
    };
    let content = match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(part).collect::<Result<_, ApiError>>()?,
        _ => return Err(refused("messages", "must each have a content: a text, or parts that are texts")),
    };
    Ok(Message { role: role.to_owned(), content })
}

fn part(part: &Value) -> Result<&str, ApiError> {
    let text = part.get("text").and_then(Value::as_str).filter(|_| part["type"] == "text");
    text.ok_or_else(|| refused("messages", "may have parts of the type text only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_texts_with_a_role() {
        let given = json!([
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
        ]);
        let read = messages(Some(given)).unwrap();
        let written = serde_json::to_value(read).unwrap();
        let expected = json!([
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"},
        ]);
        assert_eq!(written, expected);
        for bad in [
            json!([]),
            json!("Hello"),
            json!([{"role": "tool", "content": "x"}]),
            json!([{"role": "user"}]),
            json!([{"role": "user", "content": [{"type": "image_url"}]}]),
        ] {
            assert!(messages(Some(bad.clone())).is_err(), "{bad}");
        }
    }
}
