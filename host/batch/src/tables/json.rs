//! Rows of a table, and answers of a model, as JSON: an object with a field for each column.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arrow::array::{RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field};
use arrow::json::writer::{EncoderOptions, make_encoder};
use modelhost_core::{Datatype, ErrorCode, Tensor};
use serde::Serialize;
use serde_json::Map;
use serde_json::value::{RawValue, to_raw_value};

use crate::Error;

/// One row, without its key, which is the first column. Numbers that JSON does not have are null.
///
/// # Errors
/// A column that has no JSON form, which no stored one is.
pub(super) fn row(rows: &RecordBatch, row: usize) -> Result<Box<RawValue>, Error> {
    let columns: Vec<usize> = (1..rows.num_columns()).collect();
    let row = rows.slice(row, 1).project(&columns).map_err(Error::internal)?;
    if columns.is_empty() {
        return to_raw_value(&Map::new()).map_err(Error::internal);
    }
    let row = StructArray::from(row);
    let field = Arc::new(Field::new("row", DataType::Struct(row.fields().clone()), false));
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, &row, &options).map_err(Error::internal)?;
    let mut text = Vec::new();
    encoder.encode(0, &mut text);
    finished(text)
}

/// What a model answered to one row: each output without the dimension of the batch. Takes its bytes from those that are
/// left, which others take theirs from meanwhile.
///
/// # Errors
/// [`ErrorCode::TooLarge`] where it would be more; then it takes none.
pub(super) fn outputs(
    outputs: &[(String, Tensor)],
    bytes_left: &AtomicUsize,
) -> Result<Box<RawValue>, Error> {
    let mut text = Limited { text: Vec::new(), left: bytes_left };
    let written = write_outputs(outputs, &mut text);
    let Limited { text, .. } = text;
    match written {
        Ok(()) => finished(text),
        Err(_) => {
            bytes_left.fetch_add(text.len(), Relaxed);
            let sentence =
                "the answers of the model to this lookup are too large: look up fewer keys at once";
            Err(Error::new(ErrorCode::TooLarge, sentence))
        }
    }
}

fn finished(text: Vec<u8>) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(String::from_utf8(text).map_err(Error::internal)?).map_err(Error::internal)
}

