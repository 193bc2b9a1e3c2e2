//! Goes on with a text, token by token, as Jane Austen might have: a small language model. Answers with the whole text, or
//! with each piece as it is written.

mod chat;
mod emission;
mod generation;
mod sampling;
mod tokens;

use modelhost_guest::{
    ANY, Datatype, Error, Graph, Parameters, Plugin, Request, Response, Responses, Signature,
    StreamingPlugin, Tensor, declare_task, embed_graph, embed_sample, export_streaming,
};

use crate::generation::Generation;
use crate::tokens::CONTEXT;

embed_graph!("novelist", "model.onnx");
embed_sample!("example", "example.json");
declare_task!("text-generation");
declare_task!("chat");

/// The plugin.
pub struct Novelist;

export_streaming!(Novelist);

impl Plugin for Novelist {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new()
            .input("text_input", Datatype::Bytes, [ANY])
            .output("text_output", Datatype::Bytes, [ANY])
            .output("finish_reason", Datatype::Bytes, [ANY])
            .output("prompt_tokens", Datatype::Int64, [ANY])
            .output("completion_tokens", Datatype::Int64, [ANY]))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        let graph = Graph::load("novelist")?;
        answer(&request, |tokens| graph.compute([("tokens", tokens)])?.take("logits"))
    }
}

impl StreamingPlugin for Novelist {
    fn predict_stream(request: Request, responses: &Responses<'_>) -> Result<(), Error> {
        let graph = Graph::load("novelist")?;
        stream(&request, responses, |tokens| graph.compute([("tokens", tokens)])?.take("logits"))
    }
}

/// Answers a request with a network that makes FP32 `[1, vocabulary]`, a score for each token that may come next, of INT64
/// `[1, context]`, the last tokens.
///
/// # Errors
/// Invalid input where a text is not UTF-8 or a parameter is out of its range; those of the network.
pub fn answer(
    request: &Request,
    network: impl Fn(Tensor) -> Result<Tensor, Error>,
) -> Result<Response, Error> {
    let mut rows = Rows::default();
    for text in request.input("text_input")?.strings()? {
        let mut generation = begin(text, request.parameters())?;
        let mut row = Row { prompt_tokens: generation.prompt_tokens, ..Row::default() };
        while row.finish_reason.is_none() {
            row.add(generation.step(|window| scores(&network, window))?);
        }
        rows.0.push(row);
    }
    rows.into_response()
}

/// Answers a request for one text with a response for each piece of it. Each says how many tokens it stands for.
///
/// # Errors
/// The same, and invalid input where there is not exactly one text.
pub fn stream(
    request: &Request,
    responses: &Responses<'_>,
    network: impl Fn(Tensor) -> Result<Tensor, Error>,
) -> Result<(), Error> {
    let texts = request.input("text_input")?.strings()?;
    let [text] = texts[..] else {
        let message = format!("input \"text_input\" has {} texts: a stream answers one", texts.len());
        return Err(Error::invalid_input(message));
    };
    let mut generation = begin(text, request.parameters())?;
    let prompt_tokens = generation.prompt_tokens;
    let mut row = Row { prompt_tokens, ..Row::default() };
    loop {
        row.add(generation.step(|window| scores(&network, window))?);
        let has_ended = row.finish_reason.is_some();
        if has_ended || !row.text.is_empty() {
            let piece = std::mem::replace(&mut row, Row { prompt_tokens, ..Row::default() });
            responses.send(Rows(vec![piece]).into_response()?)?;
        }
        if has_ended {
            return Ok(());
        }
    }
}

fn begin(text: &str, parameters: &Parameters) -> Result<Generation, Error> {
    if parameters.text("task")? == Some("chat") {
        return Generation::new(chat::prompt(text)?.as_bytes(), &chat::STOPS, parameters);
    }
    Generation::new(text.as_bytes(), &[], parameters)
}

fn scores(
    network: impl Fn(Tensor) -> Result<Tensor, Error>,
    window: &[i64; CONTEXT],
) -> Result<Vec<f32>, Error> {
    let logits = network(Tensor::new([1, CONTEXT], window.to_vec())?)?;
    Ok(logits.as_slice::<f32>()?.to_vec())
}

/// What was written of one text.
#[derive(Default)]
struct Row {
    text: String,
    finish_reason: Option<&'static str>,
    prompt_tokens: usize,
    completion_tokens: usize,
}

impl Row {
    fn add(&mut self, step: generation::Step) {
        self.text.push_str(&step.text);
        self.completion_tokens += step.tokens;
        self.finish_reason = step.finish_reason;
    }
}

#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn into_response(self) -> Result<Response, Error> {
        let count = |count: fn(&Row) -> usize| self.0.iter().map(move |row| count(row) as i64);
        Ok(Response::new([
            ("text_output", Tensor::string_column(self.0.iter().map(|row| row.text.as_str()))?),
            (
                "finish_reason",
                Tensor::string_column(self.0.iter().map(|row| row.finish_reason.unwrap_or_default()))?,
            ),
            ("prompt_tokens", Tensor::column(count(|row| row.prompt_tokens))),
            ("completion_tokens", Tensor::column(count(|row| row.completion_tokens))),
        ]))
    }
}
