//! TopK along the last axis, for few elements of each row.

use std::sync::Arc;

use tract_onnx::prelude::{Datum, DatumType, TValue, TVec, TractResult, TypedNode};
use tract_onnx::tract_core::internal::tvec;
use tract_onnx::tract_core::ops::array::Topk;

use super::Kernel;
use crate::tract::elements::{elements, tensor};

pub(super) fn kernel(node: &TypedNode) -> Option<Arc<dyn Kernel>> {
    let top = node.op_as::<Topk>()?;
    let is_last = top.axis + 1 == node.outputs.first()?.fact.rank();
    is_last.then(|| TopK { largest: top.largest }.shared())
}

#[derive(Debug)]
struct TopK {
    largest: bool,
}

impl Kernel for TopK {
    fn run(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        let [input, count] = inputs else { return Ok(None) };
        let count = usize::try_from(count.cast_to_scalar::<i64>()?).unwrap_or(usize::MAX);
        let width = input.shape().last().copied().unwrap_or(0);
        if count > width || width == 0 {
            return Ok(None);
        }
        match (input.datum_type(), self.largest) {
            (DatumType::F32, true) => found(input, count, |new: f32, old: f32| new > old),
            (DatumType::F32, false) => found(input, count, |new: f32, old: f32| new < old),
            (DatumType::F64, true) => found(input, count, |new: f64, old: f64| new > old),
            (DatumType::F64, false) => found(input, count, |new: f64, old: f64| new < old),
            (DatumType::I64, true) => found(input, count, |new: i64, old: i64| new > old),
            (DatumType::I64, false) => found(input, count, |new: i64, old: i64| new < old),
            _ => Ok(None),
        }
    }
}

/// From this number of elements on it is cheaper to sort each row than to insert one element after the other.
const MANY: usize = 64;

fn found<T: Datum + Copy + PartialOrd>(
    input: &TValue,
    count: usize,
    is_better: impl Fn(T, T) -> bool + Copy,
) -> TractResult<Option<TVec<TValue>>> {
    if count == 0 || count > MANY {
        return Ok(None);
    }
    // What is no number comes last.
    #[allow(clippy::eq_op, reason = "only NaN differs from itself")]
    let is_better = move |new: T, old: T| is_better(new, old) || (old != old && new == new);
    let mut shape: TVec<usize> = input.shape().into();
    let Some(width) = shape.last_mut().map(|last| std::mem::replace(last, count)) else { return Ok(None) };
    let length = shape.iter().product();
    let (mut values, mut places) = (Vec::with_capacity(length), Vec::with_capacity(length));
    for row in elements::<T>(input)?.chunks_exact(width) {
        let start = values.len();
        for (place, value) in row.iter().enumerate() {
            if place < count {
                values.push(*value);
                places.push(place as i64);
            } else if !is_better(*value, values[start + count - 1]) {
                continue;
            }
            let mut at = start + place.min(count - 1);
            while at > start && is_better(*value, values[at - 1]) {
                (values[at], places[at]) = (values[at - 1], places[at - 1]);
                at -= 1;
            }
            (values[at], places[at]) = (*value, place as i64);
        }
    }
    Ok(Some(tvec!(tensor(&shape, values)?, tensor(&shape, places)?)))
}
