//! Decodes an ONNX file and refuses what no engine should have to think about. Knows no engine: what one of them does
//! not run is for that one to say. What comes out of it has one meaning, which every engine reads in the same way.

mod canonical;
pub mod external_data;
mod names;
mod operator_sets;

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::Framework;

use crate::engine::LoadError;

/// Decodes the file, checks its structure, nested graphs included, and writes each thing in one way.
///
/// # Errors
/// [`LoadError::Invalid`] for bytes that are no ONNX model, for names that mean nothing or two things and for data in
/// other files; [`LoadError::Unsupported`] for operator sets that are too old or too new.
pub(crate) fn decode(mut onnx: &[u8]) -> Result<ModelProto, LoadError> {
    let decoded = tract_onnx::onnx().proto_model_for_read(&mut onnx);
    let mut model = decoded.map_err(|_| invalid("the bytes are not an ONNX file, or are cut off"))?;
    canonical::rewrite(&mut model)?;
    operator_sets::check(&model)?;
    model.graph.iter().try_for_each(names::check)?;
    Ok(model)
}

/// The graphs in a node's attributes, such as the branches of an `If`.
pub(crate) fn nested_graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// Bytes of the longest text in the attributes and constants of the model. No number that is written as text takes more
/// than [`NUMBER_TEXT_BYTES`].
pub(crate) fn longest_text(model: &ModelProto) -> u64 {
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

/// Every tensor in the graph and in those nested in it, until one is refused.
fn for_each_tensor<E>(
    graph: &mut GraphProto,
    visit: &mut dyn FnMut(&mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    graph.initializer.iter_mut().try_for_each(&mut *visit)?;
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(&mut *visit)?;
        let nested = attribute.g.iter_mut().chain(&mut attribute.graphs);
        nested.into_iter().try_for_each(|nested| for_each_tensor(nested, visit))?;
    }
    Ok(())
}

/// Every node of the graph and of those nested in it.
pub(crate) fn for_each_node<'a>(graph: &'a GraphProto, visit: &mut dyn FnMut(&'a NodeProto)) {
    for node in &graph.node {
        visit(node);
        nested_graphs(node).for_each(|nested| for_each_node(nested, visit));
    }
}

fn invalid(reason: impl Into<String>) -> LoadError {
    LoadError::Invalid { reason: reason.into() }
}
