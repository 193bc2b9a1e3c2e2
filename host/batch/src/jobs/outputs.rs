//! The output tensors of a model as columns: their types, known from the signature, and their values, which share the
//! buffers of the tensors where they can. Knows no calls and no files.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, ListArray, StringBuilder,
    make_array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use modelhost_core::{Datatype, ErrorCode, Signature, Tensor, TensorDescription};
use modelhost_serving::{Error, NamedTensors};

use super::convert::arrow_type;
use super::fault::Fault;

/// How answers become columns.
pub(crate) struct Outputs {
    outputs: Vec<Output>,
    is_batched: bool,
}

struct Output {
    name: String,
    datatype: Datatype,
    /// The extents of one row's elements; -1 where they may be any.
    dims: Vec<i64>,
    /// Whether a call of one row answers with the row as a dimension of extent 1.
    has_rows: bool,
    field: Arc<Field>,
}

impl Outputs {
    /// The columns that a model's answers make, under the names of `renamed` where it has one.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] where `renamed` names an output that there is none of.
    pub(crate) fn new(
        signature: &Signature,
        renamed: &BTreeMap<String, String>,
        is_batched: bool,
    ) -> Result<Outputs, Error> {
        let is_known = |name: &str| signature.outputs.iter().any(|output| output.name == name);
        if let Some(unknown) = renamed.keys().find(|name| !is_known(name)) {
            let message = format!("the model has no output {unknown:?} that could have another name");
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        let output = |described: &TensorDescription| {
            let TensorDescription { name, datatype, shape } = described;
            let has_rows = is_batched || shape.first() == Some(&1);
            let dims = if has_rows { shape.get(1..).unwrap_or_default() } else { shape.as_slice() };
            let column = renamed.get(name).unwrap_or(name);
            let field = Arc::new(Field::new(column, column_type(*datatype, dims), true));
            Output { name: name.clone(), datatype: *datatype, dims: dims.to_vec(), has_rows, field }
        };
        Ok(Outputs { outputs: signature.outputs.iter().map(output).collect(), is_batched })
    }

    /// The columns, in the order of the signature.
    pub(crate) fn fields(&self) -> impl Iterator<Item = Arc<Field>> {
        self.outputs.iter().map(|output| output.field.clone())
    }

    /// The columns of an answer for so many rows, in the order of [`Outputs::fields`].
    ///
    /// # Errors
    /// An answer that has another number of rows, or texts that are none.
    pub(crate) fn columns(&self, answer: &NamedTensors, rows: usize) -> Result<Vec<ArrayRef>, Fault> {
        let column = |output: &Output| {
            let find = |(name, _): &&(String, Tensor)| *name == output.name;
            let (_, tensor) = answer.iter().find(find).ok_or_else(|| {
                Fault::new(Fault::CONTRACT, format!("the answer has no output {:?}", output.name))
            })?;
            output.column(tensor, rows, self.is_batched)
        };
        self.outputs.iter().map(column).collect()
    }
}

/// What holds elements of this datatype and these extents.
fn column_type(datatype: Datatype, dims: &[i64]) -> DataType {
    let leaf = arrow_type(datatype).unwrap_or(DataType::Float32);
    dims.iter().rev().fold(leaf, |inner, dim| {
        let item = Arc::new(Field::new("item", inner, true));
        match fixed(*dim) {
            Some(length) => DataType::FixedSizeList(item, length),
            None => DataType::List(item),
        }
    })
}

/// The length of lists that all have the same. Empty lists are not worth a layout of their own.
fn fixed(dim: i64) -> Option<i32> {
    i32::try_from(dim).ok().filter(|length| *length > 0)
}

impl Output {
    fn column(&self, tensor: &Tensor, rows: usize, is_batched: bool) -> Result<ArrayRef, Fault> {
        let shape = tensor.shape();
        let extents = match shape.split_first() {
            Some((first, rest)) if self.has_rows && *first == rows as u64 => rest,
            _ if !self.has_rows => shape,
            _ => {
                let asked = if is_batched { format!("{rows} rows") } else { "one row".to_owned() };
                let reason = format!("output {:?} has shape {shape:?}: expected {asked}", self.name);
                return Err(Fault::new(Fault::CONTRACT, reason));
            }
        };
        let mut column = self.elements(tensor)?;
        let mut lists = tensor_lists(rows, extents);
        let inner_first = self.dims.iter().zip(extents).rev();
        for (dim, extent) in inner_first {
            // As many as there are one level further out.
            let count = lists.pop().unwrap_or(rows);
            column = listed(column, *dim, *extent, count)
                .map_err(|reason| Fault::new(Fault::CONTRACT, format!("output {:?}: {reason}", self.name)))?;
        }
        Ok(column)
    }

