//! The file that ONNX Runtime gets to see: what this host has decoded and understood, written anew, so that no byte
//! reaches the library that was not looked at.

use std::collections::{BTreeSet, HashSet};

use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use crate::engine::LoadError;
use crate::onnx;

/// Whose operators the library has. Others would be custom operators, which are code of their own.
const DOMAINS: [&str; 3] = ["", "ai.onnx.ml", "com.microsoft"];

/// Operators that read other files, or make strings whose length nothing bounds.
const REFUSED: [&str; 2] = ["EPContext", "StringConcat"];

/// Graphs in graphs. Some versions of the library take twice as long for each level.
const MAX_NESTING: usize = 10;

/// A file for the library, and what has to be known about it besides.
pub(super) struct Model {
    /// The file.
    pub(super) bytes: Vec<u8>,
    /// For each input and dimension the name of a free extent, where it has one.
    pub(super) symbols: Vec<Vec<Option<String>>>,
    /// Where strings occur: the length of the longest that the file brings, or that a number may become.
    pub(super) longest_text: Option<u64>,
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
        let longest_text = onnx::longest_text(&model);
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
        let longest_text = has_texts(graph).then_some(longest_text);
        let symbols = symbols(graph);
        Ok(Model { bytes: written(&model), symbols, longest_text })
    }
}

fn written(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

fn check_operators(graph: &GraphProto) -> Result<(), LoadError> {
    let mut refused = BTreeSet::new();
    onnx::for_each_node(graph, &mut |node| {
        if !DOMAINS.contains(&node.domain.as_str()) {
            refused.insert(format!("{}.{}", node.domain, node.op_type));
        } else if REFUSED.contains(&node.op_type.as_str()) {
            refused.insert(node.op_type.clone());
        }
    });
    LoadError::of_refused(refused)
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
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|input| !constants.contains(input.name.as_str()));
    inputs.map(symbols_of).collect()
}

fn symbols_of(input: &ValueInfoProto) -> Vec<Option<String>> {
    let Some(Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|of| of.value.as_ref()) else {
        return Vec::new();
    };
    let symbol = |dimension: &Dimension| match &dimension.value {
        Some(dimension::Value::DimParam(name)) => Some(name.clone()),
        _ => None,
    };
    tensor.shape.iter().flat_map(|shape| &shape.dim).map(symbol).collect()
}

/// Whether any value of the network may be a text.
fn has_texts(graph: &GraphProto) -> bool {
    let takes_text = graph.input.iter().any(|input| {
        let value = input.r#type.as_ref().and_then(|of| of.value.as_ref());
        matches!(value, Some(Value::TensorType(tensor)) if tensor.elem_type == DataType::String as i32)
    });
    let mut makes_text = graph.initializer.iter().any(is_text);
    onnx::for_each_node(graph, &mut |node| {
        let nested = onnx::nested_graphs(node);
        makes_text |= node.attribute.iter().any(|attribute| may_make_text(node, attribute))
            || nested.into_iter().flat_map(|graph| &graph.initializer).any(is_text);
    });
    takes_text || makes_text
}

fn is_text(tensor: &TensorProto) -> bool {
    tensor.data_type == DataType::String as i32
}

/// Texts as an attribute are values, but for those of operators of the default domain, which name modes.
fn may_make_text(node: &NodeProto, attribute: &AttributeProto) -> bool {
    let has_values = !node.domain.is_empty() || node.op_type == "Constant";
    attribute.t.iter().chain(&attribute.tensors).any(is_text)
        || (has_values && !attribute.strings.is_empty())
        || attribute.name == "value_string"
        || (attribute.name == "to" && attribute.i == DataType::String as i64)
}
