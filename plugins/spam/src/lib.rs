//! Says whether the text of an English mail is spam: UTF-8 in, label and probability out.

mod features;
mod parameters;

use modelhost_guest::{
    ANY, Datatype, Element, Error, Graph, Plugin, Request, Response, Signature, Tensor, embed_graph,
    embed_sample, export,
};

use crate::features::{Feature, features};
use crate::parameters::{LABELS, THRESHOLD};

embed_graph!("spam", "model.onnx");
embed_sample!("example", "example.json");

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
        let graph = Graph::load("spam")?;
        answer(&request, |ids, weights| {
            graph.compute([("ids", ids), ("weights", weights)])?.take("probability")
        })
    }
}

/// One long text makes all rows that go through the network with it as wide: few enough that this costs at most
/// some megabytes, enough that a call of the network costs each of them little.
const TEXTS_AT_A_TIME: usize = 128;

/// Answers a request with a network that makes FP32 `[rows]` (the probability of spam) of the buckets of each text,
/// INT64 `[rows, tokens]`, and their weights, FP32 `[rows, tokens]`.
///
/// # Errors
/// Invalid input where a text is not UTF-8; those of the network.
pub fn answer(
    request: &Request,
    network: impl Fn(Tensor, Tensor) -> Result<Tensor, Error>,
) -> Result<Response, Error> {
    let texts = request.input("text")?.strings()?;
    let mut probabilities = Vec::with_capacity(texts.len());
    for texts in texts.chunks(TEXTS_AT_A_TIME) {
        let rows: Vec<Vec<Feature>> = texts.iter().map(|text| features(text)).collect();
        let ids = padded(&rows, |feature| i64::from(feature.bucket))?;
        let weights = padded(&rows, |feature| feature.weight)?;
        probabilities.extend_from_slice(network(ids, weights)?.as_slice::<f32>()?);
    }
    let label = |probability: &f32| LABELS[usize::from(*probability > THRESHOLD)];
    let label = Tensor::string_column(probabilities.iter().map(label))?;
    Ok(Response::new([("label", label), ("probability", Tensor::column(probabilities))]))
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
    fn a_large_batch_is_answered_in_parts_and_in_order() {
        let texts = (0..2 * TEXTS_AT_A_TIME + 1).map(|number| "free ".repeat(number));
        let request = Request::new([("text", Tensor::string_column(texts).unwrap())]);
        // As a network that says 1 for a text of one feature, and less for one with more.
        let first_weight = |_, weights: Tensor| {
            assert!(weights.shape()[0] <= TEXTS_AT_A_TIME);
            Ok(Tensor::column(weights.rows::<f32>()?.map(|row| row[0])))
        };
        let response = answer(&request, first_weight).unwrap();
        let labels = response.output("label").unwrap().strings().unwrap();
        let probabilities = response.output("probability").unwrap().as_slice::<f32>().unwrap();
        assert_eq!(labels.len(), 2 * TEXTS_AT_A_TIME + 1);
        assert_eq!((labels[0], probabilities[0]), ("ham", 0.0));
        assert_eq!((labels[1], probabilities[1]), ("spam", 1.0));
        assert!(probabilities[1..].is_sorted_by(|one, next| one > next), "{probabilities:?}");
    }

    #[test]
    fn no_texts_are_answered_without_the_network() {
        let text = Tensor::string_column::<&str>([]).unwrap();
        let response = answer(&Request::new([("text", text)]), |_, _| panic!("the network ran")).unwrap();
        assert_eq!(response.output("label").unwrap().shape(), [0]);
        assert_eq!(response.output("probability").unwrap().shape(), [0]);
    }

    #[test]
    fn a_text_that_is_not_utf8_is_refused_before_the_network_runs() {
        let text = Tensor::string_column([&b"fine"[..], b"\xff"]).unwrap();
        let error = answer(&Request::new([("text", text)]), |_, _| panic!("the network ran")).unwrap_err();
        assert_eq!(error, Error::invalid_input("tensor \"text\" row 1 is not UTF-8: expected text"));
    }
}