    fn elements(&self, tensor: &Tensor) -> Result<ArrayRef, Fault> {
        match self.datatype {
            Datatype::Bytes => self.texts(tensor),
            Datatype::Bool => Ok(Arc::new(BooleanArray::from(
                tensor.data().iter().map(|byte| *byte != 0).collect::<Vec<_>>(),
            ))),
            Datatype::Bf16 => {
                let (halves, _) = tensor.data().as_chunks::<2>();
                // The upper half of a single-precision number.
                let single = |half: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*half)) << 16);
                Ok(Arc::new(halves.iter().map(single).collect::<Float32Array>()))
            }
            datatype => numbers(tensor, datatype).map_err(|reason| Fault::new(Fault::CONTRACT, reason)),
        }
    }

    fn texts(&self, tensor: &Tensor) -> Result<ArrayRef, Fault> {
        let mut builder = StringBuilder::with_capacity(0, tensor.data().len());
        for bytes in tensor.bytes_elements() {
            let text = std::str::from_utf8(bytes).map_err(|_| {
                Fault::new(Fault::NOT_TEXT, format!("output {:?} is not UTF-8: expected text", self.name))
            })?;
            builder.append_value(text);
        }
        Ok(Arc::new(builder.finish()))
    }
}

/// How many lists there are at each level, outermost first.
fn tensor_lists(rows: usize, extents: &[u64]) -> Vec<usize> {
    let mut count = rows;
    let level = |extent: &u64| {
        let lists = count;
        count = count.saturating_mul(usize::try_from(*extent).unwrap_or(usize::MAX));
        lists
    };
    extents.iter().map(level).collect()
}

fn listed(values: ArrayRef, dim: i64, extent: u64, count: usize) -> Result<ArrayRef, String> {
    let said = |error: arrow::error::ArrowError| error.to_string();
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    if let Some(length) = fixed(dim) {
        let lists = FixedSizeListArray::try_new(field, length, values, None).map_err(said)?;
        return Ok(Arc::new(lists));
    }
    let length = usize::try_from(extent).map_err(|_| format!("{extent} elements are too many"))?;
    if i32::try_from(count.saturating_mul(length)).is_err() {
        return Err("the answer has more elements than a column of lists can hold".to_owned());
    }
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length, count));
    Ok(Arc::new(ListArray::try_new(field, offsets, values, None).map_err(said)?))
}

