//! Rows of a table, and answers of a model, as JSON: an object with a field for each column.

use std::sync::Arc;

use arrow::array::{RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field};
use arrow::json::writer::{EncoderOptions, make_encoder};
use modelhost_core::{Datatype, Tensor};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

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
    let text = String::from_utf8(text).map_err(Error::internal)?;
    RawValue::from_string(text).map_err(Error::internal)
}

/// What a model answered to one row: each output without the dimension of the batch.
pub(super) fn outputs(outputs: &[(String, Tensor)]) -> Result<Box<RawValue>, Error> {
    let fields = outputs.iter().map(|(name, tensor)| (name.clone(), value_of(tensor)));
    to_raw_value(&fields.collect::<Map<String, Value>>()).map_err(Error::internal)
}

fn value_of(tensor: &Tensor) -> Value {
    let shape = match tensor.shape() {
        [1, rest @ ..] => rest,
        shape => shape,
    };
    let mut elements = elements(tensor).into_iter();
    nested(shape, &mut elements)
}

fn nested(shape: &[u64], elements: &mut impl Iterator<Item = Value>) -> Value {
    match shape {
        [] => elements.next().unwrap_or(Value::Null),
        [extent, rest @ ..] => (0..*extent).map(|_| nested(rest, elements)).collect(),
    }
}

fn elements(tensor: &Tensor) -> Vec<Value> {
    let data = tensor.data();
    macro_rules! numbers {
        ($type:ty) => {{
            let (chunks, _) = data.as_chunks::<{ size_of::<$type>() }>();
            chunks.iter().map(|bytes| Value::from(<$type>::from_le_bytes(*bytes))).collect()
        }};
    }
    macro_rules! halves {
        ($type:ty) => {{
            let (chunks, _) = data.as_chunks::<2>();
            chunks.iter().map(|bytes| Value::from(<$type>::from_le_bytes(*bytes).to_f32())).collect()
        }};
    }
    match tensor.datatype() {
        Datatype::Bool => data.iter().map(|byte| Value::from(*byte != 0)).collect(),
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
        Datatype::Fp32 => {
            let (chunks, _) = data.as_chunks::<4>();
            chunks.iter().map(|bytes| shortest(f32::from_le_bytes(*bytes))).collect()
        }
        Datatype::Fp64 => numbers!(f64),
        Datatype::Bytes => {
            tensor.bytes_elements().map(|bytes| String::from_utf8_lossy(bytes).into_owned().into()).collect()
        }
    }
}

/// As it is written in tables too: 0.1 and not 0.10000000149011612.
fn shortest(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
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

    #[test]
    fn outputs_look_like_a_row() {
        let scores =
            [0.1_f32, f32::INFINITY].iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
        let named = [
            ("items".to_owned(), Tensor::from_bytes_elements(vec![1, 2], &["a", "b"]).unwrap()),
            ("scores".to_owned(), Tensor::new(Datatype::Fp32, vec![1, 2], scores.into()).unwrap()),
            ("flag".to_owned(), Tensor::new(Datatype::Bool, vec![1], vec![1].into()).unwrap()),
            ("grid".to_owned(), Tensor::new(Datatype::Int8, vec![2, 2], vec![1, 2, 3, 255].into()).unwrap()),
        ];
        let expected = r#"{"flag":true,"grid":[[1,2],[3,-1]],"items":["a","b"],"scores":[0.1,null]}"#;
        assert_eq!(outputs(&named).unwrap().get(), expected);
    }
}
