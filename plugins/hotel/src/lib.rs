//! Says what a night of a hotel booking costs, and between which two prices it lies four times in five: raw columns
//! in, euros out. `README.md` says what the model may not be used for.

mod parameters;
mod preprocess;

use modelhost_guest::{
    ANY, Datatype, Error, Graph, Plugin, Request, Response, Signature, Tensor, embed_graph, embed_sample,
    export,
};

use crate::parameters::{CATEGORICAL, DATE, NUMERIC};
use crate::preprocess::features;

embed_graph!("hotel", "model.onnx");
embed_sample!("example", "example.json");

/// Of the network: logarithms of the low price, the likely one and the high one.
const COLUMNS: usize = 3;

/// The plugin.
pub struct Hotel;

export!(Hotel);

impl Plugin for Hotel {
    fn signature() -> Result<Signature, Error> {
        let numbers = NUMERIC.iter().map(|name| (*name, Datatype::Fp32));
        let names = CATEGORICAL.iter().map(|column| (column.name, Datatype::Bytes));
        let inputs = numbers.chain([(DATE, Datatype::Bytes)]).chain(names);
        let inputs = inputs.fold(Signature::new(), |all, (name, datatype)| all.input(name, datatype, [ANY]));
        let outputs = ["rate", "low", "high"];
        Ok(outputs.into_iter().fold(inputs, |all, name| all.output(name, Datatype::Fp32, [ANY])))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        answer(&request, |features| {
            Graph::load("hotel")?.compute([("features", features)])?.take("logarithms")
        })
    }
}

/// Answers a request with a network that makes FP32 `[rows, 3]` (logarithms of prices) of the features.
///
/// # Errors
/// Invalid input where the columns differ in length, hold something else than text, or a date is none; those of the
/// network.
pub fn answer(
    request: &Request,
    network: impl FnOnce(Tensor) -> Result<Tensor, Error>,
) -> Result<Response, Error> {
    let features = features(request)?;
    if features.shape().first() == Some(&0) {
        return Ok(respond(&[]));
    }
    Ok(respond(network(features)?.as_slice()?))
}

/// Each price was learnt alone, so they may cross a little: the likely one is then an end of the range.
fn respond(logarithms: &[f32]) -> Response {
    let price = |column| logarithms.iter().skip(column).step_by(COLUMNS).map(|x| f64::from(*x).exp() as f32);
    let low = price(0).zip(price(1)).map(|(low, rate)| low.min(rate));
    let high = price(2).zip(price(1)).map(|(high, rate)| high.max(rate));
    Response::new([
        ("rate", Tensor::column(price(1))),
        ("low", Tensor::column(low)),
        ("high", Tensor::column(high)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(response: &Response, name: &str) -> Vec<f32> {
        response.output(name).unwrap().as_slice().unwrap().to_vec()
    }

    #[test]
    fn the_range_holds_the_rate() {
        let ln = |price: f32| price.ln();
        let response = respond(&[ln(50.0), ln(60.0), ln(80.0), ln(90.0), ln(70.0), ln(65.0)]);
        let near = |found: Vec<f32>, expected: [f32; 2]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3), "{found:?}");
        };
        near(column(&response, "rate"), [60.0, 70.0]);
        near(column(&response, "low"), [50.0, 70.0]);
        near(column(&response, "high"), [80.0, 70.0]);
    }

    #[test]
    fn no_rows_are_answered_without_the_network() {
        let empty = Hotel::signature().unwrap().inputs.into_iter().map(|input| match input.datatype {
            Datatype::Fp32 => (input.name, Tensor::column::<f32>([])),
            _ => (input.name, Tensor::string_column::<&str>([]).unwrap()),
        });
        let response = answer(&Request::new(empty), |_| panic!("asked for nothing")).unwrap();
        assert_eq!(response.output("rate").unwrap().shape(), [0]);
    }
}
