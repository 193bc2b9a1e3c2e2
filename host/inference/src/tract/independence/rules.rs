//! Where the axis of rows goes in each operator that keeps rows apart. An operator that is not here mixes them.
//!
//! tract's own mapping of axes does not say this by itself: it says that an axis of the output stands where one of the
//! input stood, as in Softmax along that axis. So each operator is looked at by what it computes.

use std::cmp::Ordering;

use tract_onnx::prelude::{Symbol, TDim, TVec, TypedFact, TypedNode};
use tract_onnx::tract_core::internal::{AxesMapping, AxisOp, InOut};
use tract_onnx::tract_core::ops::array::{
    CumSum, Gather, GatherElements, MultiBroadcastTo, OneHot, Pad, Slice, Tile, Topk, Trilu, TypedConcat,
};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::cnn::{Conv, Deconv, MaxPool, SumPool};
use tract_onnx::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::gru_cell::GruEpilogue;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::logic::Iff;
use tract_onnx::tract_core::ops::lstm_cell::LstmEpilogue;
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, RmsNorm, ScaledRmsNorm, Softmax};
use tract_onnx::tract_core::ops::quant::DequantizeLinearF32;
use tract_onnx::tract_core::ops::scan::Scan;

use super::{Rows, is_batch, is_constant_free_of, is_free_of, scan};
use crate::tract::classical;

/// An operator, and what is known of its inputs.
pub(super) struct Operator<'a> {
    pub(super) node: &'a TypedNode,
    pub(super) batch: &'a Symbol,
    pub(super) facts: &'a [&'a TypedFact],
    pub(super) rows: &'a [Rows],
}

/// What is known of the outputs; none where rows may touch each other.
pub(super) fn outputs(operator: &Operator<'_>) -> Option<TVec<Rows>> {
    let node = operator.node;
    if let Some(constant) = node.op_as::<Const>() {
        return is_constant_free_of(constant.val(), operator.batch).then(|| operator.all(Rows::Constant));
    }
    if let Some(scan) = node.op_as::<Scan>() {
        return scan::outputs(operator, scan);
    }
    if let Some(broadcast) = node.op_as::<MultiBroadcastTo>() {
        return broadcast_rows(operator, broadcast).map(|rows| operator.all(rows));
    }
    let rule = rule_for(node)?;
    if operator.rows.iter().all(|rows| *rows == Rows::Constant) {
        // What is computed from constants is one, unless the operator itself knows the number of rows.
        return is_free_of_batch(operator).then(|| operator.all(Rows::Constant));
    }
    rule(operator)
}

