//! An inference request: the fields around the tensors, and what of them is supported.

use std::borrow::Cow;
use std::time::Duration;

use modelhost_core::{Datatype, InvalidTensor, MAX_RANK, Parameter, Tensor, element_count};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::bounded::Bounded;
use crate::data::DataError;
use crate::elements::parse_elements;
use crate::object::Object;
use crate::parameters::Parameters;
use crate::reserved::{InvalidParameter, Reserved, take_reserved};
use crate::shortened;

/// Inputs, and outputs, of one request. No real model comes near.
const MAX_TENSORS: usize = 1024;

/// A decoded request. Tensors are whole in themselves; whether they fit the model is not checked yet.
#[derive(Debug)]
pub struct InferRequest {
    /// To be echoed in the response.
    pub id: Option<String>,
    /// For the plugin: everything but what the server itself answers to (`timeout`, `priority`, `binary_data_output`).
    pub parameters: Vec<(String, Parameter)>,
    /// How long the client wants to wait at most: the request parameter `timeout`, in microseconds, as in
    /// Triton. None: the server's own limit.
    pub timeout: Option<Duration>,
    /// Which requests of the model go first: the request parameter `priority`, as in Triton. 1 is the highest; none is
    /// the default.
    pub priority: Option<u32>,
    /// The input tensors, in the order of the body. Names may repeat.
    pub inputs: Vec<(String, Tensor)>,
    /// The outputs that the client wants, in the order that it wants; empty: all of them.
    pub outputs: Vec<String>,
}

/// Why a body is not an inference request. Every one is the client's mistake.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nothing was sent.
    #[error("the body is empty: expected a JSON object with \"inputs\"")]
    Empty,
    /// Not text.
    #[error("the body is not UTF-8 from byte {position} on")]
    NotUtf8 {
        /// The first byte that is not part of UTF-8.
        position: usize,
    },
    /// Not JSON, or not with the fields of a request.
    #[error("the body is not an inference request: {0}")]
    Envelope(#[from] serde_json::Error),
    /// Asks for tensors in the binary form.
    #[error("binary tensor data is not supported yet: send JSON, without {trigger}")]
    Binary {
        /// What asked for it.
        trigger: &'static str,
    },
    /// A reserved parameter with a value that cannot be obeyed.
    #[error(transparent)]
    Parameter(#[from] InvalidParameter),
    /// A datatype that the protocol does not have.
    #[error("input {input:?} has datatype {datatype:?}: expected one of {}", datatype_names())]
    UnknownDatatype {
        /// The tensor.
        input: String,
        /// What was given.
        datatype: String,
    },
    /// A shape that is not a list of extents.
    #[error("input {input:?} has shape {shape}: expected at most {MAX_RANK} whole numbers from 0 up")]
    Shape {
        /// The tensor.
        input: String,
        /// What was given.
        shape: String,
    },
    /// FP16 or BF16.
    #[error("input {input:?} has datatype {datatype}, which has no JSON form and travels in binary only")]
    NoJsonForm {
        /// The tensor.
        input: String,
        /// Its datatype.
        datatype: Datatype,
    },
    /// No `data`.
    #[error("input {input:?} has no data")]
    NoData {
        /// The tensor.
        input: String,
    },
    /// Elements or nesting that fit neither datatype nor shape.
    #[error("input {input:?}: {message}")]
    Data {
        /// The tensor.
        input: String,
        /// What is wrong with which element or array.
        message: String,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: Option<String>,
    parameters: Option<Parameters>,
    #[serde(borrow)]
    inputs: Bounded<Object<RawInput<'a>>, MAX_TENSORS>,
    outputs: Option<Bounded<Object<RawOutput>, MAX_TENSORS>>,
}

#[derive(Deserialize)]
struct RawInput<'a> {
    name: String,
    #[serde(borrow)]
    shape: &'a RawValue,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    parameters: Option<Parameters>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawOutput {
    name: String,
    parameters: Option<Parameters>,
}

/// Decodes a request body.
///
/// # Errors
/// [`DecodeError`] with a sentence for the client.
pub fn decode_request(body: &[u8]) -> Result<InferRequest, DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::Empty);
    }
    let text =
        std::str::from_utf8(body).map_err(|error| DecodeError::NotUtf8 { position: error.valid_up_to() })?;
    let Object(envelope) = serde_json::from_str::<Object<Envelope<'_>>>(text)?;
    let mut parameters = envelope.parameters.unwrap_or_default();
    refuse_binary(&mut parameters, "binary_data_output", "the parameter \"binary_data_output\"")?;
    let Reserved { timeout, priority } = take_reserved(&mut parameters.0)?;
    let inputs =
        envelope.inputs.0.into_iter().map(|Object(input)| decode_input(input)).collect::<Result<_, _>>()?;
    let outputs = envelope.outputs.map(|Bounded(outputs)| outputs).unwrap_or_default();
    let outputs = outputs.into_iter().map(|Object(output)| output_name(output)).collect::<Result<_, _>>()?;
    Ok(InferRequest { id: envelope.id, parameters: parameters.0, timeout, priority, inputs, outputs })
}

/// An explicit `false` says what is the case anyway.
fn refuse_binary(parameters: &mut Parameters, name: &str, trigger: &'static str) -> Result<(), DecodeError> {
    match parameters.take(name) {
        None | Some(Parameter::Boolean(false)) => Ok(()),
        Some(_) => Err(DecodeError::Binary { trigger }),
    }
}

fn output_name(output: RawOutput) -> Result<String, DecodeError> {
    refuse_binary(
        &mut output.parameters.unwrap_or_default(),
        "binary_data",
        "the output parameter \"binary_data\"",
    )?;
    Ok(output.name)
}

fn decode_input(input: RawInput<'_>) -> Result<(String, Tensor), DecodeError> {
    let RawInput { name, shape, datatype, parameters, data } = input;
    refuse_binary(
        &mut parameters.unwrap_or_default(),
        "binary_data_size",
        "the input parameter \"binary_data_size\"",
    )?;
    let label = || shortened(&name);
    let datatype = Datatype::from_name(&datatype)
        .ok_or_else(|| DecodeError::UnknownDatatype { input: label(), datatype: shortened(&datatype) })?;
    let shape_error = || DecodeError::Shape { input: label(), shape: shortened(shape.get()) };
    let extents = parse_shape(shape).ok_or_else(shape_error)?;
    let elements = element_count(&extents)
        .ok_or_else(|| invalid(&name, &InvalidTensor::Overflow { shape: extents.clone() }))?;
    let json = data.ok_or_else(|| DecodeError::NoData { input: label() })?.get();
    let tensor = parse_elements(datatype, &extents, elements, json)
        .ok_or_else(|| DecodeError::NoJsonForm { input: label(), datatype })?
        .map_err(|error: DataError| DecodeError::Data { input: label(), message: error.to_string() })?;
    Ok((name, tensor))
}

fn invalid(input: &str, error: &InvalidTensor) -> DecodeError {
    DecodeError::Data { input: shortened(input), message: error.to_string() }
}

fn parse_shape(shape: &RawValue) -> Option<Vec<u64>> {
    let Bounded(extents) = serde_json::from_str::<Bounded<u64, MAX_RANK>>(shape.get()).ok()?;
    Some(extents)
}

/// The product of the extents; none where it does not fit into 64 bits.
fn datatype_names() -> String {
    Datatype::ALL.map(Datatype::name).join(", ")
}
