//! Sums, products, largest and smallest numbers along axes that lie together.

use std::sync::Arc;

use tract_onnx::prelude::tract_num_traits::Float;
use tract_onnx::prelude::{Datum, DatumType, TValue, TVec, TractResult, TypedNode};
use tract_onnx::tract_core::internal::tvec;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

use super::Kernel;
use crate::tract::elements::{elements, filled};
use crate::tract::numeric::lanes::{Lanes, fold};
use crate::tract::numeric::widest::{Loop, widest};

pub(super) fn kernel(node: &TypedNode) -> Option<Arc<dyn Kernel>> {
    let reduce = node.op_as::<Reduce>()?;
    let fold = match reduce.reducer {
        Reducer::Sum => Fold::Sum,
        Reducer::Prod => Fold::Product,
        _ => return None,
    };
    Some(Reduction { fold, axes: reduce.axes.to_vec() }.shared())
}

#[derive(Clone, Copy, Debug)]
enum Fold {
    Sum,
    Product,
}

#[derive(Debug)]
struct Reduction {
    fold: Fold,
    axes: Vec<usize>,
}

impl Kernel for Reduction {
    fn run(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        let [input] = inputs else { return Ok(None) };
        let Some(lanes) = Lanes::new(input.shape(), &self.axes) else { return Ok(None) };
        let output = match input.datum_type() {
            DatumType::F32 => self.reduced::<f32>(input, &lanes)?,
            DatumType::F64 => self.reduced::<f64>(input, &lanes)?,
            _ => return Ok(None),
        };
        Ok(Some(tvec!(output)))
    }
}

impl Reduction {
    fn reduced<T: Datum + Float>(&self, input: &TValue, lanes: &Lanes) -> TractResult<TValue> {
        let numbers = elements::<T>(input)?;
        filled(lanes.shape(), |output| widest(FoldAll { fold: self.fold, lanes, numbers, output }))
    }
}

struct FoldAll<'a, T> {
    fold: Fold,
    lanes: &'a Lanes,
    numbers: &'a [T],
    output: &'a mut [T],
}

impl<T: Float> Loop for FoldAll<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let FoldAll { fold: kind, lanes, numbers, output } = self;
        match kind {
            Fold::Sum => fold(lanes, numbers, output, T::zero(), |a, b| a + b),
            Fold::Product => fold(lanes, numbers, output, T::one(), |a, b| a * b),
        }
    }
}
