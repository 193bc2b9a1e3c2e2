//! An inference request out of its message.

use bytes::Bytes;
use modelhost_core::{Datatype, InvalidTensor, MAX_RANK, Parameter, Tensor};
use modelhost_protocol::{DecodeError, InferRequest, RequestedOutput, shortened};

use crate::contents;
use crate::inference::infer_parameter::ParameterChoice;
use crate::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::inference::{InferParameter, ModelInferRequest};

/// Why a message is not an inference request. Every one is the client's mistake.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// What requests in JSON can get wrong as well.
    #[error(transparent)]
    Request(#[from] DecodeError),
    /// Raw contents for some inputs only.
    #[error(
        "raw_input_contents has {raw} entries for {inputs} inputs: expected one for each, or none at all"
    )]
    RawCount {
        /// How many inputs there are.
        inputs: usize,
        /// For how many of them there are raw contents.
        raw: usize,
    },
    /// Contents of both kinds.
    #[error("input {input:?} has contents: expected none, as raw_input_contents is there")]
    ContentsBesideRaw {
        /// The tensor.
        input: String,
    },
    /// FP16 or BF16.
    #[error(
        "input {input:?} has datatype {datatype}, which has no typed contents and travels in raw_input_contents"
    )]
    NoTypedForm {
        /// The tensor.
        input: String,
        /// Its datatype.
        datatype: Datatype,
    },
    /// Elements of another datatype.
    #[error("input {input:?} of {datatype} has elements in {field}: expected them in {expected}")]
    WrongContents {
        /// The tensor.
        input: String,
        /// Its datatype.
        datatype: Datatype,
        /// Where there are some.
        field: &'static str,
        /// Where they should be.
        expected: &'static str,
    },
    /// Too few or too many elements.
    #[error("input {input:?}: contents has {actual} elements: shape {shape:?} takes {expected}")]
    Count {
        /// The tensor.
        input: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Elements that the shape asks for.
        expected: u64,
        /// Elements given.
        actual: u64,
    },
    /// A number that the datatype does not have.
    #[error("input {input:?}: element {index} of contents is no {datatype}")]
    OutOfRange {
        /// The tensor.
        input: String,
        /// The element, from 0.
        index: usize,
        /// Its datatype.
        datatype: Datatype,
    },
    /// Data and shape that do not agree.
    #[error("input {input:?}: {error}")]
    Tensor {
        /// The tensor.
        input: String,
        /// What is wrong with it.
        error: InvalidTensor,
    },
    /// A parameter that holds nothing, or more than a parameter can.
    #[error("parameter {name:?} must be a string, a number up to {}, true or false", i64::MAX)]
    Parameter {
        /// The parameter.
        name: String,
    },
}

/// Takes a message apart. Raw contents become tensors as they are, without being copied.
///
/// # Errors
/// [`RequestError`] with a sentence for the client.
pub fn decode_request(message: ModelInferRequest) -> Result<InferRequest, RequestError> {
    let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents, .. } = message;
    let inputs = if raw_input_contents.is_empty() {
        inputs.into_iter().map(typed_input).collect::<Result<_, _>>()?
    } else if raw_input_contents.len() == inputs.len() {
        inputs.into_iter().zip(raw_input_contents).map(raw_input).collect::<Result<_, _>>()?
    } else {
        return Err(RequestError::RawCount { inputs: inputs.len(), raw: raw_input_contents.len() });
    };
    let parameters = parameters.into_iter().map(parameter).collect::<Result<_, _>>()?;
    let outputs = outputs.into_iter().map(requested_output).collect::<Result<_, _>>()?;
    let id = Some(id).filter(|id| !id.is_empty());
    Ok(InferRequest::new(id, parameters, inputs, outputs)?)
}

fn requested_output(output: InferRequestedOutputTensor) -> Result<RequestedOutput, RequestError> {
    let parameters = output.parameters.into_iter().map(parameter).collect::<Result<_, _>>()?;
    Ok(RequestedOutput::new(output.name, parameters)?)
}

fn parameter((name, value): (String, InferParameter)) -> Result<(String, Parameter), RequestError> {
    let value = match value.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Some(Parameter::Boolean(value)),
        Some(ParameterChoice::Int64Param(value)) => Some(Parameter::Integer(value)),
        Some(ParameterChoice::StringParam(value)) => Some(Parameter::Text(value)),
        Some(ParameterChoice::DoubleParam(value)) => Some(Parameter::Number(value)),
        Some(ParameterChoice::Uint64Param(value)) => i64::try_from(value).ok().map(Parameter::Integer),
        None => None,
    };
    match value {
        Some(value) => Ok((name, value)),
        None => Err(RequestError::Parameter { name: shortened(&name) }),
    }
}

fn raw_input((input, data): (InferInputTensor, Bytes)) -> Result<(String, Tensor), RequestError> {
    if input.contents.is_some() {
        return Err(RequestError::ContentsBesideRaw { input: shortened(&input.name) });
    }
    let (datatype, shape) = described(&input)?;
    let tensor = Tensor::new(datatype, shape, data)
        .map_err(|error| RequestError::Tensor { input: shortened(&input.name), error })?;
    Ok((input.name, tensor))
}

fn typed_input(input: InferInputTensor) -> Result<(String, Tensor), RequestError> {
    let (datatype, shape) = described(&input)?;
    let contents = input.contents.unwrap_or_default();
    let tensor = contents::tensor(&shortened(&input.name), datatype, shape, &contents)?;
    Ok((input.name, tensor))
}

fn described(input: &InferInputTensor) -> Result<(Datatype, Vec<u64>), RequestError> {
    let name = || shortened(&input.name);
    let datatype = Datatype::from_name(&input.datatype).ok_or_else(|| DecodeError::UnknownDatatype {
        input: name(),
        datatype: shortened(&input.datatype),
    })?;
    let shape: Option<Vec<u64>> = input.shape.iter().map(|extent| u64::try_from(*extent).ok()).collect();
    let shape = shape.filter(|shape| shape.len() <= MAX_RANK).ok_or_else(|| {
        let shown: Vec<i64> = input.shape.iter().take(MAX_RANK + 1).copied().collect();
        DecodeError::Shape { input: name(), shape: format!("{shown:?}") }
    })?;
    Ok((datatype, shape))
}
