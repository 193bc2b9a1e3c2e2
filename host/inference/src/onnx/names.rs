//! The names of a graph's values: each is made once, before somebody else means another value by it, and none is
//! missing. Nothing else would say which of two values an engine takes.

use std::collections::HashSet;

use tract_onnx::pb::{GraphProto, NodeProto, ValueInfoProto};

use super::{invalid, nested_graphs};
use crate::engine::{LoadError, short};

/// The most inputs, and the most outputs: what comes with a request is looked up among them by its name.
const MAX_TENSORS: usize = 1024;

/// Every name that is used exists, here or in a graph around this one; every output is made here; and every name means one
/// value, also in the graphs inside.
///
/// # Errors
/// [`LoadError::Invalid`], or [`LoadError::Unsupported`] where there are too many inputs or outputs.
pub(super) fn check(graph: &GraphProto) -> Result<(), LoadError> {
    check_border("inputs", &graph.input)?;
    check_border("outputs", &graph.output)?;
    if graph.output.is_empty() {
        return Err(invalid("the graph has no outputs"));
    }
    // Constants that have the name of an input are what the input is where nobody gives it.
    let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    let defaults = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let mut defaults: Vec<&str> = defaults.filter(|name| inputs.contains(name)).collect();
    defaults.sort_unstable();
    if let Some(twice) = defaults.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(made_twice(twice[0]));
    }
    let constants = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let constants = constants.filter(|name| !inputs.contains(name)).collect();
    check_graph(graph, constants, &mut HashSet::new())
}

fn check_border(role: &str, values: &[ValueInfoProto]) -> Result<(), LoadError> {
    if values.len() > MAX_TENSORS {
        return Err(LoadError::Unsupported {
            reason: format!("the graph has {} {role}: at most {MAX_TENSORS} are supported", values.len()),
        });
    }
    let mut names = HashSet::new();
    for value in values {
        // Engines written in C end a name at its first zero.
        if value.name.is_empty() || value.name.contains('\0') || !names.insert(&value.name) {
            return Err(invalid(format!(
                "two {role} have the name {:?}, or it is empty, or has a zero in it",
                short(&value.name)
            )));
        }
    }
    Ok(())
}

/// `constants` are those that are made here and are no inputs; `visible` is what the graphs around this one make.
fn check_graph<'a>(
    graph: &'a GraphProto,
    constants: Vec<&'a str>,
    visible: &mut HashSet<&'a str>,
) -> Result<(), LoadError> {
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let values = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let made = inputs.chain(constants).chain(values).filter(|name| !name.is_empty());
    let mut here = HashSet::new();
    for name in made {
        if !visible.insert(name) {
            return Err(made_twice(name));
        }
        here.insert(name);
    }
    let missing = graph.output.iter().find(|output| !here.contains(output.name.as_str()));
    if let Some(missing) = missing {
        return Err(invalid(format!("nothing makes the output {:?}", short(&missing.name))));
    }
    graph.node.iter().try_for_each(|node| check_node(node, visible))?;
    here.iter().for_each(|name| {
        visible.remove(name);
    });
    Ok(())
}

fn check_node<'a>(node: &'a NodeProto, visible: &mut HashSet<&'a str>) -> Result<(), LoadError> {
    let missing = node.input.iter().find(|name| !name.is_empty() && !visible.contains(name.as_str()));
    if let Some(missing) = missing {
        return Err(invalid(format!(
            "operator {} ({:?}) takes {:?}, which nothing makes",
            short(&node.op_type),
            short(&node.name),
            short(missing)
        )));
    }
    nested_graphs(node).try_for_each(|graph| {
        let constants = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        check_graph(graph, constants, visible)
    })
}

fn made_twice(name: &str) -> LoadError {
    invalid(format!(
        "the value {:?} is made twice, in one graph or in a graph and one around it",
        short(name)
    ))
}
