//! Decodes an ONNX file and refuses what no later step should have to think about.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::Framework;

use crate::engine::LoadError;

/// The operator set versions whose meaning the engine knows, of the default domain.
const OPERATOR_SETS: std::ops::RangeInclusive<i64> = 9..=28;

/// Decodes the file and checks its structure, nested graphs included.
///
/// # Errors
/// [`LoadError::Invalid`] for bytes that are no ONNX model, for dangling names and for data in other files;
/// [`LoadError::Unsupported`] for operator sets that are too old or too new.
pub(super) fn decode(mut onnx: &[u8]) -> Result<ModelProto, LoadError> {
    let decoded = tract_onnx::onnx().proto_model_for_read(&mut onnx);
    let mut model = decoded.map_err(|_| invalid("the bytes are not an ONNX file, or are cut off"))?;
    check_operator_sets(&model)?;
    let graph = model.graph.as_mut().ok_or_else(|| invalid("there is no graph in it"))?;
    check_inputs(graph)?;
    check_graph(graph, &HashSet::new())?;
    for_each_tensor(graph, &mut normalise_tensor)?;
    Ok(model)
}

fn check_operator_sets(model: &ModelProto) -> Result<(), LoadError> {
    let default = model.opset_import.iter().find(|set| set.domain.is_empty() || set.domain == "ai.onnx");
    let Some(default) = default else { return Ok(()) };
    if OPERATOR_SETS.contains(&default.version) {
        return Ok(());
    }
    Err(LoadError::Unsupported {
        reason: format!(
            "the operator set has version {}: expected {} to {}",
            default.version,
            OPERATOR_SETS.start(),
            OPERATOR_SETS.end()
        ),
    })
}

fn check_inputs(graph: &GraphProto) -> Result<(), LoadError> {
    let mut names = HashSet::new();
    for input in &graph.input {
        if input.name.is_empty() || !names.insert(&input.name) {
            return Err(invalid(format!("two inputs have the name {:?}, or it is empty", input.name)));
        }
    }
    let mut names = HashSet::new();
    for output in &graph.output {
        if output.name.is_empty() || !names.insert(&output.name) {
            return Err(invalid(format!("two outputs have the name {:?}, or it is empty", output.name)));
        }
    }
    if graph.output.is_empty() {
        return Err(invalid("the graph has no outputs"));
    }
    Ok(())
}

/// Every name that is used must exist, here or in a graph around this one; every output must be made here.
fn check_graph(graph: &GraphProto, outside: &HashSet<&str>) -> Result<(), LoadError> {
    if !graph.sparse_initializer.is_empty() {
        return Err(LoadError::Unsupported { reason: "the graph has sparse initialisers".into() });
    }
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let constants = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let values = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let here: HashSet<&str> = inputs.chain(constants).chain(values).filter(|name| !name.is_empty()).collect();
    let missing = graph.output.iter().find(|output| !here.contains(output.name.as_str()));
    if let Some(missing) = missing {
        return Err(invalid(format!("nothing makes the output {:?}", missing.name)));
    }
    let visible: HashSet<&str> = here.union(outside).copied().collect();
    for node in &graph.node {
        check_node(node, &visible)?;
    }
    Ok(())
}

fn check_node(node: &NodeProto, visible: &HashSet<&str>) -> Result<(), LoadError> {
    let missing = node.input.iter().find(|name| !name.is_empty() && !visible.contains(name.as_str()));
    if let Some(missing) = missing {
        return Err(invalid(format!(
            "operator {} ({:?}) takes {missing:?}, which nothing makes",
            node.op_type, node.name
        )));
    }
    nested_graphs(node).try_for_each(|graph| check_graph(graph, visible))
}

/// The graphs in a node's attributes, such as the branches of an `If`.
pub(super) fn nested_graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// Bytes of the longest text in the attributes and constants of the model. No number that is written as text takes more
/// than [`NUMBER_TEXT_BYTES`].
pub(super) fn longest_text(model: &ModelProto) -> u64 {
    model.graph.iter().map(longest_text_of).max().unwrap_or(0).max(NUMBER_TEXT_BYTES)
}

const NUMBER_TEXT_BYTES: u64 = 32;

fn longest_text_of(graph: &GraphProto) -> u64 {
    let longest = |texts: &[Vec<u8>]| texts.iter().map(|text| text.len() as u64).max().unwrap_or(0);
    let constants = graph.initializer.iter().map(|tensor| longest(&tensor.string_data));
    let attributes = graph.node.iter().flat_map(|node| &node.attribute).map(|attribute| {
        let tensors = attribute.t.iter().chain(&attribute.tensors);
        let tensors = tensors.map(|tensor| longest(&tensor.string_data)).max().unwrap_or(0);
        (attribute.s.len() as u64).max(longest(&attribute.strings)).max(tensors)
    });
    let nested = graph.node.iter().flat_map(nested_graphs).map(longest_text_of);
    constants.chain(attributes).chain(nested).max().unwrap_or(0)
}

type TensorCheck<'a> = &'a mut dyn FnMut(&mut TensorProto) -> Result<(), LoadError>;

fn for_each_tensor(graph: &mut GraphProto, check: TensorCheck<'_>) -> Result<(), LoadError> {
    graph.initializer.iter_mut().try_for_each(&mut *check)?;
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        let AttributeProto { t, tensors, g, graphs, .. } = attribute;
        t.iter_mut().chain(tensors).try_for_each(&mut *check)?;
        g.iter_mut().chain(graphs).try_for_each(|graph| for_each_tensor(graph, check))?;
    }
    Ok(())
}

fn normalise_tensor(tensor: &mut TensorProto) -> Result<(), LoadError> {
    let is_external = tensor.data_location == Some(DataLocation::External as i32);
    if is_external || !tensor.external_data.is_empty() {
        return Err(invalid(format!(
            "tensor {:?} keeps its data in another file: store all data inside the .onnx file",
            tensor.name
        )));
    }
    // tract reads unsigned numbers from the wrong one of the fields for typed data.
    let words = std::mem::take(&mut tensor.uint64_data);
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Uint64) if tensor.raw_data.is_empty() => {
            tensor.raw_data = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        }
        Ok(DataType::Uint32) if tensor.raw_data.is_empty() => {
            // Values of this type fit into 32 bits; what does not was no number of this type.
            tensor.raw_data = words.iter().flat_map(|word| (*word as u32).to_le_bytes()).collect();
        }
        _ => {}
    }
    Ok(())
}

fn invalid(reason: impl Into<String>) -> LoadError {
    LoadError::Invalid { reason: reason.into() }
}