type Rule = fn(&Operator<'_>) -> Option<TVec<Rows>>;

/// The rule for an operator of which at least one input has rows.
fn rule_for(node: &TypedNode) -> Option<Rule> {
    let is_pointwise = node.op_is::<ElementWiseOp>()
        || node.op_is::<TypedBinOp>()
        || node.op_is::<Iff>()
        || node.op_is::<Cast>()
        || node.op_is::<Identity>()
        || node.op_is::<DequantizeLinearF32>();
    let keeps_axes = node.op_is::<Reduce>()
        || node.op_is::<Softmax>()
        || node.op_is::<RmsNorm>()
        || node.op_is::<ScaledRmsNorm>()
        || node.op_is::<CumSum>()
        || node.op_is::<Downsample>()
        || node.op_is::<Topk>()
        || node.op_is::<Slice>()
        || node.op_is::<Pad>()
        || node.op_is::<Tile>()
        || node.op_is::<Trilu>()
        || node.op_is::<Conv>()
        || node.op_is::<Deconv>()
        || node.op_is::<MaxPool>()
        || node.op_is::<SumPool>();
    if is_pointwise {
        Some(|operator| operator.aligned().map(|axis| operator.all(Rows::Along(axis))))
    } else if keeps_axes {
        Some(|operator| {
            operator
                .first_only()
                .filter(|axis| keeps(operator, *axis))
                .map(|axis| operator.all(Rows::Along(axis)))
        })
    } else if node.op_is::<TypedConcat>() || node.op_is::<GatherElements>() {
        Some(joined)
    } else if node.op_is::<AxisOp>() {
        Some(moved)
    } else if node.op_is::<EinSum>() {
        Some(summed)
    } else if node.op_is::<LstmEpilogue>() || node.op_is::<GruEpilogue>() {
        Some(stepped)
    } else if node.op_is::<Gather>() {
        Some(gathered)
    } else if node.op_is::<OneHot>() {
        Some(encoded)
    } else if classical::is_own(node) {
        Some(mapped)
    } else {
        None
    }
}

/// Whether no extent inside the operator says how many rows there are.
fn is_free_of_batch(operator: &Operator<'_>) -> bool {
    let node = operator.node;
    let is_free = |extents: &[TDim]| extents.iter().all(|extent| is_free_of(extent, operator.batch));
    if let Some(slice) = node.op_as::<Slice>() {
        is_free(&[slice.start.clone(), slice.end.clone()])
    } else if let Some(AxisOp::Reshape(_, from, to)) = node.op_as::<AxisOp>() {
        is_free(from) && is_free(to)
    } else if let Some(tile) = node.op_as::<Tile>() {
        is_free(&tile.multipliers)
    } else if let Some(top) = node.op_as::<Topk>() {
        is_free(std::slice::from_ref(&top.fallback_k))
    } else {
        true
    }
}

/// Whether an operator with rows along this axis of its first input, and no others, leaves them where they are.
fn keeps(operator: &Operator<'_>, axis: usize) -> bool {
    let node = operator.node;
    let is_batch_of = |format: DataFormat| axis == 0 && format.has_n();
    if !is_free_of_batch(operator) {
        false
    } else if let Some(reduce) = node.op_as::<Reduce>() {
        !reduce.axes.contains(&axis)
    } else if let Some(softmax) = node.op_as::<Softmax>() {
        !softmax.axes.contains(&axis)
    } else if let Some(norm) = node.op_as::<RmsNorm>() {
        norm.axis != axis
    } else if let Some(norm) = node.op_as::<ScaledRmsNorm>() {
        norm.axis != axis
    } else if let Some(sum) = node.op_as::<CumSum>() {
        sum.axis != axis
    } else if let Some(downsample) = node.op_as::<Downsample>() {
        downsample.axis != axis
    } else if let Some(top) = node.op_as::<Topk>() {
        top.axis != axis
    } else if let Some(slice) = node.op_as::<Slice>() {
        slice.axis != axis
    } else if let Some(pad) = node.op_as::<Pad>() {
        pad.pads.get(axis) == Some(&(0, 0))
    } else if let Some(tile) = node.op_as::<Tile>() {
        tile.multipliers.get(axis) == Some(&TDim::Val(1))
    } else if node.op_is::<Trilu>() {
        operator.facts.first().is_some_and(|fact| axis + 2 < fact.rank())
    } else if let Some(conv) = node.op_as::<Conv>() {
        let channels = TDim::Val(i64::try_from(conv.input_channels()).unwrap_or(0));
        let format = conv.pool_spec.data_format;
        let shape = operator.facts.first().and_then(|fact| format.shape(fact.shape.dims().to_vec()).ok());
        is_batch_of(format) && shape.is_some_and(|shape| *shape.c() == channels)
    } else if let Some(deconv) = node.op_as::<Deconv>() {
        is_batch_of(deconv.pool_spec.data_format)
    } else if let Some(pool) = node.op_as::<MaxPool>() {
        // Indices of the largest elements count from the first row of all.
        is_batch_of(pool.pool_spec.data_format) && pool.with_index_outputs.is_none()
    } else if let Some(pool) = node.op_as::<SumPool>() {
        is_batch_of(pool.pool_spec.data_format)
    } else {
        false
    }
}

/// Several inputs with rows along the same axis, which is not the one that the operator works on.
fn joined(operator: &Operator<'_>) -> Option<TVec<Rows>> {
    let node = operator.node;
    let first = *operator.rows.first()?;
    let Rows::Along(axis) = first else { return None };
    let works_on = match (node.op_as::<TypedConcat>(), node.op_as::<GatherElements>()) {
        (Some(concat), _) => concat.axis,
        (_, Some(gather)) => gather.axis,
        _ => return None,
    };
    let is_kept = works_on != axis && operator.rows.iter().all(|rows| *rows == first);
    is_kept.then(|| operator.all(first))
}

fn moved(operator: &Operator<'_>) -> Option<TVec<Rows>> {
    let axis = operator.first_only()?;
    let moved = match operator.node.op_as::<AxisOp>()? {
        AxisOp::Reshape(at, from, to) if (*at..at + from.len()).contains(&axis) => {
            let place = leading(from, operator.batch)?;
            (at + place == axis).then_some(())?;
            at + leading(to, operator.batch)?
        }
        change if is_free_of_batch(operator) => change.transform_axis(axis)?,
        _ => return None,
    };
    Some(operator.all(Rows::Along(moved)))
}

/// Where the rows are among extents that are reshaped, if nothing but ones comes before them: then what belongs to one row
/// lies together, before and after.
fn leading(extents: &[TDim], batch: &Symbol) -> Option<usize> {
    let place = extents.iter().position(|extent| *extent != TDim::Val(1))?;
    let rest = extents.get(place + 1..)?;
    (is_batch(&extents[place], batch) && rest.iter().all(|extent| is_free_of(extent, batch))).then_some(place)
}

/// Extents that are not the same for certain could make a sum reach into the next row.
fn summed(operator: &Operator<'_>) -> Option<TVec<Rows>> {
    let axes = &operator.node.op_as::<EinSum>()?.axes;
    let extents_agree = axes.iter_all_axes().all(|axis| {
        let of_slot = |(positions, fact): (&TVec<usize>, &&TypedFact)| -> Vec<Option<TDim>> {
            positions.iter().map(|position| fact.shape.get(*position).cloned()).collect()
        };
        let extents: Vec<Option<TDim>> = axis.inputs.iter().zip(operator.facts).flat_map(of_slot).collect();
        agree(extents.iter().map(Option::as_ref))
    });
    if extents_agree { operator.along(axes) } else { None }
}

/// Whether extents are the same, or 1; none is one that is not there.
fn agree<'a>(extents: impl Iterator<Item = Option<&'a TDim>>) -> bool {
    let mut common = None;
    for extent in extents {
        match extent {
            None => return false,
            Some(TDim::Val(1)) => {}
            Some(extent) if *common.get_or_insert(extent) != extent => return false,
            Some(_) => {}
        }
    }
    true
}

