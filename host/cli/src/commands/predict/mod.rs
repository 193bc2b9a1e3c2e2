//! `predict`: from typed values to an inference request, and from its answer to rows.

mod inputs;
mod outputs;
mod request;

use clap::Args;
use modelhost_core::{ModelName, TensorDescription};
use serde::Deserialize;

use self::inputs::Input;
use self::request::Parameter;
use super::{Session, selector};
use crate::failure::Failure;

/// Which model, and what it is asked.
#[derive(Debug, Args)]
#[command(after_help = "\
Inputs:
  --input age=[39,52]         values as JSON; datatype and shape are the model's
  --input text=hello          text needs no quotes where the model takes BYTES
  --input image=@pixels.json  the same from a file
  --input @request.json       a whole request of the Open Inference Protocol; - reads it from standard input")]
pub struct Predict {
    /// The model
    model: ModelName,
    /// Ask this version instead of the deployed one: a number or an alias
    #[arg(long, value_parser = selector)]
    version: Option<String>,
    /// An input tensor, or a whole request; may be repeated
    #[arg(long = "input", required = true, value_name = "NAME=JSON|NAME=@FILE|@FILE|-")]
    inputs: Vec<Input>,
    /// A parameter of the request: a number, true, false or text; may be repeated
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct ModelMetadata {
    inputs: Vec<TensorDescription>,
}

/// Asks, and shows the outputs.
///
/// # Errors
/// Values that do not fit the model, and everything that the host says no to.
pub fn run(arguments: &Predict, session: &Session) -> Result<(), Failure> {
    let mut path = format!("/v2/models/{}", arguments.model);
    if let Some(version) = &arguments.version {
        path.push_str("/versions/");
        path.push_str(version);
    }
    let request = match arguments.inputs.as_slice() {
        [Input::Request(source)] => request::with_parameters(source.read()?, &arguments.parameters)?,
        inputs => {
            let metadata: ModelMetadata = session.client.get(&path)?.read()?;
            request::of_tensors(&inputs::tensors(inputs, &metadata.inputs)?, &arguments.parameters)?
        }
    };
    let answer = session.client.post_text(&format!("{path}/infer"), &request)?;
    session.show(&answer, outputs::describe)
}
