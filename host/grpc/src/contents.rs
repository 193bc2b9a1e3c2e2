//! Typed contents: the elements of an input as the numbers, truth values and byte strings of a message, into the layout of
//! a tensor.

use modelhost_core::{Datatype, InvalidTensor, Tensor, element_count};

use crate::inference::InferTensorContents;
use crate::request::RequestError;

/// How many elements are in which field.
fn filled(contents: &InferTensorContents) -> [(&'static str, usize); 8] {
    [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ]
}

/// The field that holds elements of a datatype; none for those that have no typed form.
const fn field(datatype: Datatype) -> Option<&'static str> {
    Some(match datatype {
        Datatype::Bool => "bool_contents",
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => "int_contents",
        Datatype::Int64 => "int64_contents",
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => "uint_contents",
        Datatype::Uint64 => "uint64_contents",
        Datatype::Fp32 => "fp32_contents",
        Datatype::Fp64 => "fp64_contents",
        Datatype::Bytes => "bytes_contents",
        Datatype::Fp16 | Datatype::Bf16 => return None,
    })
}

/// The tensor of an input with typed contents.
///
/// # Errors
/// Elements in a field that is not the datatype's, too many or too few of them, or one that the datatype does not have.
pub(crate) fn tensor(
    input: &str,
    datatype: Datatype,
    shape: Vec<u64>,
    contents: &InferTensorContents,
) -> Result<Tensor, RequestError> {
    let expected =
        field(datatype).ok_or_else(|| RequestError::NoTypedForm { input: input.to_owned(), datatype })?;
    let mut count = 0;
    for (field, elements) in filled(contents) {
        if field == expected {
            count = elements as u64;
        } else if elements > 0 {
            return Err(RequestError::WrongContents { input: input.to_owned(), datatype, field, expected });
        }
    }
    let invalid = |error: InvalidTensor| RequestError::Tensor { input: input.to_owned(), error };
    let elements =
        element_count(&shape).ok_or_else(|| invalid(InvalidTensor::Overflow { shape: shape.clone() }))?;
    if elements != count {
        return Err(RequestError::Count {
            input: input.to_owned(),
            shape,
            expected: elements,
            actual: count,
        });
    }
    if datatype == Datatype::Bytes {
        return Tensor::from_bytes_elements(shape, &contents.bytes_contents).map_err(invalid);
    }
    let data = bytes(datatype, contents).map_err(|index| RequestError::OutOfRange {
        input: input.to_owned(),
        index,
        datatype,
    })?;
    Tensor::new(datatype, shape, data.into()).map_err(invalid)
}

/// The little-endian bytes of the elements; the index of one that the datatype does not have.
fn bytes(datatype: Datatype, contents: &InferTensorContents) -> Result<Vec<u8>, usize> {
    match datatype {
        Datatype::Bool => Ok(contents.bool_contents.iter().map(|value| u8::from(*value)).collect()),
        Datatype::Int8 => {
            narrow(&contents.int_contents, |value| Some(i8::try_from(value).ok()?.to_le_bytes()))
        }
        Datatype::Int16 => {
            narrow(&contents.int_contents, |value| Some(i16::try_from(value).ok()?.to_le_bytes()))
        }
        Datatype::Int32 => narrow(&contents.int_contents, |value| Some(value.to_le_bytes())),
        Datatype::Int64 => narrow(&contents.int64_contents, |value| Some(value.to_le_bytes())),
        Datatype::Uint8 => {
            narrow(&contents.uint_contents, |value| Some(u8::try_from(value).ok()?.to_le_bytes()))
        }
        Datatype::Uint16 => {
            narrow(&contents.uint_contents, |value| Some(u16::try_from(value).ok()?.to_le_bytes()))
        }
        Datatype::Uint32 => narrow(&contents.uint_contents, |value| Some(value.to_le_bytes())),
        Datatype::Uint64 => narrow(&contents.uint64_contents, |value| Some(value.to_le_bytes())),
        Datatype::Fp32 => narrow(&contents.fp32_contents, |value| Some(value.to_le_bytes())),
        Datatype::Fp64 => narrow(&contents.fp64_contents, |value| Some(value.to_le_bytes())),
        Datatype::Bytes | Datatype::Fp16 | Datatype::Bf16 => Ok(Vec::new()),
    }
}

fn narrow<T: Copy, const SIZE: usize>(
    values: &[T],
    element: impl Fn(T) -> Option<[u8; SIZE]>,
) -> Result<Vec<u8>, usize> {
    let mut data = Vec::with_capacity(values.len() * SIZE);
    for (index, value) in values.iter().enumerate() {
        data.extend_from_slice(&element(*value).ok_or(index)?);
    }
    Ok(data)
}
