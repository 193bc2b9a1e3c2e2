//! Softmax of short rows: the exponents of many rows are computed side by side, which a row alone is too short for.

use std::sync::Arc;

use tract_onnx::prelude::{Datum, DatumType, TValue, TVec, TractResult, TypedNode};
use tract_onnx::tract_core::internal::tvec;
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};

use super::Kernel;
use crate::tract::elements::{elements, filled};
use crate::tract::numeric::functions::Exponential;
use crate::tract::numeric::widest::{Loop, widest};

/// Longer rows are tract's.
const LONGEST: usize = 64;

pub(super) fn kernel(node: &TypedNode) -> Option<Arc<dyn Kernel>> {
    let softmax = node.op_as::<Softmax>()?;
    let [axis] = *softmax.axes else { return None };
    let is_plain = softmax.kind == SoftmaxKind::Softmax && softmax.quant_output_dt.is_none();
    let is_last = axis + 1 == node.outputs.first()?.fact.rank();
    (is_plain && is_last).then(|| OfRows.shared())
}

#[derive(Debug)]
struct OfRows;

impl Kernel for OfRows {
    fn run(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        let [input] = inputs else { return Ok(None) };
        let length = input.shape().last().copied().unwrap_or(0);
        if length == 0 || length > LONGEST {
            return Ok(None);
        }
        let output = match input.datum_type() {
            DatumType::F32 => normalised::<f32>(input, length)?,
            DatumType::F64 => normalised::<f64>(input, length)?,
            _ => return Ok(None),
        };
        Ok(Some(tvec!(output)))
    }
}

fn normalised<T: Exponential + Datum>(input: &TValue, length: usize) -> TractResult<TValue> {
    let input_elements = elements::<T>(input)?;
    filled(input.shape(), |output| widest(Normalise { input: input_elements, length, output }))
}

struct Normalise<'a, T> {
    input: &'a [T],
    length: usize,
    output: &'a mut [T],
}

impl<T: Exponential> Loop for Normalise<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let rows = self.input.chunks_exact(self.length);
        for (row, output) in rows.zip(self.output.chunks_exact_mut(self.length)) {
            let larger = |a: T, b: T| if b > a { b } else { a };
            let largest = row.iter().copied().fold(T::neg_infinity(), larger);
            output.iter_mut().zip(row).for_each(|(output, value)| *output = *value - largest);
        }
        T::exponentials::<FUSED>(self.output);
        for row in self.output.chunks_exact_mut(self.length) {
            let sum = row.iter().copied().fold(T::zero(), |sum, value| sum + value);
            row.iter_mut().for_each(|value| *value = *value / sum);
        }
    }
}
