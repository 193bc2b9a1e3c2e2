//! Turns texts into numbers such that those of similar texts are near each other: 64 for each, of length one.

mod words;

use modelhost_guest::{
    ANY, Datatype, Element, Error, Graph, Plugin, Request, Response, Signature, Tensor, declare_task,
    embed_graph, embed_sample, export,
};

use crate::words::Words;

embed_graph!("similarity", "model.onnx");
embed_sample!("example", "example.json");
declare_task!("feature-extraction");

const DIMENSIONS: usize = 64;

/// One long text makes all rows that go through the network with it as wide.
const TEXTS_AT_A_TIME: usize = 64;

/// The plugin.
pub struct Similarity;

export!(Similarity);

impl Plugin for Similarity {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new()
            .input("text_input", Datatype::Bytes, [ANY])
            .output("embedding", Datatype::Fp32, [ANY, DIMENSIONS as i64])
            .output("prompt_tokens", Datatype::Int64, [ANY]))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        let graph = Graph::load("similarity")?;
        answer(&request, |ids, weights| {
            graph.compute([("ids", ids), ("weights", weights)])?.take("embedding")
        })
    }
}

/// Answers a request with a network that makes FP32 `[rows, 64]` of the buckets of each text, INT64 `[rows, words]`, and
/// their weights, FP32 `[rows, words]`.
///
/// # Errors
/// Invalid input where a text is not UTF-8; those of the network.
pub fn answer(
    request: &Request,
    network: impl Fn(Tensor, Tensor) -> Result<Tensor, Error>,
) -> Result<Response, Error> {
    let texts = request.input("text_input")?.strings()?;
    let mut numbers = Vec::with_capacity(texts.len() * DIMENSIONS);
    let mut counts = Vec::with_capacity(texts.len());
    for texts in texts.chunks(TEXTS_AT_A_TIME) {
        let rows: Vec<Words> = texts.iter().map(|text| Words::of(text)).collect();
        let ids = padded(&rows, |(bucket, _)| i64::from(bucket))?;
        let weights = padded(&rows, |(_, weight)| weight)?;
        numbers.extend_from_slice(network(ids, weights)?.as_slice::<f32>()?);
        counts.extend(rows.iter().map(|words| words.count as i64));
    }
    Ok(Response::new([
        ("embedding", Tensor::new([texts.len(), DIMENSIONS], numbers)?),
        ("prompt_tokens", Tensor::column(counts)),
    ]))
}

/// A row for each text, as wide as the longest needs. Weight 0 leaves bucket 0 without effect.
fn padded<T: Element + Default>(rows: &[Words], value: impl Fn((u32, f32)) -> T) -> Result<Tensor, Error> {
    let width = rows.iter().map(|words| words.features.len()).max().unwrap_or(0).max(1);
    let mut elements = Vec::with_capacity(rows.len() * width);
    for (index, row) in rows.iter().enumerate() {
        elements.extend(row.features.iter().copied().map(&value));
        elements.resize((index + 1) * width, T::default());
    }
    Tensor::new([rows.len(), width], elements)
}
