//! Reductions that tract computes wrongly where numbers are large or infinite: ReduceMax, ReduceMin and ReduceLogSumExp of
//! FP32 and FP64. For all other types they stay tract's.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::tract_ndarray::{ArrayD, ArrayViewD, Axis};
use tract_onnx::prelude::{
    Datum, DatumType, SpecialOps, TDim, TValue, TVec, Tensor, TractResult, TypedModel,
};
use tract_onnx::tract_core::internal::{AxisOp, OutletId, StaticName, bail, ensure, format_err, tvec};
use tract_onnx::tract_hir::infer::{InferenceResult, Solver, TensorProxy};
use tract_onnx::tract_hir::internal::{Expansion, expand};

use super::attributes::{integer, integers};
use super::operator::{Built, Described, KeptAxes, Operator, of_tract, wired};
use super::values;

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
        of_tract: of_tract(context, node)?,
        reducer,
        // From version 18 on the axes are an input. Without any all axes are reduced, unless that is switched off.
        axes: integers(node, "axes")?.to_vec(),
        keeps_dimensions: integer(node, "keepdims", 1)? != 0,
        may_be_none: integer(node, "noop_with_empty_axes", 0)? != 0,
    };
    Ok((expand(reduction), Vec::new()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reducer {
    Max,
    Min,
    LogSumExp,
}

#[derive(Clone, Debug)]
struct Reduction {
    of_tract: Box<dyn Expansion>,
    reducer: Reducer,
    axes: Vec<i64>,
    keeps_dimensions: bool,
    may_be_none: bool,
}

impl Expansion for Reduction {
    fn name(&self) -> StaticName {
        self.reducer.name().into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.of_tract.rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?;
        if ![DatumType::F32, DatumType::F64].contains(&fact.datum_type) {
            return self.of_tract.wire(prefix, model, inputs);
        }
        let rank = fact.rank();
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
        Ok(tvec!(output.into()))
    }
}

impl Reduce {
    fn reduced<T: Float>(&self, input: &TValue) -> TractResult<Tensor> {
        let input = input.to_plain_array_view::<T>()?;
        ensure!(
            !input.is_empty() || self.axes.is_empty(),
            "{}: there is nothing to reduce",
            self.reducer.name()
        );
        let largest = |input| self.folded(input, |a: T, b: T| if b > a || a.is_nan() { b } else { a });
        Ok(match self.reducer {
            Reducer::Max => largest(input),
            Reducer::Min => self.folded(input, |a: T, b: T| if b < a || a.is_nan() { b } else { a }),
            Reducer::LogSumExp => {
                // Exponents of differences from the largest number do not overflow.
                let largest =
                    largest(input.view()).mapv(|value| if value.is_finite() { value } else { T::zero() });
                let exponents = (&input - &largest).mapv(T::exp);
                self.folded(exponents.view(), |a, b| a + b).mapv(T::ln) + largest
            }
        }
        .into())
    }

    fn folded<T: Float>(&self, input: ArrayViewD<'_, T>, fold: impl Fn(T, T) -> T) -> ArrayD<T> {
        let mut folded = input.to_owned();
        for axis in &self.axes {
            let mut lanes = folded.axis_iter(Axis(*axis));
            let Some(first) = lanes.next() else { continue };
            let mut sum = first.to_owned();
            lanes.for_each(|lane| sum.zip_mut_with(&lane, |a, b| *a = fold(*a, *b)));
            folded = sum.insert_axis(Axis(*axis));
        }
        folded
    }
}

trait Float: Datum + Copy + tract_onnx::prelude::tract_num_traits::Float {}

impl Float for f32 {}
impl Float for f64 {}
