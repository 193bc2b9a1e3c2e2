//! The file that ONNX Runtime gets to see: what this host has decoded and understood, written anew, so that no byte
//! reaches the library that was not looked at.

use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use crate::engine::LoadError;
use crate::onnx;

/// Whose operators the library has. Others would be custom operators, which are code of their own.
const DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];

/// Operators that read other files, or make strings whose length nothing bounds.
const REFUSED: [&str; 2] = ["EPContext", "StringConcat"];

/// Graphs in graphs. Some versions of the library take twice as long for each level.
const MAX_NESTING: usize = 10;

/// The longest text that a number becomes.
const NUMBER_TEXT_BYTES: usize = 32;

/// A file for the library, and what has to be known about it besides.
pub(super) struct Model {
    /// The file.
    pub(super) bytes: Vec<u8>,
    /// For each input and dimension the name of a free extent, where it has one.
    pub(super) symbols: Vec<Vec<Option<String>>>,
    /// Where strings occur: the length of the longest in the file.
    pub(super) longest_text: Option<usize>,
}

impl Model {
    /// Decodes and checks the file, and writes it anew.
    ///
    /// # Errors
    /// [`LoadError`] for what the library must not see.
    pub(super) fn new(onnx: &[u8]) -> Result<Model, LoadError> {
        let mut model = onnx::decode(onnx)?;
        if !model.functions.is_empty() {
            return Err(LoadError::Unsupported {
                reason: "it defines functions of its own: inline them, for example with onnx.inliner".into(),
            });
        }
        model.training_info.clear();
        model.metadata_props.clear();
        let Some(graph) = &mut model.graph else {
            return Err(LoadError::Invalid { reason: "there is no graph in it".into() });
        };
        check_operators(graph)?;
        if nesting(graph) > MAX_NESTING {
            return Err(LoadError::Unsupported {
                reason: format!("it has graphs in graphs, more than {MAX_NESTING} levels deep"),
            });
        }
        zip_maps_to_tensors(graph);
        forget_declared_shapes(graph);
        let (symbols, longest_text) = (symbols(graph), longest_text(graph));
        Ok(Model { bytes: written(&model), symbols, longest_text })
    }
}

fn written(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

fn check_operators(graph: &GraphProto) -> Result<(), LoadError> {
    let mut refused = std::collections::BTreeSet::new();
    onnx::for_each_node(graph, &mut |node| {
        if !DOMAINS.contains(&node.domain.as_str()) {
            refused.insert(format!("{}.{}", node.domain, node.op_type));
        } else if REFUSED.contains(&node.op_type.as_str()) {
            refused.insert(node.op_type.clone());
        }
    });
    match refused.is_empty() {
        true => Ok(()),
        false => Err(LoadError::Operators { operators: refused.into_iter().collect() }),
    }
}

/// How many graphs contain the one that lies deepest. The decoder bounds the recursion.
fn nesting(graph: &GraphProto) -> usize {
    let nested = graph.node.iter().flat_map(onnx::nested_graphs);
    nested.map(|graph| 1 + nesting(graph)).max().unwrap_or(0)
}

/// A `ZipMap` only turns rows of probabilities into dictionaries: the rows are given instead, in the order of the
/// classes.
fn zip_maps_to_tensors(graph: &mut GraphProto) {
    let mut made = Vec::new();
    for node in graph.node.iter_mut().filter(|node| node.op_type == "ZipMap") {
        node.op_type = "Identity".into();
        node.domain.clear();
        node.attribute.clear();
        made.append(&mut node.output.clone());
    }
    for output in graph.output.iter_mut().filter(|output| made.contains(&output.name)) {
        output.r#type = None;
    }
}

/// Converters declare shapes of outputs and of values in between that are not true. The number of dimensions is kept:
/// the library cannot say it where it does not find out itself.
fn forget_declared_shapes(graph: &mut GraphProto) {
    graph.value_info.clear();
    for output in &mut graph.output {
        if let Some(Value::TensorType(tensor)) = output.r#type.as_mut().and_then(|of| of.value.as_mut())
            && let Some(shape) = &mut tensor.shape
        {
            shape.dim.iter_mut().for_each(|dimension| *dimension = Dimension::default());
        }
    }
}

fn symbols(graph: &GraphProto) -> Vec<Vec<Option<String>>> {
    let is_constant =
        |input: &&ValueInfoProto| graph.initializer.iter().any(|tensor| tensor.name == input.name);
    graph.input.iter().filter(|input| !is_constant(input)).map(symbols_of).collect()
}

fn symbols_of(input: &ValueInfoProto) -> Vec<Option<String>> {
    let Some(Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|of| of.value.as_ref()) else {
        return Vec::new();
    };
    let symbol = |dimension: &Dimension| match &dimension.value {
        Some(dimension::Value::DimParam(name)) if !name.is_empty() => Some(name.clone()),
        _ => None,
    };
    tensor.shape.iter().flat_map(|shape| &shape.dim).map(symbol).collect()
}

/// The length of the longest string that the file brings, or that a number may become; none where there are no strings.
fn longest_text(graph: &GraphProto) -> Option<usize> {
    let mut longest = longest_in_constants(graph);
    onnx::for_each_node(graph, &mut |node| {
        longest = longest.max(longest_of_node(node));
        onnx::nested_graphs(node).for_each(|nested| longest = longest.max(longest_in_constants(nested)));
    });
    let takes_text = graph.input.iter().any(|input| {
        let value = input.r#type.as_ref().and_then(|of| of.value.as_ref());
        matches!(value, Some(Value::TensorType(tensor)) if tensor.elem_type == DataType::String as i32)
    });
    longest.max(takes_text.then_some(0))
}

fn longest_in_constants(graph: &GraphProto) -> Option<usize> {
    graph.initializer.iter().filter_map(longest_of_tensor).max()
}

fn longest_of_tensor(tensor: &TensorProto) -> Option<usize> {
    let is_text = tensor.data_type == DataType::String as i32;
    is_text.then(|| tensor.string_data.iter().map(Vec::len).max().unwrap_or(0))
}

fn longest_of_node(node: &NodeProto) -> Option<usize> {
    let makes_text = node.domain == "ai.onnx.ml" || node.op_type == "Constant";
    let of_attribute = |attribute: &AttributeProto| {
        let tensors = attribute.t.iter().chain(&attribute.tensors).filter_map(longest_of_tensor).max();
        let texts = attribute.strings.iter().map(Vec::len).max().filter(|_| makes_text);
        let text = Some(attribute.s.len()).filter(|_| makes_text && attribute.name == "value_string");
        let cast =
            (attribute.name == "to" && attribute.i == DataType::String as i64).then_some(NUMBER_TEXT_BYTES);
        tensors.max(texts).max(text).max(cast)
    };
    node.attribute.iter().filter_map(of_attribute).max()
}
