//! ArgMax and ArgMin of FP32 and FP64, with which most exports choose a label: tract's cost more than the model before them.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{Datum, DatumType, SpecialOps, TDim, TValue, TVec, TractResult, TypedModel};
use tract_onnx::tract_core::internal::{AxisOp, OutletId, bail, ensure, format_err, tvec};

use super::attributes::integer;
use super::operator::{Built, Described, KeptAxes, Operator, wired};
use super::types::{OfTypes, REALS, built};
use super::values;

pub(super) fn arg_max(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    search(context, node, "ArgMax")
}

pub(super) fn arg_min(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    search(context, node, "ArgMin")
}

fn search(context: &ParsingContext<'_>, node: &NodeProto, name: &'static str) -> Built {
    let search = Search {
        name,
        axis: integer(node, "axis", 0)?,
        keeps_dimension: integer(node, "keepdims", 1)? != 0,
        takes_last: integer(node, "select_last_index", 0)? != 0,
    };
    built(context, node, search)
}

#[derive(Clone, Debug)]
struct Search {
    name: &'static str,
    axis: i64,
    keeps_dimension: bool,
    takes_last: bool,
}

impl OfTypes for Search {
    fn name(&self) -> &'static str {
        self.name
    }

    fn types(&self) -> &'static [DatumType] {
        REALS
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let rank = model.outlet_fact(inputs[0])?.rank();
        let axis = if self.axis < 0 { self.axis.saturating_add(rank as i64) } else { self.axis };
        let axis = usize::try_from(axis).ok().filter(|axis| *axis < rank);
        let axis = axis.ok_or_else(|| format_err!("{}: there is no axis {}", self.name, self.axis))?;
        let place = Place { name: self.name, axis, takes_last: self.takes_last };
        let mut wire = wired(place, prefix, model, inputs)?;
        if !self.keeps_dimension {
            wire = model.wire_node(format!("{prefix}.without-{axis}"), AxisOp::Rm(axis), &wire)?;
        }
        Ok(wire)
    }
}

/// Where the largest or the smallest number along an axis is. The axis stays, with one element.
#[derive(Clone, Debug)]
struct Place {
    name: &'static str,
    axis: usize,
    /// Of equal numbers the last one counts, not the first one.
    takes_last: bool,
}

impl Operator for Place {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [input] = inputs else { bail!("{} takes one input", self.name) };
        let mut shape = input.shape.clone();
        shape[self.axis] = TDim::from(1);
        Ok(tvec!(Described { datum_type: DatumType::I64, shape }))
    }

    fn kept_axes(&self, _inputs: &[Described]) -> KeptAxes {
        KeptAxes::Leading(self.axis)
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        match inputs[0].datum_type() {
            DatumType::F32 => self.places::<f32>(&inputs[0]),
            _ => self.places::<f64>(&inputs[0]),
        }
    }
}

impl Place {
    fn places<T: Datum + Copy + PartialOrd>(&self, input: &TValue) -> TractResult<TVec<TValue>> {
        let numbers = values::elements::<T>(input)?;
        let mut shape: TVec<usize> = input.shape().into();
        let length = std::mem::replace(&mut shape[self.axis], 1);
        ensure!(length > 0 || shape.contains(&0), "{}: there is nothing to choose from", self.name);
        let inner: usize = shape[self.axis..].iter().product();
        let places = match (self.name, self.takes_last) {
            ("ArgMax", false) => best_places(numbers, length, inner, |new, old| new > old),
            ("ArgMax", true) => best_places(numbers, length, inner, |new, old| new >= old),
            (_, false) => best_places(numbers, length, inner, |new, old| new < old),
            (_, true) => best_places(numbers, length, inner, |new, old| new <= old),
        };
        Ok(tvec!(values::tensor(&shape, places)?))
    }
}

/// The place along the middle axis of `[outer, length, inner]` where nothing is better.
fn best_places<T: Copy>(
    numbers: &[T],
    length: usize,
    inner: usize,
    is_better: impl Fn(T, T) -> bool,
) -> Vec<i64> {
    let blocks = numbers.chunks_exact((length * inner).max(1));
    if inner == 1 {
        return blocks.map(|lane| first_best(lane.iter().copied(), &is_better)).collect();
    }
    let lanes =
        blocks.flat_map(|block| (0..inner).map(move |start| block[start..].iter().step_by(inner).copied()));
    lanes.map(|lane| first_best(lane, &is_better)).collect()
}

fn first_best<T: Copy>(lane: impl IntoIterator<Item = T>, is_better: impl Fn(T, T) -> bool) -> i64 {
    let mut lane = lane.into_iter();
    let Some(mut best) = lane.next() else { return 0 };
    let mut place = 0;
    for (index, number) in (1..).zip(lane) {
        if is_better(number, best) {
            (best, place) = (number, index);
        }
    }
    place
}
