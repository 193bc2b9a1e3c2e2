//! An inference response: typed tensors straight into JSON text, or behind it as they are.

use bytes::Bytes;
use modelhost_core::{Datatype, ModelName, Tensor, VersionNumber};
use serde::Serialize;
use serde::ser::{Error as _, SerializeSeq, Serializer};

use crate::shortened;

/// What a response says.
#[derive(Clone, Copy, Debug)]
pub struct InferResponse<'a> {
    /// The model that answered.
    pub model: &'a ModelName,
    /// The version that answered.
    pub version: VersionNumber,
    /// The `id` of the request.
    pub id: Option<&'a str>,
    /// The output tensors, in the order in which they are written.
    pub outputs: &'a [ResponseOutput<'a>],
}

/// One output tensor.
#[derive(Clone, Copy, Debug)]
pub struct ResponseOutput<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its elements.
    pub tensor: &'a Tensor,
    /// Whether it follows the JSON part as it is, in place of being written into it.
    pub is_binary: bool,
}

/// A response body.
#[derive(Debug)]
pub struct EncodedResponse {
    /// How many of its bytes are JSON, for the header `Inference-Header-Content-Length`. None: all.
    pub json_bytes: Option<usize>,
    /// Its bytes: JSON, then the binary outputs, which are those of the tensors and not copied.
    pub pieces: Vec<Bytes>,
}

/// Outputs that have no JSON form. The sentence names the output and the element, and says what to ask for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(#[from] serde_json::Error);

/// Writes a response body. Floating-point numbers take the shortest form that reads back as the same number.
///
/// # Errors
/// An output that is not binary holds NaN, an infinity or bytes that are not UTF-8, or is FP16 or BF16.
pub fn encode_response(response: &InferResponse<'_>) -> Result<EncodedResponse, EncodeError> {
    let id = response.id.map_or(0, str::len);
    let text: usize = json_outputs(response).map(|output| text_bytes(output.tensor)).sum();
    let mut json = Vec::with_capacity(256 + id + 128 * response.outputs.len() + text);
    serde_json::to_writer(&mut json, &JsonResponse::from(response))?;
    let has_binary = response.outputs.iter().any(|output| output.is_binary);
    let json_bytes = has_binary.then_some(json.len());
    let binary = response.outputs.iter().filter(|output| output.is_binary);
    let pieces = std::iter::once(json.into()).chain(binary.map(|output| output.tensor.data().clone()));
    Ok(EncodedResponse { json_bytes, pieces: pieces.collect() })
}

fn json_outputs<'a>(response: &InferResponse<'a>) -> impl Iterator<Item = &'a ResponseOutput<'a>> {
    response.outputs.iter().filter(|output| !output.is_binary)
}

/// About what the elements take as text; too little only costs one more move. A probability such as 0.0012345678 with
/// its comma is 13 bytes for the 4 that it was.
fn text_bytes(tensor: &Tensor) -> usize {
    let factor = if tensor.datatype() == Datatype::Fp32 { 4 } else { 3 };
    factor * tensor.data().len()
}

#[derive(Serialize)]
struct JsonResponse<'a> {
    model_name: &'a str,
    model_version: JsonVersion,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: JsonOutputs<'a>,
}

impl<'a> From<&InferResponse<'a>> for JsonResponse<'a> {
    fn from(response: &InferResponse<'a>) -> Self {
        JsonResponse {
            model_name: response.model.as_str(),
            model_version: JsonVersion(response.version),
            id: response.id,
            outputs: JsonOutputs(response.outputs),
        }
    }
}

/// A version is a string in the protocol.
struct JsonVersion(VersionNumber);

impl Serialize for JsonVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct JsonOutputs<'a>(&'a [ResponseOutput<'a>]);

impl Serialize for JsonOutputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|ResponseOutput { name, tensor, is_binary }| JsonOutput {
            name,
            shape: tensor.shape(),
            datatype: tensor.datatype(),
            parameters: is_binary.then(|| BinaryParameters { binary_data_size: tensor.data().len() }),
            data: (!is_binary).then_some(JsonData { name, tensor }),
        }))
    }
}

#[derive(Serialize)]
struct BinaryParameters {
    binary_data_size: usize,
}

#[derive(Serialize)]
struct JsonOutput<'a> {
    name: &'a str,
    shape: &'a [u64],
    datatype: Datatype,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinaryParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<JsonData<'a>>,
}

/// The elements of an output, as one flat array.
struct JsonData<'a> {
    name: &'a str,
    tensor: &'a Tensor,
}

impl Serialize for JsonData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.tensor.datatype() {
            Datatype::Bool => self.write(serializer, |[byte]: [u8; 1]| Some(byte != 0)),
            Datatype::Uint8 => self.write(serializer, |bytes| Some(u8::from_le_bytes(bytes))),
            Datatype::Uint16 => self.write(serializer, |bytes| Some(u16::from_le_bytes(bytes))),
            Datatype::Uint32 => self.write(serializer, |bytes| Some(u32::from_le_bytes(bytes))),
            Datatype::Uint64 => self.write(serializer, |bytes| Some(u64::from_le_bytes(bytes))),
            Datatype::Int8 => self.write(serializer, |bytes| Some(i8::from_le_bytes(bytes))),
            Datatype::Int16 => self.write(serializer, |bytes| Some(i16::from_le_bytes(bytes))),
            Datatype::Int32 => self.write(serializer, |bytes| Some(i32::from_le_bytes(bytes))),
            Datatype::Int64 => self.write(serializer, |bytes| Some(i64::from_le_bytes(bytes))),
            Datatype::Fp32 => self
                .write(serializer, |bytes| Some(f32::from_le_bytes(bytes)).filter(|value| value.is_finite())),
            Datatype::Fp64 => self
                .write(serializer, |bytes| Some(f64::from_le_bytes(bytes)).filter(|value| value.is_finite())),
            Datatype::Bytes => self.write_strings(serializer),
            datatype @ (Datatype::Fp16 | Datatype::Bf16) => Err(S::Error::custom(format_args!(
                "output {:?} has datatype {datatype}, which has no JSON form: ask for binary output",
                self.label()
            ))),
        }
    }
}

impl JsonData<'_> {
    fn write<S: Serializer, T: Serialize, const SIZE: usize>(
        &self,
        serializer: S,
        read: impl Fn([u8; SIZE]) -> Option<T>,
    ) -> Result<S::Ok, S::Error> {
        let (elements, _) = self.tensor.data().as_chunks::<SIZE>();
        let mut sequence = serializer.serialize_seq(Some(elements.len()))?;
        for (index, bytes) in elements.iter().enumerate() {
            let element = read(*bytes).ok_or_else(|| {
                S::Error::custom(format_args!(
                    "element {index} of output {:?} is NaN or infinite, which JSON cannot express: ask for binary output",
                    self.label()
                ))
            })?;
            sequence.serialize_element(&element)?;
        }
        sequence.end()
    }

    fn write_strings<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(None)?;
        for (index, bytes) in self.tensor.bytes_elements().enumerate() {
            let text = std::str::from_utf8(bytes).map_err(|_| {
                S::Error::custom(format_args!(
                    "element {index} of output {:?} is not UTF-8, which JSON cannot express: ask for binary output",
                    self.label()
                ))
            })?;
            sequence.serialize_element(text)?;
        }
        sequence.end()
    }

    fn label(&self) -> String {
        shortened(self.name)
    }
}
