//! Values across the border: the host's tensors to those of ONNX Runtime and back, without copying their elements.

use bytes::Bytes;
use modelhost_core::{Datatype, MAX_RANK, Tensor};
use ort::Error;
use ort::sys::ONNXTensorElementDataType as ElementType;

use super::library::Library;
use super::native::{Value, charged};
use crate::engine::RunError;

/// The element types that both have.
const DATATYPES: [(Datatype, ElementType); 14] = [
    (Datatype::Bool, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL),
    (Datatype::Uint8, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8),
    (Datatype::Uint16, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16),
    (Datatype::Uint32, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32),
    (Datatype::Uint64, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64),
    (Datatype::Int8, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8),
    (Datatype::Int16, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16),
    (Datatype::Int32, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32),
    (Datatype::Int64, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64),
    (Datatype::Fp16, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16),
    (Datatype::Bf16, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16),
    (Datatype::Fp32, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT),
    (Datatype::Fp64, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE),
    (Datatype::Bytes, ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING),
];

/// The library's element type of this number; undefined where the host has none like it.
pub(super) fn element_type(number: i32) -> ElementType {
    let known = DATATYPES.into_iter().find(|(_, element)| *element as i32 == number);
    known.map_or(ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, |(_, element)| element)
}

/// The host's word for an element type; none for those that no input and no output may have.
pub(super) fn datatype(element: ElementType) -> Option<Datatype> {
    DATATYPES.into_iter().find(|(_, known)| *known == element).map(|(datatype, _)| datatype)
}

fn element_of(datatype: Datatype) -> ElementType {
    let known = DATATYPES.into_iter().find(|(known, _)| *known == datatype);
    known.map_or(ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, |(_, element)| element)
}

/// An input of a run: the library's value, and the bytes that it borrows.
pub(super) struct Input {
    /// Declared before what it borrows, so that it goes first.
    pub(super) value: Value,
    bytes: Bytes,
}

impl Input {
    /// A value over the elements of this tensor. Copied are strings, which the library keeps in objects of its own,
    /// and elements that do not lie where the processor wants them.
    pub(super) fn new(library: &Library, tensor: &Tensor) -> Result<Input, RunError> {
        let shape = extents(tensor.shape())?;
        let value = match tensor.datatype().size() {
            None => strings(library, tensor, &shape).map(|value| (value, Bytes::new())),
            Some(size) => {
                let bytes = aligned(tensor.data(), size).map_err(|error| failed(&error))?;
                // SAFETY: the bytes are kept beside the value, and are aligned. A run may hand a value that it was
                // given on as an output: `output` looks for that.
                let value = unsafe {
                    Value::borrowed(library.memory(), &bytes, &shape, element_of(tensor.datatype()))
                };
                value.map(|value| (value, bytes))
            }
        };
        let (value, bytes) = value.map_err(|error| failed(&error))?;
        Ok(Input { value, bytes })
    }
}

fn extents(shape: &[u64]) -> Result<Vec<i64>, RunError> {
    let extents: Result<Vec<i64>, _> = shape.iter().map(|extent| i64::try_from(*extent)).collect();
    // The library multiplies extents in any order: even beside a zero the product must fit.
    let extents = extents.ok().filter(|extents| {
        let product = extents.iter().try_fold(1_i64, |product, extent| product.checked_mul((*extent).max(1)));
        product.is_some_and(|product| product <= i64::MAX / 64)
    });
    extents.ok_or_else(|| RunError::InvalidInput {
        reason: format!("shape {shape:?} is too large for this machine"),
    })
}

/// The same bytes, where an element of this size may begin.
fn aligned(data: &Bytes, size: usize) -> Result<Bytes, Error> {
    if data.as_ptr().align_offset(size) == 0 {
        return Ok(data.clone());
    }
    charged(data.len())?;
    let mut words = vec![0_u64; data.len().div_ceil(size_of::<u64>())];
    let length = data.len();
    bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..length].copy_from_slice(data);
    Ok(Bytes::from_owner(Words(words)).slice(..length))
}

