//! An inference request: the fields around the tensors, and where the elements of each are.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use modelhost_core::{Datatype, InvalidTensor, MAX_RANK, Parameter, Tensor, element_count};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::binary::BinaryData;
use crate::bounded::Bounded;
use crate::data::DataError;
use crate::elements::parse_elements;
use crate::object::Object;
use crate::parameters::Parameters;
use crate::reserved::{InvalidParameter, Reserved, take_reserved};
use crate::shortened;

/// Inputs, and outputs, of one request. No real model comes near.
pub const MAX_TENSORS: usize = 1024;

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
    pub outputs: Vec<RequestedOutput>,
    /// Whether outputs are to be binary that say nothing of their own: the request parameter `binary_data_output`.
    pub binary_output: bool,
}

/// An output that the client asks for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedOutput {
    /// Its name; whether the model has it is not checked yet.
    pub name: String,
    /// Whether it is to be binary: the output parameter `binary_data`. None: as the request says for all.
    pub binary: Option<bool>,
    /// How many of the best classes are wanted in place of the scores: the output parameter `classification`. None: the
    /// scores.
    pub classification: Option<u32>,
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
    /// The header that tells the length of the JSON part tells more than there is.
    #[error(
        "the header Inference-Header-Content-Length says {declared}: the body has {actual} bytes, of which no more can be JSON"
    )]
    HeaderLength {
        /// What the header says.
        declared: usize,
        /// How long the body is.
        actual: usize,
    },
    /// Binary tensors without the header that tells where they begin.
    #[error(
        "input {input:?} has the parameter \"binary_data_size\": expected the header Inference-Header-Content-Length with the number of bytes of JSON"
    )]
    NoHeaderLength {
        /// The tensor.
        input: String,
    },
    /// The parameter `binary_data_size` is no number of bytes.
    #[error(
        "input {input:?} has a parameter \"binary_data_size\" that is no number of bytes: expected a whole number from 0 up"
    )]
    BinarySize {
        /// The tensor.
        input: String,
    },
    /// More bytes are declared than follow the JSON part.
    #[error("input {input:?} has binary_data_size {declared}: only {left} bytes of the body are left for it")]
    BinaryCutOff {
        /// The tensor.
        input: String,
        /// Its bytes as declared.
        declared: u64,
        /// How many there are.
        left: usize,
    },
    /// Bytes that belong to no tensor.
    #[error("{left} bytes of the body follow the last binary input: expected none")]
    BinaryLeft {
        /// How many.
        left: usize,
    },
    /// Elements given twice.
    #[error("input {input:?} has both data and the parameter \"binary_data_size\": expected one of them")]
    DataTwice {
        /// The tensor.
        input: String,
    },
    /// A raw body for a model that has not exactly one input.
    #[error("the model has {inputs} inputs: a raw body can only be the one of a model with one input")]
    RawInputs {
        /// How many.
        inputs: usize,
    },
    /// A raw body for an input with more than one free dimension.
    #[error(
        "the shape of input {input:?}, {shape:?}, cannot be told from a raw body: send the request in JSON"
    )]
    RawShape {
        /// The tensor.
        input: String,
        /// As the model describes it; -1 is free.
        shape: Vec<i64>,
    },
    /// A raw body that no element of BYTES can hold.
    #[error("input {input:?} cannot take {bytes} bytes as one element: at most 4294967295 are possible")]
    RawTooLong {
        /// The tensor.
        input: String,
        /// How many.
        bytes: usize,
    },
    /// The parameter `classification` of an output is no number of classes.
    #[error(
        "output {output:?} has a parameter \"classification\" that is no number of classes: expected a whole number"
    )]
    Classification {
        /// The output.
        output: String,
    },
    /// Binary outputs where there can be none.
    #[error(
        "binary outputs are asked for: expected a request for JSON, as its answer is part of a JSON text"
    )]
    NoBinaryAnswer,
    /// A parameter that is neither `true` nor `false`.
    #[error("parameter {name:?} must be true or false")]
    NotBoolean {
        /// The parameter.
        name: &'static str,
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

/// Decodes a request body, of which the first `json_bytes` bytes are JSON and the rest is binary tensors, in the order
/// of the inputs that have the parameter `binary_data_size`. None: all of it is JSON.
///
/// Binary tensors are slices of the body, which stays in memory as long as they do.
///
/// # Errors
/// [`DecodeError`] with a sentence for the client.
pub fn decode_request(body: &Bytes, json_bytes: Option<usize>) -> Result<InferRequest, DecodeError> {
    let Some(json_bytes) = json_bytes else { return decode_json(body, None) };
    if json_bytes > body.len() {
        return Err(DecodeError::HeaderLength { declared: json_bytes, actual: body.len() });
    }
    let mut binary = BinaryData::new(body.slice(json_bytes..));
    let request = decode_json(&body[..json_bytes], Some(&mut binary))?;
    binary.finish()?;
    Ok(request)
}

/// Decodes a request that is part of some other JSON text, whose answer cannot be binary.
///
/// # Errors
/// [`DecodeError`] with a sentence for the client.
pub fn decode_json_request(json: &[u8]) -> Result<InferRequest, DecodeError> {
    let request = decode_json(json, None)?;
    let wants_binary =
        request.binary_output || request.outputs.iter().any(|output| output.binary == Some(true));
    if wants_binary { Err(DecodeError::NoBinaryAnswer) } else { Ok(request) }
}

/// Decodes the JSON part; `binary` is what follows it, if the client says where it begins.
fn decode_json(json: &[u8], mut binary: Option<&mut BinaryData>) -> Result<InferRequest, DecodeError> {
    if json.is_empty() {
        return Err(DecodeError::Empty);
    }
    let text =
        std::str::from_utf8(json).map_err(|error| DecodeError::NotUtf8 { position: error.valid_up_to() })?;
    let Object(envelope) = serde_json::from_str::<Object<Envelope<'_>>>(text)?;
    let inputs =
        envelope.inputs.0.into_iter().map(|Object(input)| decode_input(input, binary.as_deref_mut()));
    let inputs = inputs.collect::<Result<_, _>>()?;
    let outputs = envelope.outputs.map(|Bounded(outputs)| outputs).unwrap_or_default();
    let outputs =
        outputs.into_iter().map(|Object(output)| decode_output(output)).collect::<Result<_, _>>()?;
    InferRequest::new(envelope.id, envelope.parameters.unwrap_or_default().0, inputs, outputs)
}

impl RequestedOutput {
    /// An output with these parameters, in whichever form they came.
    ///
    /// # Errors
    /// A parameter with a value that it cannot have.
    pub fn new(name: String, parameters: Vec<(String, Parameter)>) -> Result<RequestedOutput, DecodeError> {
        let mut parameters = Parameters(parameters);
        let binary = flag(&mut parameters, "binary_data")?;
        let classification = match parameters.take("classification") {
            None | Some(Parameter::Integer(0)) => None,
            Some(Parameter::Integer(count @ 1..)) => Some(u32::try_from(count).unwrap_or(u32::MAX)),
            Some(_) => return Err(DecodeError::Classification { output: shortened(&name) }),
        };
        Ok(RequestedOutput { name, binary, classification })
    }
}

impl InferRequest {
    /// A request of these parts, in whichever form they came. What the server itself answers to is taken out of the
    /// parameters, which must not repeat.
    ///
    /// # Errors
    /// A parameter of the server's with a value that it cannot have.
    pub fn new(
        id: Option<String>,
        parameters: Vec<(String, Parameter)>,
        inputs: Vec<(String, Tensor)>,
        outputs: Vec<RequestedOutput>,
    ) -> Result<InferRequest, DecodeError> {
        let mut parameters = Parameters(parameters);
        let binary_output = flag(&mut parameters, "binary_data_output")?.unwrap_or(false);
        let Reserved { timeout, priority } = take_reserved(&mut parameters.0)?;
        Ok(InferRequest { id, parameters: parameters.0, timeout, priority, inputs, outputs, binary_output })
    }
}

fn flag(parameters: &mut Parameters, name: &'static str) -> Result<Option<bool>, DecodeError> {
    match parameters.take(name) {
        None => Ok(None),
        Some(Parameter::Boolean(flag)) => Ok(Some(flag)),
        Some(_) => Err(DecodeError::NotBoolean { name }),
    }
}

fn decode_output(output: RawOutput) -> Result<RequestedOutput, DecodeError> {
    RequestedOutput::new(output.name, output.parameters.unwrap_or_default().0)
}

fn decode_input(
    input: RawInput<'_>,
    binary: Option<&mut BinaryData>,
) -> Result<(String, Tensor), DecodeError> {
    let RawInput { name, shape, datatype, parameters, data } = input;
    let label = || shortened(&name);
    let datatype = Datatype::from_name(&datatype)
        .ok_or_else(|| DecodeError::UnknownDatatype { input: label(), datatype: shortened(&datatype) })?;
    let shape_error = || DecodeError::Shape { input: label(), shape: shortened(shape.get()) };
    let extents = parse_shape(shape).ok_or_else(shape_error)?;
    let size = parameters.unwrap_or_default().take("binary_data_size");
    let tensor = match (size, data) {
        (None, None) => return Err(DecodeError::NoData { input: label() }),
        (Some(_), Some(_)) => return Err(DecodeError::DataTwice { input: label() }),
        (None, Some(data)) => json_tensor(&name, datatype, &extents, data.get())?,
        (Some(size), None) => {
            let binary = binary.ok_or_else(|| DecodeError::NoHeaderLength { input: label() })?;
            let data = binary.take(&name, size)?;
            Tensor::new(datatype, extents, data).map_err(|error| invalid(&name, &error))?
        }
    };
    Ok((name, tensor))
}

fn json_tensor(name: &str, datatype: Datatype, shape: &[u64], json: &str) -> Result<Tensor, DecodeError> {
    let elements = element_count(shape)
        .ok_or_else(|| invalid(name, &InvalidTensor::Overflow { shape: shape.to_vec() }))?;
    parse_elements(datatype, shape, elements, json)
        .ok_or_else(|| DecodeError::NoJsonForm { input: shortened(name), datatype })?
        .map_err(|error: DataError| DecodeError::Data { input: shortened(name), message: error.to_string() })
}

pub(crate) fn invalid(input: &str, error: &InvalidTensor) -> DecodeError {
    DecodeError::Data { input: shortened(input), message: error.to_string() }
}

fn parse_shape(shape: &RawValue) -> Option<Vec<u64>> {
    let Bounded(extents) = serde_json::from_str::<Bounded<u64, MAX_RANK>>(shape.get()).ok()?;
    Some(extents)
}

fn datatype_names() -> String {
    Datatype::ALL.map(Datatype::name).join(", ")
}
