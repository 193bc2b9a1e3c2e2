//! Which versions of the operators a file means. An engine that takes another one runs other operators.

use std::collections::HashMap;

use tract_onnx::pb::ModelProto;

use super::{for_each_node, invalid, nested_graphs};
use crate::engine::{LoadError, short};

/// The operator set versions whose meaning is known, of the default domain.
const OPERATOR_SETS: std::ops::RangeInclusive<i64> = 9..=28;

/// Operators of the default domain that mean in older operator sets what they mean in the oldest one above. Exports of
/// LightGBM that have no others say that they are of an older set.
const UNCHANGED_OPERATORS: [&str; 12] =
    ["Abs", "Add", "Cast", "Div", "Exp", "Identity", "Log", "Mul", "Neg", "Reshape", "Sigmoid", "Sub"];

/// The operator set since which all of these are what they are: broadcasting came with version 7.
const UNCHANGED_SINCE: i64 = 7;

/// Each domain whose operators are there is imported, in one version, and the default one in a version that is known: of a
/// domain that is imported in two each engine takes the version that it likes, and of one that is not imported the newest or the
/// oldest.
///
/// # Errors
/// [`LoadError::Invalid`] or [`LoadError::Unsupported`].
pub(super) fn check(model: &ModelProto) -> Result<(), LoadError> {
    let mut versions = HashMap::new();
    for set in &model.opset_import {
        if versions.insert(set.domain.as_str(), set.version).is_some() {
            return Err(invalid(format!(
                "it imports the operator set {} in two versions",
                named(&set.domain)
            )));
        }
    }
    let mut missing = None;
    if let Some(graph) = &model.graph {
        for_each_node(graph, &mut |node| {
            if !versions.contains_key(node.domain.as_str()) {
                missing.get_or_insert(node);
            }
        });
    }
    if let Some(node) = missing {
        return Err(invalid(format!(
            "operator {} is of the operator set {}, which it does not import",
            short(&node.op_type),
            named(&node.domain)
        )));
    }
    versions.get("").map_or(Ok(()), |version| check_default(model, *version))
}

fn named(domain: &str) -> String {
    if domain.is_empty() { "ai.onnx".to_owned() } else { short(domain) }
}

fn check_default(model: &ModelProto, version: i64) -> Result<(), LoadError> {
    let is_unchanged = || UNCHANGED_SINCE <= version && has_unchanged_operators_only(model);
    if OPERATOR_SETS.contains(&version) || (version < *OPERATOR_SETS.start() && is_unchanged()) {
        return Ok(());
    }
    Err(LoadError::Unsupported {
        reason: format!(
            "the operator set has version {version}: expected {} to {}",
            OPERATOR_SETS.start(),
            OPERATOR_SETS.end()
        ),
    })
}

fn has_unchanged_operators_only(model: &ModelProto) -> bool {
    let mut nodes = model.graph.iter().flat_map(|graph| &graph.node);
    nodes.all(|node| match node.domain.as_str() {
        "" => UNCHANGED_OPERATORS.contains(&node.op_type.as_str()),
        // Operators of another domain are what the version of that domain says.
        _ => nested_graphs(node).next().is_none(),
    })
}
