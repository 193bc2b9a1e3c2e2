//! What a `ModelInferRequest` will take once it is decoded, told from its bytes: the parts of it that cost more memory
//! than they have bytes are counted, and too many of them are refused. It walks from field to field and allocates nothing.

use modelhost_protocol::{MAX_PARAMETERS, MAX_TENSORS};
use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

/// Bytes of typed contents of one input. In memory they are up to a dozen times as many; raw contents are not.
const MAX_TYPED_BYTES: usize = 16 << 20;
/// Bytes of a shape.
const MAX_SHAPE_BYTES: usize = 1 << 10;

/// Why a message is not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// Not made of fields.
    #[error("the message is no ModelInferRequest: its encoding is broken")]
    Broken,
    /// Too many parts of one kind.
    #[error("the request has more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// Too many bytes in a part that takes more memory than that.
    #[error(
        "the {what} of an input has {bytes} bytes: at most {limit} are possible, more travel in raw_input_contents"
    )]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
}

/// How many of a kind there have been.
struct Counter {
    what: &'static str,
    limit: usize,
    count: usize,
}

impl Counter {
    const fn new(what: &'static str, limit: usize) -> Counter {
        Counter { what, limit, count: 0 }
    }

    fn count(&mut self, more: usize) -> Result<(), MeasureError> {
        self.count = self.count.saturating_add(more);
        if self.count > self.limit {
            Err(MeasureError::TooMany { what: self.what, limit: self.limit })
        } else {
            Ok(())
        }
    }
}

/// Checks a message before it is decoded.
///
/// # Errors
/// What cannot be decoded, or takes too much memory.
pub(crate) fn measure(message: &[u8]) -> Result<(), MeasureError> {
    let mut parameters = Counter::new("parameters", MAX_PARAMETERS);
    let mut inputs = Counter::new("inputs", MAX_TENSORS);
    let mut outputs = Counter::new("outputs", MAX_TENSORS);
    let mut raw = Counter::new("raw_input_contents", MAX_TENSORS);
    for_each_field(message, |field, value| match field {
        4 => parameters.count(1),
        5 => {
            inputs.count(1)?;
            measure_tensor(value)
        }
        6 => {
            outputs.count(1)?;
            measure_tensor(value)
        }
        7 => raw.count(1),
        _ => Ok(()),
    })
}

/// An input; an output has some of the same fields.
fn measure_tensor(message: &[u8]) -> Result<(), MeasureError> {
    let mut parameters = Counter::new("parameters of one tensor", MAX_PARAMETERS);
    let (mut shape, mut contents) = (0, 0);
    for_each_field(message, |field, value| {
        match field {
            // Of an output these are its parameters.
            2 | 4 => parameters.count(1)?,
            3 => shape += value.len() + 1,
            5 => contents += value.len(),
            _ => {}
        }
        at_most("shape", shape, MAX_SHAPE_BYTES)?;
        at_most("typed contents", contents, MAX_TYPED_BYTES)
    })
}

fn at_most(what: &'static str, bytes: usize, limit: usize) -> Result<(), MeasureError> {
    if bytes > limit { Err(MeasureError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

/// Calls `visit` with the number and the bytes of each field; those of a number are none.
fn for_each_field(
    mut message: &[u8],
    mut visit: impl FnMut(u32, &[u8]) -> Result<(), MeasureError>,
) -> Result<(), MeasureError> {
    while message.has_remaining() {
        let (field, wire_type) = decode_key(&mut message).map_err(|_| MeasureError::Broken)?;
        let length = match wire_type {
            WireType::Varint => {
                decode_varint(&mut message).map_err(|_| MeasureError::Broken)?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                let length = decode_varint(&mut message).map_err(|_| MeasureError::Broken)?;
                usize::try_from(length).map_err(|_| MeasureError::Broken)?
            }
            // Not part of this version of the language.
            WireType::StartGroup | WireType::EndGroup => return Err(MeasureError::Broken),
        };
        let (value, rest) = message.split_at_checked(length).ok_or(MeasureError::Broken)?;
        let value = if wire_type == WireType::LengthDelimited { value } else { &[] };
        visit(field, value)?;
        message = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::inference::model_infer_request::InferInputTensor;
    use crate::inference::{InferTensorContents, ModelInferRequest};

    fn measured(request: &ModelInferRequest) -> Result<(), MeasureError> {
        measure(&request.encode_to_vec())
    }

    #[test]
    fn parts_are_counted_before_they_are_there() {
        // Two bytes for each: an input without anything, or with one empty parameter.
        let inputs = [0x2a, 0x00].repeat(1 << 20);
        assert_eq!(measure(&inputs), Err(MeasureError::TooMany { what: "inputs", limit: MAX_TENSORS }));
        let raw = [0x3a, 0x00].repeat(1 << 20);
        assert_eq!(
            measure(&raw),
            Err(MeasureError::TooMany { what: "raw_input_contents", limit: MAX_TENSORS })
        );
        let parameters = [0x22, 0x00].repeat(MAX_PARAMETERS + 1);
        assert!(matches!(measure(&parameters), Err(MeasureError::TooMany { what: "parameters", .. })));
        let mut input = vec![0x2a];
        prost::encoding::encode_varint(parameters.len() as u64, &mut input);
        input.extend_from_slice(&parameters);
        assert!(matches!(
            measure(&input),
            Err(MeasureError::TooMany { what: "parameters of one tensor", .. })
        ));
    }

    #[test]
    fn shapes_and_typed_contents_have_a_size() {
        let input = |shape: usize, contents: usize| ModelInferRequest {
            inputs: vec![InferInputTensor {
                shape: vec![1; shape],
                contents: Some(InferTensorContents {
                    bool_contents: vec![true; contents],
                    ..InferTensorContents::default()
                }),
                ..InferInputTensor::default()
            }],
            ..ModelInferRequest::default()
        };
        assert_eq!(measured(&input(16, 1 << 20)), Ok(()));
        assert!(matches!(measured(&input(2_000, 1)), Err(MeasureError::TooLarge { what: "shape", .. })));
        let refused = measured(&input(1, MAX_TYPED_BYTES + 1)).unwrap_err().to_string();
        assert!(refused.contains("raw_input_contents"), "{refused}");
    }

    #[test]
    fn what_is_broken_is_refused() {
        for broken in [&[0x2a][..], &[0x2a, 5, 0], &[0x2b], &[0xff; 11], &[0x2d, 0, 0], &[0x28]] {
            assert_eq!(measure(broken), Err(MeasureError::Broken), "{broken:?}");
        }
    }
}
