//! The row of a feature table as the inputs of a model: columns are inputs of the same name, the row is a batch of one.

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{ArrowNativeType as _, DataType};
use modelhost_core::{ErrorCode, Signature, Tensor, TensorDescription};
use modelhost_serving::NamedTensors;

use super::tensors::tensor;
use crate::Error;
use crate::jobs::convert::{convert, shown};

/// The inputs that a signature asks for, from a batch with one row.
///
/// # Errors
/// [`ErrorCode::Unprocessable`] for an input without a column, or with one that does not fit, or is null.
pub(super) fn inputs(signature: &Signature, row: &RecordBatch) -> Result<NamedTensors, Error> {
    let input = |input: &TensorDescription| {
        let refused = |reason: String| {
            let sentence = format!("input {:?} cannot be had from the feature table: {reason}", input.name);
            Error::new(ErrorCode::Unprocessable, sentence)
        };
        let column =
            row.column_by_name(&input.name).ok_or_else(|| refused("it has no such column".to_owned()))?;
        Ok((input.name.clone(), input_of(input, column).map_err(refused)?))
    };
    signature.inputs.iter().map(input).collect()
}

fn input_of(input: &TensorDescription, column: &ArrayRef) -> Result<Tensor, String> {
    if column.is_null(0) {
        return Err("its value is null".to_owned());
    }
    let mut values = column.clone();
    // Of one row, and of lists in lists all one after the other: the shape says how they are cut.
    while let DataType::List(_) = values.data_type() {
        let lists = values.as_list::<i32>();
        if lists.null_count() > 0 {
            return Err("a list in its list is null".to_owned());
        }
        let (start, end) =
            (lists.value_offsets()[0].as_usize(), lists.value_offsets()[lists.len()].as_usize());
        values = lists.values().slice(start, end - start);
    }
    if values.null_count() > 0 {
        return Err("an element of its list is null".to_owned());
    }
    let converted = convert(&values, input.datatype).map_err(|error| error.to_string())?;
    if let Some(misfit) = converted.misfits.first() {
        return Err(format!("{} is no {}", shown(&values, *misfit), input.datatype));
    }
    let values = converted.values;
    let shape = shape(&input.shape, values.len() as u64).ok_or_else(|| {
        format!("it has {} elements, which fit no shape {:?} of one row", values.len(), input.shape)
    })?;
    tensor(&values, shape).map_err(|error| error.message)
}

/// The shape of one row with this many elements. Of the free dimensions behind the batch there may be one.
fn shape(described: &[i64], elements: u64) -> Option<Vec<u64>> {
    let [batch, rest @ ..] = described else { return (elements == 1).then(Vec::new) };
    let fixed = product(rest.iter().filter_map(|extent| u64::try_from(*extent).ok()))?;
    let free = rest.iter().filter(|extent| **extent < 0).count();
    let of_free = if free == 0 { 1 } else { elements.checked_div(fixed)? };
    let extent = |extent: &i64| u64::try_from(*extent).unwrap_or(of_free);
    let shape: Vec<u64> = std::iter::once(1).chain(rest.iter().map(extent)).collect();
    let fits = free <= 1 && matches!(batch, -1 | 1) && product(shape.iter().copied()) == Some(elements);
    fits.then_some(shape)
}

/// None where no machine counts so far.
fn product(mut extents: impl Iterator<Item = u64>) -> Option<u64> {
    extents.try_fold(1_u64, u64::checked_mul)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, Int64Builder, ListArray, ListBuilder, StringArray};
    use arrow::datatypes::Int64Type;
    use modelhost_core::Datatype;

    use super::*;

    fn described(name: &str, datatype: Datatype, shape: &[i64]) -> TensorDescription {
        TensorDescription { name: name.into(), datatype, shape: shape.to_vec() }
    }

    fn row() -> RecordBatch {
        let items = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(3), Some(4)])]);
        let mut grid = ListBuilder::new(ListBuilder::new(Int64Builder::new()));
        for row in [[1, 2], [3, 4]] {
            grid.values().values().append_slice(&row);
            grid.values().append(true);
        }
        grid.append(true);
        let columns: [(&str, ArrayRef); 7] = [
            ("grid", Arc::new(grid.finish())),
            ("real", Arc::new(Float64Array::from(vec![1.9]))),
            ("age", Arc::new(Int64Array::from(vec![41]))),
            ("name", Arc::new(StringArray::from(vec!["ada"]))),
            ("items", Arc::new(items)),
            ("pay", Arc::new(Float64Array::from(vec![None]))),
            ("huge", Arc::new(Int64Array::from(vec![1 << 40]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
    }

    #[test]
    fn columns_become_inputs_of_the_described_type_and_shape() {
        let signature = Signature {
            inputs: vec![
                described("age", Datatype::Fp32, &[-1, 1]),
                described("name", Datatype::Bytes, &[-1]),
                described("items", Datatype::Int32, &[-1, -1]),
                described("grid", Datatype::Int8, &[-1, 2, 2]),
            ],
            outputs: vec![],
        };
        let inputs = inputs(&signature, &row()).unwrap();
        let shapes: Vec<(&str, &[u64])> =
            inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.shape())).collect();
        let expected = [("age", &[1, 1][..]), ("name", &[1]), ("items", &[1, 2]), ("grid", &[1, 2, 2])];
        assert_eq!(shapes, expected);
        assert_eq!(inputs[0].1.data().as_ref(), 41_f32.to_le_bytes());
        assert_eq!(inputs[2].1.data().as_ref(), [3, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(inputs[3].1.data().as_ref(), [1, 2, 3, 4]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = |input| {
            let signature = Signature { inputs: vec![input], outputs: vec![] };
            inputs(&signature, &row()).unwrap_err().message
        };
        let cases = [
            (
                described("height", Datatype::Fp32, &[-1]),
                "\"height\" cannot be had from the feature table: it has no such column",
            ),
            (described("pay", Datatype::Fp32, &[-1]), "its value is null"),
            (described("name", Datatype::Fp32, &[-1]), "ada"),
            (described("huge", Datatype::Int32, &[-1]), "1099511627776 is no INT32"),
            // As in a job, and as in a request: nothing is cut off.
            (described("real", Datatype::Int32, &[-1]), "1.9 is no INT32"),
            (
                described("items", Datatype::Int32, &[-1, 3]),
                "it has 2 elements, which fit no shape [-1, 3] of one row",
            ),
            (described("age", Datatype::Bf16, &[-1]), "BF16"),
        ];
        for (input, sentence) in cases {
            let message = refused(input);
            assert!(message.contains(sentence), "{message}");
        }
    }

    #[test]
    fn one_free_dimension_is_found() {
        assert_eq!(shape(&[-1], 1), Some(vec![1]));
        assert_eq!(shape(&[-1], 2), None);
        assert_eq!(shape(&[-1, 2, -1], 6), Some(vec![1, 2, 3]));
        assert_eq!(shape(&[-1, -1, -1], 6), None);
        assert_eq!(shape(&[2, -1], 6), None);
        assert_eq!(shape(&[-1, 0, -1], 0), None);
        assert_eq!(shape(&[-1, 4], 4), Some(vec![1, 4]));
        // 2^32 × 2^32 is 0 where it is counted in 64 bits only.
        assert_eq!(shape(&[-1, 1 << 32, 1 << 32], 0), None);
    }
}