struct Words(Vec<u64>);

impl AsRef<[u8]> for Words {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn strings(library: &Library, tensor: &Tensor, shape: &[i64]) -> Result<Value, Error> {
    let value = Value::strings(library.allocator(), shape)?;
    for (index, text) in tensor.bytes_elements().enumerate() {
        value.set_string(index, text)?;
    }
    Ok(value)
}

/// The host's tensor, over the memory of the library's. `inputs` are those of the run.
pub(super) fn output(value: Value, inputs: &[Input]) -> Result<Tensor, RunError> {
    let (element, shape) = value.tensor().map_err(|error| failed(&error))?;
    let datatype = datatype(element).ok_or_else(|| RunError::Failed {
        reason: "an output has an element type that this host does not have".to_owned(),
    })?;
    let shape: Option<Vec<u64>> = shape.iter().map(|extent| u64::try_from(*extent).ok()).collect();
    let shape = shape.filter(|shape| shape.len() <= MAX_RANK).ok_or_else(|| RunError::Failed {
        reason: format!("an output has a shape that this host does not have: at most {MAX_RANK} dimensions"),
    })?;
    let count =
        shape.iter().try_fold(1_usize, |product, extent| product.checked_mul(usize::try_from(*extent).ok()?));
    let count = count.ok_or_else(|| RunError::Failed { reason: "an output is too large".to_owned() })?;
    let data = match datatype.size() {
        None => text(&value, count)?,
        Some(size) => elements(value, count * size, inputs)?,
    };
    Tensor::new(datatype, shape, data).map_err(|error| RunError::Failed { reason: error.to_string() })
}

/// In the layout of the Open Inference Protocol: each string behind its length.
fn text(value: &Value, count: usize) -> Result<Bytes, RunError> {
    if count == 0 {
        return Ok(Bytes::new());
    }
    let (text, offsets) = value.text(count).map_err(|error| failed(&error))?;
    let length = text.len().saturating_add(count.saturating_mul(4));
    charged(length).map_err(|error| failed(&error))?;
    let mut data = Vec::with_capacity(length);
    let ends = offsets.iter().skip(1).copied().chain([text.len()]);
    for (start, end) in offsets.iter().copied().zip(ends) {
        let string = text.get(start..end).unwrap_or_default();
        let length = u32::try_from(string.len())
            .map_err(|_| RunError::Failed { reason: "a string of an output is too long".to_owned() })?;
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(string);
    }
    Ok(data.into())
}

fn elements(value: Value, length: usize, inputs: &[Input]) -> Result<Bytes, RunError> {
    if length == 0 {
        return Ok(Bytes::new());
    }
    let start = value.data().map_err(|error| failed(&error))?;
    if start.is_null() {
        return Err(RunError::Failed { reason: "an output has no elements".to_owned() });
    }
    // An output that is an input as it came has the bytes of the request, which the value does not keep.
    let borrowed = inputs.iter().find_map(|input| {
        let offset = (start as usize).checked_sub(input.bytes.as_ptr() as usize)?;
        (offset < input.bytes.len()).then(|| input.bytes.slice(offset..offset.saturating_add(length)))
    });
    Ok(borrowed.unwrap_or_else(|| Bytes::from_owner(Elements { _value: value, start, length })))
}

/// Keeps the library's tensor as long as somebody reads its elements.
struct Elements {
    _value: Value,
    start: *const u8,
    length: usize,
}

// SAFETY: the elements are not changed any more, and belong to no thread.
unsafe impl Send for Elements {}
// SAFETY: as above.
unsafe impl Sync for Elements {}

impl AsRef<[u8]> for Elements {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the tensor owns this many bytes from there and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

fn failed(error: &Error) -> RunError {
    RunError::Failed { reason: super::message::sentence(error.message()) }
}
