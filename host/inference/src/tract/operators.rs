//! Which operators of ONNX this engine is known to run correctly.
//!
//! The lists come from evidence, not from tract's documentation: the program `examples/operator_conformance` ran the
//! engine over the cases of the Python package `onnx` and over cases answered by ONNX Runtime (older operator sets,
//! exports of scikit-learn, extreme values), each with fixed and free extents and with constants in place of inputs.
//! An operator is listed if none of at least five accepted cases had a wrong answer, NaN among the inputs aside; where
//! only certain attributes gave wrong answers, `conditions` refuses those. `OPERATORS.md` has the figures.

use std::collections::BTreeSet;

use tract_onnx::pb::{ModelProto, NodeProto};

use super::conditions;
use crate::engine::LoadError;
use crate::onnx::for_each_node;

/// The listed operators of the default domain, sorted.
pub const STANDARD_OPERATORS: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "AveragePool",
    "BatchNormalization",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Cast",
    "CastLike",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DFT",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "EyeLike",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherElements",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GridSample",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LpNormalization",
    "MatMul",
    "MatMulInteger",
    "Max",
    "MaxPool",
    "Mean",
    "MeanVarianceNormalization",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "OneHot",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "RMSNormalization",
    "RNN",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "RotaryEmbedding",
    "Round",
    "STFT",
    "Scan",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "Shape",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Size",
    "Slice",
    "Softmax",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "Xor",
];

/// The listed operators of the domain `ai.onnx.ml`, sorted: those of `classical`.
pub const CLASSICAL_OPERATORS: &[&str] = &[
    "ArrayFeatureExtractor",
    "Binarizer",
    "CategoryMapper",
    "FeatureVectorizer",
    "Imputer",
    "LabelEncoder",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
    "ZipMap",
];

/// Operators that are not listed because of their results, and of which it is known which values they look at, sorted: an
/// engine whose results are right may run their rows together.
const KNOWN_FOR_INDEPENDENCE: [&str; 4] = ["LogSoftmax", "QLinearConv", "QLinearMatMul", "QuantizeLinear"];

/// Whether of every operator of the model it is known which values it looks at.
pub(super) fn are_known_for_independence(model: &ModelProto) -> bool {
    refused(model).iter().all(|name| KNOWN_FOR_INDEPENDENCE.contains(&name.as_str()))
}

/// Every operator of the model that is refused, nested graphs included: `Name` or `domain.Name`, followed by the
/// reason where other uses of that operator are accepted.
pub(super) fn refused(model: &ModelProto) -> BTreeSet<String> {
    let own: BTreeSet<(&str, &str)> =
        model.functions.iter().map(|f| (domain_of(f.domain()), f.name())).collect();
    let mut refused = BTreeSet::new();
    if let Some(graph) = &model.graph {
        for_each_node(graph, &mut |node| refused.extend(refusal(node, &own)));
    }
    refused
}

/// Checks every operator of the model and of the graphs nested in it.
///
/// # Errors
/// [`LoadError::Operators`] with those that are refused, sorted.
pub(super) fn check(model: &ModelProto) -> Result<(), LoadError> {
    LoadError::of_refused(refused(model))
}

/// The name under which a node is refused.
///
/// tract looks operators up by name alone. A function of the model's own, or an operator of another domain, would run
/// as the standard operator of the same name: so both are refused by the domain.
fn refusal(node: &NodeProto, own: &BTreeSet<(&str, &str)>) -> Option<String> {
    let domain = domain_of(&node.domain);
    let operator = node.op_type.as_str();
    let name = if domain.is_empty() { operator.to_owned() } else { format!("{domain}.{operator}") };
    if own.contains(&(domain, operator)) {
        return Some(format!("{name} (a function of the model's own)"));
    }
    let listed = match domain {
        "" => STANDARD_OPERATORS,
        "ai.onnx.ml" => CLASSICAL_OPERATORS,
        _ => &[],
    };
    if listed.binary_search(&operator).is_err() {
        return Some(name);
    }
    conditions::refusal(node).map(|reason| format!("{name} ({reason})"))
}

/// The default domain has two names.
fn domain_of(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_for_binary_search() {
        assert!(STANDARD_OPERATORS.is_sorted());
        assert!(CLASSICAL_OPERATORS.is_sorted());
    }
}
