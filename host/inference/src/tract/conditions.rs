//! Uses of listed operators whose answers are wrong. Each comes from a case of the conformance run.

use tract_onnx::pb::{AttributeProto, NodeProto};

/// Why this use of a listed operator is refused.
pub(super) fn refusal(node: &NodeProto) -> Option<&'static str> {
    if let Some(reason) = left_out(node) {
        return Some(reason);
    }
    let node = Uses(node);
    let (is_wrong, reason) = match node.0.op_type.as_str() {
        "BatchNormalization" | "Dropout" => (node.trains(), "training mode"),
        "ConstantOfShape" => (node.attribute("value").is_none(), "without value"),
        "GRU" | "LSTM" | "RNN" => return recurrent(&node),
        "Pad" => (
            !node.text_is("mode", "constant", &["constant"]) && node.has_input(2),
            "constant with another mode",
        ),
        "Resize" => (
            node.text_is("coordinate_transformation_mode", "half_pixel", &["align_corners"]),
            "coordinate_transformation_mode align_corners",
        ),
        // What exports of nearest neighbours have: one input, from its start to its end.
        "Scan" => (
            node.number("num_scan_inputs") != 1 || node.0.attribute.len() != SCAN_ATTRIBUTES,
            "another use than one input in its order",
        ),
        // tract describes the result wrongly where extents are free.
        "Slice" => (node.attribute("starts").is_some(), "starts as an attribute"),
        "SpaceToDepth" => (!node.text_is("mode", "DCR", &["DCR"]), "mode"),
        "Squeeze" => (node.attribute("axes").is_none() && !node.has_input(1), "without axes"),
        _ => return None,
    };
    is_wrong.then_some(reason)
}

/// Operators of which tract knows that an input, or an output, may be left out before one that is there. Of the others it
/// counts those that are there, and takes one for another.
const LEAVE_INPUTS_OUT: [&str; 11] = [
    "Clip",
    "ConvInteger",
    "DFT",
    "Dropout",
    "GRU",
    "LSTM",
    "MatMulInteger",
    "Pad",
    "RNN",
    "Resize",
    "Slice",
];
const LEAVE_OUTPUTS_OUT: [&str; 3] = ["GRU", "LSTM", "RNN"];

fn left_out(node: &NodeProto) -> Option<&'static str> {
    let has_gap = |names: &[String]| names.windows(2).any(|pair| pair[0].is_empty() && !pair[1].is_empty());
    let operator = node.op_type.as_str();
    if has_gap(&node.input) && !LEAVE_INPUTS_OUT.contains(&operator) {
        Some("an input left out before another")
    } else if has_gap(&node.output) && !LEAVE_OUTPUTS_OUT.contains(&operator) {
        Some("an output left out before another")
    } else {
        None
    }
}

/// Only what the cases cover: other activations and clipping are not in them.
const RECURRENT_ATTRIBUTES: [&str; 4] = ["direction", "hidden_size", "layout", "linear_before_reset"];
/// The body and the number of inputs: anything else changes axes or directions.
const SCAN_ATTRIBUTES: usize = 2;
const SEQUENCE_LENGTHS: usize = 4;
const PEEPHOLES: usize = 7;

fn recurrent(node: &Uses<'_>) -> Option<&'static str> {
    if !node.text_is("direction", "forward", &["forward", "bidirectional"]) {
        return Some("direction reverse");
    }
    if node.has_input(SEQUENCE_LENGTHS) || node.has_input(PEEPHOLES) {
        return Some("sequence lengths or peepholes");
    }
    let is_covered = |attribute: &AttributeProto| RECURRENT_ATTRIBUTES.contains(&attribute.name.as_str());
    (!node.0.attribute.iter().all(is_covered)).then_some("activations or clipping")
}

struct Uses<'a>(&'a NodeProto);

impl Uses<'_> {
    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// Whether a text attribute, which has this default, is one of these.
    fn text_is(&self, name: &str, default: &str, accepted: &[&str]) -> bool {
        let value = self.attribute(name).map_or(default.as_bytes(), |attribute| &attribute.s);
        accepted.iter().any(|accepted| accepted.as_bytes() == value)
    }

    fn number(&self, name: &str) -> i64 {
        self.attribute(name).map_or(0, |attribute| attribute.i)
    }

    /// Optional inputs that are left out have an empty name.
    fn has_input(&self, index: usize) -> bool {
        self.0.input.get(index).is_some_and(|name| !name.is_empty())
    }

    fn trains(&self) -> bool {
        self.number("training_mode") != 0 || (self.0.op_type == "Dropout" && self.has_input(2))
    }
}