/// A step of a recurrent layer: the gates of each row, and its state before.
fn stepped(operator: &Operator<'_>) -> Option<TVec<Rows>> {
    let (gates, hidden, states) = if let Some(step) = operator.node.op_as::<LstmEpilogue>() {
        (1, step.hidden, 4)
    } else {
        let step = operator.node.op_as::<GruEpilogue>()?;
        (2, step.hidden, 3)
    };
    let widths = (0..operator.facts.len()).map(|slot| if slot < gates { states * hidden } else { hidden });
    let mut shapes = operator.facts.iter().zip(widths);
    let fits = shapes.all(|(fact, width)| {
        fact.rank() == 2 && fact.shape.get(1).and_then(|extent| extent.as_i64()) == i64::try_from(width).ok()
    });
    let has_rows = operator.rows.iter().all(|rows| *rows == Rows::Along(0));
    (fits && has_rows).then(|| operator.all(Rows::Along(0)))
}

/// The operators of this engine's own say themselves which axes they leave alone: what an output holds there depends on
/// nothing else that the inputs hold along that axis.
fn mapped(operator: &Operator<'_>) -> Option<TVec<Rows>> {
    let outputs: TVec<&TypedFact> = operator.node.outputs.iter().map(|output| &output.fact).collect();
    let mapping = operator.node.op.axes_mapping(operator.facts, &outputs).ok()?;
    operator.along(&mapping)
}

/// A table is looked up with each row's indices, or each row of a table with the same indices. Those have to be known and
/// inside of the row: tract takes what lies beside it in memory for any other index, and that is another row.
fn gathered(operator: &Operator<'_>) -> Option<TVec<Rows>> {
    let gather = operator.node.op_as::<Gather>()?;
    let indices = operator.facts.get(1)?.rank();
    let axis = match operator.rows {
        [Rows::Constant, Rows::Along(axis)] => gather.axis + axis,
        [Rows::Along(axis), Rows::Constant] if are_inside(operator, gather.axis) => {
            match axis.cmp(&gather.axis) {
                Ordering::Less => *axis,
                Ordering::Equal => return None,
                Ordering::Greater => (axis + indices).checked_sub(1)?,
            }
        }
        _ => return None,
    };
    Some(operator.all(Rows::Along(axis)))
}

