//! The elements of a tensor's `data`: one JSON scalar into the little-endian bytes of its datatype, written where the
//! engine will read it.
//!
//! Rules: integers are exact up to 64 bits and written without fraction or exponent; floating-point numbers
//! round once, to the nearest, and must not overflow; BOOL is `true` or `false`; BYTES is a string, of which
//! the UTF-8 form counts. FP16 and BF16 have no JSON form in the protocol.

use bytes::Bytes;
use modelhost_core::{Datatype, Tensor};
use modelhost_inference::TensorBuffer;

use crate::data::{DataError, for_each_element};
use crate::shortened;

/// Turns `json`, one valid JSON value, into a tensor. `elements` is the product of `shape`. `None`: the datatype has no
/// JSON form.
pub(crate) fn parse_elements(
    datatype: Datatype,
    shape: &[u64],
    elements: u64,
    json: &str,
) -> Option<Result<Tensor, DataError>> {
    let array = JsonArray { datatype, shape, elements, json };
    Some(match datatype {
        Datatype::Bool => array.parse(parse_bool),
        Datatype::Uint8 => array.parse(|text| Some(text.parse::<u8>().ok()?.to_le_bytes())),
        Datatype::Uint16 => array.parse(|text| Some(text.parse::<u16>().ok()?.to_le_bytes())),
        Datatype::Uint32 => array.parse(|text| Some(text.parse::<u32>().ok()?.to_le_bytes())),
        Datatype::Uint64 => array.parse(|text| Some(text.parse::<u64>().ok()?.to_le_bytes())),
        Datatype::Int8 => array.parse(|text| Some(text.parse::<i8>().ok()?.to_le_bytes())),
        Datatype::Int16 => array.parse(|text| Some(text.parse::<i16>().ok()?.to_le_bytes())),
        Datatype::Int32 => array.parse(|text| Some(text.parse::<i32>().ok()?.to_le_bytes())),
        Datatype::Int64 => array.parse(|text| Some(text.parse::<i64>().ok()?.to_le_bytes())),
        Datatype::Fp32 => array.parse(parse_fp32),
        Datatype::Fp64 => array.parse(parse_fp64),
        Datatype::Bytes => array.parse_strings(),
        Datatype::Fp16 | Datatype::Bf16 => return None,
    })
}

struct JsonArray<'a> {
    datatype: Datatype,
    shape: &'a [u64],
    elements: u64,
    json: &'a str,
}

impl JsonArray<'_> {
    fn parse<const SIZE: usize>(
        &self,
        parse: impl Fn(&str) -> Option<[u8; SIZE]>,
    ) -> Result<Tensor, DataError> {
        let mut buffer = self.buffer();
        for_each_element(self.json, self.shape, self.elements, |index, text| {
            let bytes = parse(text).ok_or_else(|| self.refuse(index, text))?;
            if let Some(buffer) = &mut buffer {
                buffer.push(&bytes);
            }
            Ok(())
        })?;
        Ok(match buffer {
            Some(buffer) => buffer.finish()?,
            None => Tensor::new(self.datatype, self.shape.to_vec(), Bytes::new())?,
        })
    }

    fn parse_strings(&self) -> Result<Tensor, DataError> {
        let mut data = Vec::with_capacity(self.json.len());
        for_each_element(self.json, self.shape, self.elements, |index, text| {
            push_string(&mut data, text).ok_or_else(|| self.refuse(index, text))
        })?;
        Ok(Tensor::new(self.datatype, self.shape.to_vec(), data.into())?)
    }

    /// Memory for exactly the declared elements. None where there are none, or more than the text can hold, of which
    /// each takes at least one character and a comma: such a text is only walked through, to say what is wrong with it.
    fn buffer(&self) -> Option<TensorBuffer> {
        let most = self.json.len() as u64 / 2;
        (1..=most).contains(&self.elements).then(|| TensorBuffer::new(self.datatype, self.shape.to_vec()))?
    }

    fn refuse(&self, index: u64, text: &str) -> DataError {
        DataError::Element { index, found: shortened(text), expected: expectation(self.datatype) }
    }
}

fn parse_bool(text: &str) -> Option<[u8; 1]> {
    match text {
        "true" => Some([1]),
        "false" => Some([0]),
        _ => None,
    }
}

fn parse_fp32(text: &str) -> Option<[u8; 4]> {
    text.parse::<f32>().ok().filter(|value| value.is_finite()).map(f32::to_le_bytes)
}

fn parse_fp64(text: &str) -> Option<[u8; 8]> {
    text.parse::<f64>().ok().filter(|value| value.is_finite()).map(f64::to_le_bytes)
}

fn push_string(data: &mut Vec<u8>, text: &str) -> Option<()> {
    let quoted = text.strip_prefix('"')?.strip_suffix('"')?;
    if quoted.contains('\\') {
        // Escapes may still be wrong here: half of a surrogate pair is valid JSON, but no text.
        push_bytes(data, serde_json::from_str::<String>(text).ok()?.as_bytes())
    } else {
        push_bytes(data, quoted.as_bytes())
    }
}

fn push_bytes(data: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let length = u32::try_from(bytes.len()).ok()?;
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(bytes);
    Some(())
}

/// What the datatype takes, as the end of a sentence.
fn expectation(datatype: Datatype) -> String {
    let integers = |minimum: i64, maximum: u64| {
        format!("{datatype} takes integers from {minimum} to {maximum}, written without fraction or exponent")
    };
    match datatype {
        Datatype::Bool => "BOOL takes true or false".into(),
        Datatype::Uint8 => integers(0, u8::MAX.into()),
        Datatype::Uint16 => integers(0, u16::MAX.into()),
        Datatype::Uint32 => integers(0, u32::MAX.into()),
        Datatype::Uint64 => integers(0, u64::MAX),
        Datatype::Int8 => integers(i8::MIN.into(), i8::MAX as u64),
        Datatype::Int16 => integers(i16::MIN.into(), i16::MAX as u64),
        Datatype::Int32 => integers(i32::MIN.into(), i32::MAX as u64),
        Datatype::Int64 => integers(i64::MIN, i64::MAX as u64),
        Datatype::Fp32 => format!("FP32 takes numbers from {:e} to {:e}", f32::MIN, f32::MAX),
        Datatype::Fp64 => format!("FP64 takes numbers from {:e} to {:e}", f64::MIN, f64::MAX),
        Datatype::Bytes => "BYTES takes strings of Unicode text".into(),
        Datatype::Fp16 | Datatype::Bf16 => format!("{datatype} has no JSON form"),
    }
}
