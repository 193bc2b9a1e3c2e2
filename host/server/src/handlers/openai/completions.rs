//! `POST /v1/completions`: goes on with a text, or with each of several.

use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use modelhost_serving::{RequestOptions, Task};
use serde::Serialize;
use serde_json::Value;

use super::generation::{Heading, Piece, Step, Usage, begun, delivery, is_of_rows, parameters, pieces};
use super::{Asked, broken, read, refuse_unsupported, refused, text_input, texts};
use crate::error::ApiError;
use crate::events;
use crate::reply::{Reply, json};
use crate::service::Call;

const EXPECTED: &str = "a request such as {\"model\": \"novelist\", \"prompt\": \"Once\", \"max_tokens\": 8}";

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    text: String,
    logprobs: Value,
    finish_reason: Option<String>,
}

impl Choice {
    fn new(index: usize, piece: Piece) -> Choice {
        Choice { index, text: piece.text, logprobs: Value::Null, finish_reason: piece.finish_reason }
    }
}

impl Heading {
    fn with(&self, choices: Vec<Choice>, usage: Option<Option<Usage>>) -> Completion<'_> {
        let Heading { id, model, created } = self;
        Completion { id, object: "text_completion", created: *created, model, choices, usage }
    }
}

/// Answers a request.
pub(crate) async fn completions(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let Asked { servable, model, mut fields, _reservation } =
        read(call, Task::TextGeneration, EXPECTED).await?;
    refuse_unsupported(&fields, &[])?;
    let delivery = delivery(&fields)?;
    let parameters = parameters(Task::TextGeneration, &mut fields)?;
    let prompts = texts("prompt", fields.remove("prompt"))?;
    let heading = Heading::new("cmpl", model);
    let inputs = text_input(&prompts)?;
    if !delivery.is_stream {
        let outputs = servable.infer(inputs, parameters, RequestOptions::default()).await?;
        if !is_of_rows(&outputs, prompts.len()) {
            return Err(broken(&servable, "the answer does not hold a text for each prompt"));
        }
        let ended = |piece: Piece| Piece {
            finish_reason: piece.finish_reason.or_else(|| Some("stop".to_owned())),
            ..piece
        };
        let choices = pieces(&outputs).into_iter().map(ended).enumerate();
        let choices = choices.map(|(index, piece)| Choice::new(index, piece)).collect();
        return Ok(json(StatusCode::OK, &heading.with(choices, Some(Some(Usage::of(&outputs))))));
    }
    if prompts.len() > 1 {
        return Err(refused("prompt", "must be a single text where the answer is streamed"));
    }
    let responses = servable.infer_stream(inputs, parameters, RequestOptions::default());
    let steps = begun(&servable, responses).await?;
    let no_usage = delivery.includes_usage.then_some(None);
    let events = steps.flat_map(move |step| {
        let events = match step {
            Step::Piece(piece) => {
                vec![events::event(&heading.with(vec![Choice::new(0, piece)], no_usage))]
            }
            Step::End(usage) => {
                let usage = delivery
                    .includes_usage
                    .then(|| events::event(&heading.with(Vec::new(), Some(Some(usage)))));
                usage.into_iter().chain([events::DONE]).collect()
            }
            Step::Failed(error) => vec![events::event(&error.openai_body())],
        };
        stream::iter(events)
    });
    Ok(events::reply(events))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn usage_is_there_null_or_left_out() {
        let heading = Heading { id: "cmpl-1".into(), model: "m@3".into(), created: 5 };
        let piece = || Piece { text: "a".into(), finish_reason: None };
        let choices = || vec![Choice::new(0, piece())];
        let written = |usage| serde_json::to_value(heading.with(choices(), usage)).unwrap();
        let expected = json!({
            "id": "cmpl-1", "object": "text_completion", "created": 5, "model": "m@3",
            "choices": [{"index": 0, "text": "a", "logprobs": null, "finish_reason": null}],
        });
        assert_eq!(written(None), expected);
        assert_eq!(written(Some(None))["usage"], Value::Null);
        assert_eq!(written(Some(Some(Usage::default())))["usage"]["total_tokens"], 0);
    }
}
