//! Texts inside a network: only operators that are known to move them as they should may touch them.

use tract_onnx::prelude::{DatumType, TypedModel, TypedNode};
use tract_onnx::tract_core::ops::array::{Gather, Slice, TypedConcat};
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;

use super::classical;

/// # Errors
/// The operator that takes or gives texts and is not known to do so correctly.
pub(super) fn check(model: &TypedModel) -> Result<(), String> {
    let is_text = |outlet| model.outlet_fact(outlet).is_ok_and(|fact| fact.datum_type == DatumType::String);
    for node in model.nodes() {
        let gives = node.outputs.iter().any(|output| output.fact.datum_type == DatumType::String);
        let takes = node.inputs.iter().any(|input| is_text(*input));
        if (gives || takes) && !moves_texts(node) {
            return Err(format!("operator {} ({:?}) does not take texts", node.op().name(), node.name));
        }
    }
    Ok(())
}

fn moves_texts(node: &TypedNode) -> bool {
    classical::is_own(node)
        || node.op_is::<Const>()
        || node.op_is::<TypedSource>()
        || node.op_is::<AxisOp>()
        || node.op_is::<TypedConcat>()
        || node.op_is::<Gather>()
        || node.op_is::<Slice>()
        || node.op_is::<Identity>()
}
