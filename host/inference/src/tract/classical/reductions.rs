//! Reductions that tract computes wrongly where numbers are large or infinite: ReduceMax, ReduceMin and ReduceLogSumExp of
//! FP32 and FP64.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{Datum, DatumType, SpecialOps, TDim, TValue, TVec, TractResult, TypedModel};
use tract_onnx::tract_core::internal::{AxisOp, OutletId, bail, ensure, format_err, tvec};

use super::attributes::{integer, integers};
use super::operator::{Built, Described, KeptAxes, Operator, wired};
use super::types::{OfTypes, REALS, built};
use super::values;
use crate::tract::numeric::functions::Exponential;
use crate::tract::numeric::lanes::{Lanes, fold};
use crate::tract::numeric::widest::{Loop, widest};

pub(super) fn reduce_max(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    reduce(context, node, Reducer::Max)
}

pub(super) fn reduce_min(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    reduce(context, node, Reducer::Min)
}

pub(super) fn reduce_log_sum_exp(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    reduce(context, node, Reducer::LogSumExp)
}

fn reduce(context: &ParsingContext<'_>, node: &NodeProto, reducer: Reducer) -> Built {
    let reduction = Reduction {
        reducer,
        // From version 18 on the axes are an input. Without any all axes are reduced, unless that is switched off.
        axes: integers(node, "axes")?.to_vec(),
        keeps_dimensions: integer(node, "keepdims", 1)? != 0,
        may_be_none: integer(node, "noop_with_empty_axes", 0)? != 0,
    };
    built(context, node, reduction)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reducer {
    Max,
    Min,
    LogSumExp,
}

#[derive(Clone, Debug)]
struct Reduction {
    reducer: Reducer,
    axes: Vec<i64>,
    keeps_dimensions: bool,
    may_be_none: bool,
}

impl OfTypes for Reduction {
    fn name(&self) -> &'static str {
        self.reducer.name()
    }

    fn types(&self) -> &'static [DatumType] {
        REALS
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let rank = model.outlet_fact(inputs[0])?.rank();
        let axes = self.resolved(model, inputs, rank)?;
        let reduce = Reduce { reducer: self.reducer, axes: axes.clone() };
        let mut wire = wired(reduce, prefix, model, &inputs[..1])?;
        if !self.keeps_dimensions {
            for axis in axes.into_iter().rev() {
                wire = model.wire_node(format!("{prefix}.without-{axis}"), AxisOp::Rm(axis), &wire)?;
            }
        }
        Ok(wire)
    }
}

impl Reduction {
    /// The axes, sorted, each once.
    fn resolved(&self, model: &TypedModel, inputs: &[OutletId], rank: usize) -> TractResult<Vec<usize>> {
        let mut axes = self.axes.clone();
        if let Some(input) = inputs.get(1) {
            let constant = model.outlet_fact(*input)?.konst.clone();
            let constant =
                constant.ok_or_else(|| format_err!("{}: the axes are not constant", self.reducer.name()))?;
            axes = values::elements::<i64>(&*constant.cast_to::<i64>()?)?.to_vec();
        }
        if axes.is_empty() && !self.may_be_none {
            return Ok((0..rank).collect());
        }
        let place = |axis: &i64| {
            let place = if *axis < 0 { axis.checked_add(rank as i64) } else { Some(*axis) };
            let place = place.and_then(|place| usize::try_from(place).ok()).filter(|place| *place < rank);
            place.ok_or_else(|| format_err!("{}: there is no axis {axis}", self.reducer.name()))
        };
        let mut places: Vec<usize> = axes.iter().map(place).collect::<TractResult<_>>()?;
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }
}

impl Reducer {
    fn name(self) -> &'static str {
        match self {
            Reducer::Max => "ReduceMax",
            Reducer::Min => "ReduceMin",
            Reducer::LogSumExp => "ReduceLogSumExp",
        }
    }
}

/// The reduction itself. Reduced axes stay, with one element.
#[derive(Clone, Debug)]
struct Reduce {
    reducer: Reducer,
    axes: Vec<usize>,
}

impl Operator for Reduce {
    fn name(&self) -> &'static str {
        self.reducer.name()
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [input] = inputs else { bail!("{} takes one input", self.reducer.name()) };
        let extents = input.shape.iter().enumerate();
        let shape = extents
            .map(|(axis, extent)| if self.axes.contains(&axis) { TDim::from(1) } else { extent.clone() });
        Ok(tvec!(Described::new(input.datum_type, shape)))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        // The axes before the first one that is reduced: enough to see that rows stay apart.
        KeptAxes::Leading(self.axes.first().copied().unwrap_or(inputs[0].shape.len()))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let output = match inputs[0].datum_type() {
            DatumType::F32 => self.reduced::<f32>(&inputs[0])?,
            _ => self.reduced::<f64>(&inputs[0])?,
        };
        Ok(tvec!(output))
    }
}

impl Reduce {
    fn reduced<T: Datum + Exponential>(&self, input: &TValue) -> TractResult<TValue> {
        let name = self.reducer.name();
        ensure!(!input.shape().contains(&0) || self.axes.is_empty(), "{name}: there is nothing to reduce");
        let mut shape: TVec<usize> = input.shape().into();
        let mut reduced: Option<TValue> = None;
        // Axes that lie together are reduced at once, those farther inside first.
        for axes in self.axes.chunk_by(|axis, next| axis + 1 == *next).rev() {
            let Some(lanes) = Lanes::new(&shape, axes) else { break };
            let numbers = values::elements::<T>(reduced.as_ref().unwrap_or(input))?;
            let output = values::filled(lanes.shape(), |output| {
                widest(ReduceLanes { reducer: self.reducer, lanes: &lanes, numbers, output });
            })?;
            shape = lanes.shape().into();
            reduced = Some(output);
        }
        Ok(reduced.unwrap_or_else(|| input.clone()))
    }
}

struct ReduceLanes<'a, T> {
    reducer: Reducer,
    lanes: &'a Lanes,
    numbers: &'a [T],
    output: &'a mut [T],
}

impl<T: Exponential> Loop for ReduceLanes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let ReduceLanes { reducer, lanes, numbers, output } = self;
        let larger = |a: T, b: T| if b > a || a.is_nan() { b } else { a };
        let smaller = |a: T, b: T| if b < a || a.is_nan() { b } else { a };
        match reducer {
            Reducer::Max => fold(lanes, numbers, output, T::neg_infinity(), larger),
            Reducer::Min => fold(lanes, numbers, output, T::infinity(), smaller),
            Reducer::LogSumExp => {
                fold(lanes, numbers, output, T::neg_infinity(), larger);
                // Exponents of differences from the largest number do not overflow.
                let largest: Vec<T> =
                    output.iter().map(|value| if value.is_finite() { *value } else { T::zero() }).collect();
                let mut exponents = numbers.to_vec();
                let blocks = exponents.chunks_exact_mut(lanes.length * lanes.inner);
                for (block, largest) in blocks.zip(largest.chunks_exact(lanes.inner)) {
                    for row in block.chunks_exact_mut(lanes.inner) {
                        row.iter_mut().zip(largest).for_each(|(value, largest)| *value = *value - *largest);
                    }
                }
                T::exponentials::<FUSED>(&mut exponents);
                fold(lanes, &exponents, output, T::zero(), |a, b| a + b);
                output.iter_mut().zip(&largest).for_each(|(sum, largest)| *sum = sum.ln() + *largest);
            }
        }
    }
}
