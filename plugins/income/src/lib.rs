//! Says for a person of the 1994 United States census whether the yearly income is over 50,000 dollars: raw columns
//! in, label and probability out. `README.md` says what the model may not be used for.

mod parameters;
mod preprocess;

use modelhost_guest::{
    ANY, Datatype, Error, Graph, Plugin, Request, Response, Signature, Tensor, embed_graph, embed_sample,
    export,
};

use crate::parameters::{CATEGORICAL, LABELS, NUMERIC, THRESHOLD};
use crate::preprocess::features;

embed_graph!("income", "model.onnx");
embed_sample!("example", "example.json");

/// The plugin.
pub struct Income;

export!(Income);

impl Plugin for Income {
    fn signature() -> Result<Signature, Error> {
        let numbers = NUMERIC.iter().map(|column| (column.name, Datatype::Fp32));
        let names = CATEGORICAL.iter().map(|column| (column.name, Datatype::Bytes));
        let inputs = numbers.chain(names);
        let inputs = inputs.fold(Signature::new(), |all, (name, datatype)| all.input(name, datatype, [ANY]));
        Ok(inputs.output("label", Datatype::Bytes, [ANY]).output("probability", Datatype::Fp32, [ANY]))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        answer(&request, |features| {
            Graph::load("income")?.compute([("features", features)])?.take("probabilities")
        })
    }
}

/// Answers a request with a network that makes FP32 `[rows, 2]` (the probabilities of both labels) of the features.
///
/// # Errors
/// Invalid input where the columns differ in length or hold something else than text; those of the network.
pub fn answer(
    request: &Request,
    network: impl FnOnce(Tensor) -> Result<Tensor, Error>,
) -> Result<Response, Error> {
    let features = features(request)?;
    if features.shape().first() == Some(&0) {
        return respond(&[]);
    }
    respond(network(features)?.as_slice()?)
}

fn respond(probabilities: &[f32]) -> Result<Response, Error> {
    let over = || probabilities.iter().copied().skip(1).step_by(LABELS.len());
    let label =
        Tensor::string_column(over().map(|probability| LABELS[usize::from(probability > THRESHOLD)]))?;
    Ok(Response::new([("label", label), ("probability", Tensor::column(over()))]))
}
