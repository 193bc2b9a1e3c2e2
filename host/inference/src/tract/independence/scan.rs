//! Loops: recurrent layers above all, which go along a sequence and carry a state from step to step.

use tract_onnx::prelude::TVec;
use tract_onnx::tract_core::ops::scan::{InputMapping, Scan};

use super::rules::Operator;
use super::{Rows, follow};

/// What is known of the outputs of a loop. It must not go along the rows, and its state must have them where it had them.
pub(super) fn outputs(operator: &Operator<'_>, scan: &Scan) -> Option<TVec<Rows>> {
    let goes_along_rows = |(rows, mapping): (&Rows, &InputMapping)| match mapping {
        InputMapping::Scan(along) => *rows == Rows::Along(along.axis),
        InputMapping::Full | InputMapping::State => false,
    };
    if operator.rows.len() != scan.input_mapping.len()
        || operator.rows.iter().zip(&scan.input_mapping).any(goes_along_rows)
    {
        return None;
    }
    let known = follow(&scan.body, operator.batch, operator.rows)?;
    let before = operator.rows.iter().zip(&scan.input_mapping).filter(|(_, mapping)| mapping.is_state());
    let after = known.iter().zip(&scan.output_mapping).filter(|(_, mapping)| mapping.state);
    if !before.map(|(rows, _)| rows).eq(after.map(|(rows, _)| rows)) {
        return None;
    }
    let mut outputs: TVec<Option<Rows>> = TVec::from_elem(None, operator.node.outputs.len());
    for (rows, mapping) in known.iter().zip(&scan.output_mapping) {
        if let Some((slot, along)) = mapping.scan {
            let is_kept = *rows != Rows::Along(along.axis);
            *outputs.get_mut(slot)? = is_kept.then_some(*rows);
        }
        if let Some(slot) = mapping.last_value_slot {
            *outputs.get_mut(slot)? = Some(*rows);
        }
    }
    outputs.into_iter().collect()
}
