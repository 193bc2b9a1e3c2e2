//! Says whether the text of an English mail is spam: UTF-8 in, label and probability out.

mod features;
mod parameters;

use modelhost_guest::{
    ANY, Datatype, Element, Error, Graph, Plugin, Request, Response, Signature, Tensor, embed_graph, export,
};

use crate::features::{Feature, features};
use crate::parameters::{LABELS, THRESHOLD};

embed_graph!("spam", "model.onnx");

/// The plugin.
pub struct Spam;

export!(Spam);

impl Plugin for Spam {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new()
            .input("text", Datatype::Bytes, [ANY])
            .output("label", Datatype::Bytes, [ANY])
            .output("probability", Datatype::Fp32, [ANY]))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        answer(&request, |ids, weights| {
            let inputs = [("ids", ids), ("weights", weights)];
            Graph::load("spam")?.compute(inputs)?.take("probability")
        })
    }
}

/// Answers a request with a network that makes FP32 `[rows]` (the probability of spam) of the buckets of each text,
/// INT64 `[rows, tokens]`, and their weights, FP32 `[rows, tokens]`.
///
/// # Errors
/// Invalid input where a text is not UTF-8; those of the network.
pub fn answer(
    request: &Request,
    network: impl FnOnce(Tensor, Tensor) -> Result<Tensor, Error>,
) -> Result<Response, Error> {
    let texts = request.input("text")?.strings()?;
    if texts.is_empty() {
        return respond(Tensor::column::<f32>([]));
    }
    let rows: Vec<Vec<Feature>> = texts.into_iter().map(features).collect();
    let ids = padded(&rows, |feature| i64::from(feature.bucket))?;
    let weights = padded(&rows, |feature| feature.weight)?;
    respond(network(ids, weights)?)
}

/// A row for each text, as wide as the longest needs. Zeros fill the shorter ones: weight 0 leaves bucket 0 without
/// effect.
fn padded<T: Element + Default>(
    rows: &[Vec<Feature>],
    value: impl Fn(&Feature) -> T,
) -> Result<Tensor, Error> {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let mut elements = Vec::with_capacity(rows.len() * width);
    for (index, row) in rows.iter().enumerate() {
        elements.extend(row.iter().map(&value));
        elements.resize((index + 1) * width, T::default());
    }
    Tensor::new([rows.len(), width], elements)
}

fn respond(probability: Tensor) -> Result<Response, Error> {
    let label = |probability: &f32| LABELS[usize::from(*probability > THRESHOLD)];
    let label = Tensor::string_column(probability.as_slice()?.iter().map(label))?;
    Ok(Response::new([("label", label), ("probability", probability)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_rows_are_filled_with_zeros() {
        let rows = [features("free money"), features(""), features("free")];
        let weights = padded(&rows, |feature| feature.weight).unwrap();
        assert_eq!(weights.shape(), [3, 3]);
        assert_eq!(weights.as_slice::<f32>().unwrap()[3..], [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(padded(&[Vec::new()], |feature| feature.weight).unwrap().shape(), [1, 1]);
    }

    #[test]
    fn a_text_that_is_not_utf8_is_refused_before_the_network_runs() {
        let text = Tensor::string_column([&b"fine"[..], b"\xff"]).unwrap();
        let error = answer(&Request::new([("text", text)]), |_, _| panic!("the network ran")).unwrap_err();
        assert_eq!(error, Error::invalid_input("tensor \"text\" row 1 is not UTF-8: expected text"));
    }
}