/// A text that grows as long as there are bytes left.
struct Limited<'a> {
    text: Vec<u8>,
    left: &'a AtomicUsize,
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = |left: usize| left.checked_sub(bytes.len());
        match self.left.fetch_update(Relaxed, Relaxed, take) {
            Ok(_) => self.text.write(bytes),
            Err(_) => Err(io::ErrorKind::QuotaExceeded.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_outputs(outputs: &[(String, Tensor)], text: &mut Limited<'_>) -> io::Result<()> {
    let mut before = b"{";
    for (name, tensor) in outputs {
        text.write_all(before)?;
        write_value(name, text)?;
        text.write_all(b":")?;
        write_tensor(tensor, text)?;
        before = b",";
    }
    text.write_all(if outputs.is_empty() { b"{}" } else { b"}" })
}

fn write_value(value: &(impl Serialize + ?Sized), text: &mut Limited<'_>) -> io::Result<()> {
    Ok(serde_json::to_writer(text, value)?)
}

fn write_tensor(tensor: &Tensor, text: &mut Limited<'_>) -> io::Result<()> {
    let shape = match tensor.shape() {
        [1, rest @ ..] => rest,
        shape => shape,
    };
    // However many lists without elements the shape says there are.
    if shape.contains(&0) {
        return text.write_all(b"[]");
    }
    let data = tensor.data();
    macro_rules! numbers {
        ($type:ty) => {{
            let (chunks, _) = data.as_chunks::<{ size_of::<$type>() }>();
            write_nested(shape, &mut chunks.iter().map(|bytes| <$type>::from_le_bytes(*bytes)), text)
        }};
    }
    macro_rules! halves {
        ($type:ty) => {{
            let (chunks, _) = data.as_chunks::<2>();
            write_nested(shape, &mut chunks.iter().map(|bytes| <$type>::from_le_bytes(*bytes).to_f32()), text)
        }};
    }
    match tensor.datatype() {
        Datatype::Bool => write_nested(shape, &mut data.iter().map(|byte| *byte != 0), text),
        Datatype::Uint8 => numbers!(u8),
        Datatype::Uint16 => numbers!(u16),
        Datatype::Uint32 => numbers!(u32),
        Datatype::Uint64 => numbers!(u64),
        Datatype::Int8 => numbers!(i8),
        Datatype::Int16 => numbers!(i16),
        Datatype::Int32 => numbers!(i32),
        Datatype::Int64 => numbers!(i64),
        Datatype::Fp16 => halves!(half::f16),
        Datatype::Bf16 => halves!(half::bf16),
        // As it is written in tables too: 0.1 and not 0.10000000149011612.
        Datatype::Fp32 => numbers!(f32),
        Datatype::Fp64 => numbers!(f64),
        Datatype::Bytes => {
            write_nested(shape, &mut tensor.bytes_elements().map(String::from_utf8_lossy), text)
        }
    }
}

/// As many elements as the shape says, of which no extent is 0; it is no deeper than tensors may be.
fn write_nested<T: Serialize>(
    shape: &[u64],
    elements: &mut impl Iterator<Item = T>,
    text: &mut Limited<'_>,
) -> io::Result<()> {
    let [extent, rest @ ..] = shape else { return write_value(&elements.next(), text) };
    for index in 0..*extent {
        text.write_all(if index == 0 { b"[" } else { b"," })?;
        write_nested(rest, elements, text)?;
    }
    text.write_all(b"]")
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float32Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Float32Type;

    use super::*;

    #[test]
    fn a_row_is_an_object_of_its_columns() {
        let lists = [Some(vec![Some(0.1), None]), None];
        let columns: [(&str, ArrayRef); 4] = [
            ("key", Arc::new(Int64Array::from(vec![1, 2]))),
            ("name", Arc::new(StringArray::from(vec![Some("a\"ä"), None]))),
            ("scores", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists))),
            ("odd", Arc::new(Float32Array::from(vec![f32::NAN, 1.0]))),
        ];
        let rows =
            RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)));
        let rows = rows.unwrap();
        let text = |index| row(&rows, index).unwrap().get().to_owned();
        assert_eq!(text(0), r#"{"name":"a\"ä","scores":[0.1,null],"odd":null}"#);
        assert_eq!(text(1), r#"{"name":null,"scores":null,"odd":1.0}"#);
    }

    fn named() -> [(String, Tensor); 4] {
        let scores =
            [0.1_f32, f32::INFINITY].iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
        [
            ("items".to_owned(), Tensor::from_bytes_elements(vec![1, 2], &["a", "b\""]).unwrap()),
            ("scores".to_owned(), Tensor::new(Datatype::Fp32, vec![1, 2], scores.into()).unwrap()),
            ("flag".to_owned(), Tensor::new(Datatype::Bool, vec![1], vec![1].into()).unwrap()),
            ("grid".to_owned(), Tensor::new(Datatype::Int8, vec![2, 2], vec![1, 2, 3, 255].into()).unwrap()),
        ]
    }

    #[test]
    fn outputs_look_like_a_row() {
        let expected = r#"{"items":["a","b\""],"scores":[0.1,null],"flag":true,"grid":[[1,2],[3,-1]]}"#;
        let left = AtomicUsize::new(1_000);
        assert_eq!(outputs(&named(), &left).unwrap().get(), expected);
        assert_eq!(left.into_inner(), 1_000 - expected.len());
        assert_eq!(outputs(&[], &AtomicUsize::new(2)).unwrap().get(), "{}");
    }

    #[test]
    fn what_is_more_than_is_left_is_refused_and_takes_nothing() {
        let expected = outputs(&named(), &AtomicUsize::new(1_000)).unwrap();
        for left in 0..expected.get().len() {
            let bytes_left = AtomicUsize::new(left);
            assert_eq!(outputs(&named(), &bytes_left).unwrap_err().code, ErrorCode::TooLarge);
            assert_eq!(bytes_left.into_inner(), left);
        }
    }

    /// A loop over what these shapes declare would not come to its end.
    #[test]
    fn an_empty_tensor_is_an_empty_list_whatever_its_shape_says() {
        for shape in [vec![1, 4_000_000_000, 0], vec![0, u64::MAX], vec![1, 0], vec![u32::MAX.into(), 0, 7]] {
            let named =
                [("empty".to_owned(), Tensor::new(Datatype::Fp32, shape, Default::default()).unwrap())];
            assert_eq!(outputs(&named, &AtomicUsize::new(1_000)).unwrap().get(), r#"{"empty":[]}"#);
        }
    }
}