/// The elements of a tensor of numbers, where they lie, if they lie as Arrow wants them.
fn numbers(tensor: &Tensor, datatype: Datatype) -> Result<ArrayRef, String> {
    let data_type = arrow_type(datatype).ok_or_else(|| format!("{datatype} has no column"))?;
    let size = datatype.size().unwrap_or(1);
    let is_aligned = tensor.data().as_ptr().addr().is_multiple_of(size);
    let buffer =
        if is_aligned { Buffer::from(tensor.data().clone()) } else { Buffer::from(tensor.data().as_ref()) };
    let data = arrow::array::ArrayData::builder(data_type).len(tensor.data().len() / size).add_buffer(buffer);
    Ok(make_array(data.build().map_err(|error| error.to_string())?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float32Type, Int64Type};

    use super::*;

    fn outputs(datatype: Datatype, shape: &[i64], is_batched: bool) -> Outputs {
        let output = TensorDescription { name: "y".into(), datatype, shape: shape.to_vec() };
        let signature = Signature { inputs: vec![], outputs: vec![output] };
        Outputs::new(&signature, &BTreeMap::new(), is_batched).unwrap()
    }

    fn answer(datatype: Datatype, shape: &[u64], data: Vec<u8>) -> NamedTensors {
        vec![("y".to_owned(), Tensor::new(datatype, shape.to_vec(), data.into()).unwrap())]
    }

    fn singles(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn every_row_has_its_elements() {
        let plan = outputs(Datatype::Fp32, &[-1, -1, 2], true);
        let expected = plan.fields().next().unwrap().data_type().clone();
        let data = singles(&(0..24).map(|number| number as f32).collect::<Vec<_>>());
        let columns = plan.columns(&answer(Datatype::Fp32, &[4, 3, 2], data), 4).unwrap();
        assert_eq!((columns[0].data_type(), columns[0].len()), (&expected, 4));
        let last = columns[0].as_list::<i32>().value(3);
        let pair = last.as_fixed_size_list().value(2);
        assert_eq!(pair.as_primitive::<Float32Type>().values(), &[22.0, 23.0]);
        let none = plan.columns(&answer(Datatype::Fp32, &[4, 0, 2], vec![]), 4).unwrap();
        assert_eq!((none[0].len(), none[0].as_list::<i32>().value(1).len()), (4, 0));
    }

    #[test]
    fn buffers_are_shared_unless_they_lie_askew() {
        let plan = outputs(Datatype::Int64, &[-1], true);
        let bytes = bytes::Bytes::from(vec![1_u8; 25]);
        for offset in [0, 1] {
            let data = bytes.slice(offset..offset + 24);
            let tensor = Tensor::new(Datatype::Int64, vec![3], data.clone()).unwrap();
            let columns = plan.columns(&vec![("y".to_owned(), tensor)], 3).unwrap();
            let values = columns[0].as_primitive::<Int64Type>().values();
            assert_eq!(values[2], 0x0101_0101_0101_0101);
            let is_shared = values.inner().as_ptr() == data.as_ptr();
            assert_eq!(is_shared, data.as_ptr().addr().is_multiple_of(8));
        }
    }

    #[test]
    fn a_call_of_one_row_answers_with_or_without_it() {
        let with = outputs(Datatype::Fp32, &[1, 2], false);
        let columns = with.columns(&answer(Datatype::Fp32, &[1, 2], singles(&[1.0, 2.0])), 1).unwrap();
        assert_eq!((columns[0].len(), columns[0].as_fixed_size_list().value_length()), (1, 2));
        let scalar = outputs(Datatype::Fp32, &[], false);
        let columns = scalar.columns(&answer(Datatype::Fp32, &[], singles(&[1.0])), 1).unwrap();
        assert_eq!(columns[0].as_primitive::<Float32Type>().values(), &[1.0]);
    }

    #[test]
    fn answers_that_are_not_rows_of_text_are_faults() {
        let plan = outputs(Datatype::Bytes, &[-1], true);
        let texts = Tensor::from_bytes_elements(vec![2], &[&b"a"[..], b"\xff"]).unwrap();
        let fault = plan.columns(&vec![("y".to_owned(), texts.clone())], 2).unwrap_err();
        assert_eq!(fault.code, Fault::NOT_TEXT);
        let fault = plan.columns(&vec![("y".to_owned(), texts)], 3).unwrap_err();
        assert_eq!(
            (fault.code, &*fault.reason),
            (Fault::CONTRACT, "output \"y\" has shape [2]: expected 3 rows")
        );
    }
}