/// Whether the indices of a lookup are known and those of elements that there are.
fn are_inside(operator: &Operator<'_>, axis: usize) -> bool {
    let [table, indices] = operator.facts else { return false };
    let extent = table.shape.get(axis).and_then(|extent| extent.as_i64());
    let (Some(extent), Some(indices)) = (extent, &indices.konst) else { return false };
    let Ok(indices) = indices.cast_to::<i64>() else { return false };
    let Ok(indices) = indices.try_as_plain_ram() else { return false };
    indices
        .as_slice::<i64>()
        .is_ok_and(|indices| indices.iter().all(|index| (-extent..extent).contains(index)))
}

fn encoded(operator: &Operator<'_>) -> Option<TVec<Rows>> {
    let encoding = operator.node.op_as::<OneHot>()?;
    let axis = operator.first_only()?;
    Some(operator.all(Rows::Along(axis + usize::from(axis >= encoding.axis))))
}

/// The same for every row where a constant is repeated for each of them.
fn broadcast_rows(operator: &Operator<'_>, broadcast: &MultiBroadcastTo) -> Option<Rows> {
    let [rows] = operator.rows else { return None };
    let [fact] = operator.facts else { return None };
    let added = broadcast.shape.rank().checked_sub(fact.rank())?;
    match rows {
        Rows::Along(axis) => Some(Rows::Along(axis + added)),
        Rows::Constant => {
            let place = broadcast.shape.iter().position(|extent| is_batch(extent, operator.batch));
            Some(place.map_or(Rows::Constant, Rows::Along))
        }
    }
}

impl Operator<'_> {
    /// The same for every output.
    pub(super) fn all(&self, rows: Rows) -> TVec<Rows> {
        TVec::from_elem(rows, self.node.outputs.len())
    }

    /// The axis of the first input, where no other has rows.
    fn first_only(&self) -> Option<usize> {
        match self.rows.split_first()? {
            (Rows::Along(axis), others) if others.iter().all(|rows| *rows == Rows::Constant) => Some(*axis),
            _ => None,
        }
    }

    /// The axis along which all inputs that have rows have them, where the others are the same for all rows.
    fn aligned(&self) -> Option<usize> {
        let mut axes = self.rows.iter().filter_map(|rows| match rows {
            Rows::Along(axis) => Some(*axis),
            Rows::Constant => None,
        });
        let axis = axes.next()?;
        let is_same_for_all = |fact: &TypedFact| fact.shape.get(axis) == Some(&TDim::Val(1));
        let mut constants = self.rows.iter().zip(self.facts).filter(|(rows, _)| **rows == Rows::Constant);
        let is_aligned = axes.all(|other| other == axis) && constants.all(|(_, fact)| is_same_for_all(fact));
        (is_aligned && self.extents_agree()).then_some(axis)
    }

    /// Whether all inputs have the same extents, or 1 where they are repeated.
    fn extents_agree(&self) -> bool {
        let rank = self.facts.first().map_or(0, |fact| fact.rank());
        let agree = |axis| agree(self.facts.iter().map(|fact| fact.shape.get(axis)));
        self.facts.iter().all(|fact| fact.rank() == rank) && (0..rank).all(agree)
    }

    /// Where a mapping of axes, which links only what depends on each other and on nothing else, takes the rows.
    fn along(&self, mapping: &AxesMapping) -> Option<TVec<Rows>> {
        let with_rows = self.rows.iter().enumerate().find_map(|(slot, rows)| match rows {
            Rows::Along(axis) => Some((slot, *axis)),
            Rows::Constant => None,
        });
        let (slot, axis) = with_rows?;
        let linked = mapping.axis((InOut::In(slot), axis)).ok()?;
        for ((rows, fact), positions) in self.rows.iter().zip(self.facts).zip(&linked.inputs) {
            let is_kept = match rows {
                Rows::Along(axis) => positions.as_slice() == [*axis],
                Rows::Constant => positions.iter().all(|axis| fact.shape.get(*axis) == Some(&TDim::Val(1))),
            };
            is_kept.then_some(())?;
        }
        let outputs = linked.outputs.iter().map(|positions| match positions.as_slice() {
            [axis] => Some(Rows::Along(*axis)),
            _ => None,
        });
        outputs.collect()
    }
}
