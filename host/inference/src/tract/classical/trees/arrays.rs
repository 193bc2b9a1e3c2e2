//! The encoding of TreeEnsembleClassifier and TreeEnsembleRegressor: one entry in each array for each node, and one for
//! each weight.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::{DatumType, TractResult};

use super::forest::{Branch, Forest, Place, Test};
use crate::tract::classical::attributes::{self, expect_length, integers};
use crate::tract::classical::values;

/// How the arrays with the weights are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    Classes,
    Targets,
}

impl Weights {
    fn name(self, part: &str) -> String {
        let prefix = if self == Weights::Classes { "class" } else { "target" };
        format!("{prefix}_{part}")
    }
}

/// Numbers, and whether they were given as FP64.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    pub(super) values: Vec<f64>,
    pub(super) is_double: bool,
}

/// Reads FP32 from an attribute, or FP64 or FP32 from a tensor of nearly the same name.
pub(super) fn numbers(context: &ParsingContext<'_>, node: &NodeProto, name: &str) -> TractResult<Numbers> {
    let singles = attributes::floats(node, name)?;
    let as_tensor = format!("{name}_as_tensor");
    let Some(numbers) = tensor(context, node, &as_tensor)?.filter(|numbers| !numbers.values.is_empty()) else {
        return Ok(Numbers { values: singles.iter().map(|value| f64::from(*value)).collect(), is_double: false });
    };
    node.expect_attr(&as_tensor, singles.is_empty(), || format!("no values in '{name}' beside it"))?;
    Ok(numbers)
}

/// The numbers of a tensor, if there is one.
pub(super) fn tensor(context: &ParsingContext<'_>, node: &NodeProto, name: &str) -> TractResult<Option<Numbers>> {
    let Some(proto) = node.get_attr_opt::<&TensorProto>(name)? else { return Ok(None) };
    let tensor = context.load_tensor(proto)?;
    let values = match tensor.datum_type() {
        DatumType::F64 => values::elements::<f64>(&tensor)?.to_vec(),
        DatumType::F32 => values::elements::<f32>(&tensor)?.iter().map(|value| f64::from(*value)).collect(),
        other => return node.bail_attr(name, &format!("expected a tensor of F32 or F64, got {other:?}")),
    };
    Ok(Some(Numbers { values, is_double: tensor.datum_type() == DatumType::F64 }))
}

/// The forest of a node, for this number of targets or classes.
pub(super) fn forest(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    weights: Weights,
    targets: usize,
) -> TractResult<Forest> {
    let keys = keys(node, "nodes_treeids", "nodes_nodeids")?;
    let modes = node.get_attr_opt_slice::<Vec<u8>>("nodes_modes")?.unwrap_or(&[]);
    expect_length(node, "nodes_modes", modes.len(), keys.len())?;
    node.expect_attr("nodes_modes", !keys.is_empty(), "at least one node")?;
    let places = places(modes);
    let index = Index::new(node, &keys, &places)?;
    let (branches, has_double_branches) = branches(context, node, &keys, modes, &index)?;
    let (leaves, weights, has_double_weights) = leaf_weights(context, node, weights, &index, modes.len() - branches.len())?;
    let is_first = |number: &usize| *number == 0 || keys[*number - 1].0 != keys[*number].0;
    let roots = (0..keys.len()).filter(is_first).map(|number| places[number]).collect();
    Ok(Forest { branches, leaves, weights, roots, targets, is_double: has_double_branches || has_double_weights })
}

/// A tree and a node in it.
type Key = (i64, i64);

fn keys(node: &NodeProto, trees: &str, nodes: &str) -> TractResult<Vec<Key>> {
    let (tree_ids, node_ids) = (integers(node, trees)?, integers(node, nodes)?);
    expect_length(node, nodes, node_ids.len(), tree_ids.len())?;
    Ok(tree_ids.iter().copied().zip(node_ids.iter().copied()).collect())
}

/// Branches and leaves are numbered apart, each in the order of the arrays.
fn places(modes: &[Vec<u8>]) -> Vec<Place> {
    let (mut branches, mut leaves) = (0.., 0..);
    let place = |mode: &Vec<u8>| match mode.as_slice() {
        b"LEAF" => leaves.next().map(Place::Leaf),
        _ => branches.next().map(Place::Branch),
    };
    modes.iter().filter_map(place).collect()
}

/// Finds nodes by tree and node.
struct Index(Vec<(Key, Place)>);

impl Index {
    fn new(node: &NodeProto, keys: &[Key], places: &[Place]) -> TractResult<Index> {
        let mut index: Vec<(Key, Place)> = keys.iter().copied().zip(places.iter().copied()).collect();
        index.sort_unstable_by_key(|(key, _)| *key);
        for pair in index.windows(2) {
            let (tree, id) = pair[0].0;
            node.expect_attr("nodes_nodeids", pair[0].0 != pair[1].0, || {
                format!("each node once, but tree {tree} has two nodes {id}")
            })?;
        }
        Ok(Index(index))
    }

    fn find(&self, node: &NodeProto, attribute: &str, key: Key) -> TractResult<Place> {
        match self.0.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(found) => Ok(self.0[found].1),
            Err(_) => node.bail_attr(attribute, &format!("expected existing nodes, but tree {} has no node {}", key.0, key.1)),
        }
    }
}

fn branches(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    keys: &[Key],
    modes: &[Vec<u8>],
    index: &Index,
) -> TractResult<(Vec<Branch>, bool)> {
    let features = integers(node, "nodes_featureids")?;
    let passed = integers(node, "nodes_truenodeids")?;
    let failed = integers(node, "nodes_falsenodeids")?;
    let thresholds = numbers(context, node, "nodes_values")?;
    let missing = integers(node, "nodes_missing_value_tracks_true")?;
    expect_length(node, "nodes_featureids", features.len(), keys.len())?;
    expect_length(node, "nodes_truenodeids", passed.len(), keys.len())?;
    expect_length(node, "nodes_falsenodeids", failed.len(), keys.len())?;
    expect_length(node, "nodes_values", thresholds.values.len(), keys.len())?;
    let mut branches = Vec::new();
    for (number, mode) in modes.iter().enumerate() {
        if mode == b"LEAF" {
            continue;
        }
        let tree = keys[number].0;
        branches.push(Branch {
            feature: feature(node, features[number])?,
            test: test(node, mode, thresholds.values[number])?,
            missing_passes: missing.get(number) == Some(&1),
            passed: index.find(node, "nodes_truenodeids", (tree, passed[number]))?,
            failed: index.find(node, "nodes_falsenodeids", (tree, failed[number]))?,
        });
    }
    Ok((branches, thresholds.is_double))
}

/// The number of a feature: as large as a tensor's extent can be.
pub(super) fn feature(node: &NodeProto, feature: i64) -> TractResult<usize> {
    match i32::try_from(feature).ok().and_then(|feature| usize::try_from(feature).ok()) {
        Some(feature) => Ok(feature),
        None => node.bail_attr("nodes_featureids", &format!("expected numbers of features, got {feature}")),
    }
}

fn test(node: &NodeProto, mode: &[u8], threshold: f64) -> TractResult<Test> {
    Ok(match mode {
        b"BRANCH_LEQ" => Test::AtMost(threshold),
        b"BRANCH_LT" => Test::Below(threshold),
        b"BRANCH_GTE" => Test::AtLeast(threshold),
        b"BRANCH_GT" => Test::Above(threshold),
        b"BRANCH_EQ" => Test::Is(threshold),
        b"BRANCH_NEQ" => Test::IsNot(threshold),
        _ => return node.bail_attr("nodes_modes", "expected BRANCH_LEQ, _LT, _GTE, _GT, _EQ or _NEQ, or LEAF"),
    })
}

type LeafWeights = (Vec<std::ops::Range<usize>>, Vec<(usize, f64)>, bool);

/// The weights, sorted by leaf; those of one leaf stay in their order.
fn leaf_weights(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    names: Weights,
    index: &Index,
    leaves: usize,
) -> TractResult<LeafWeights> {
    let keys = keys(node, &names.name("treeids"), &names.name("nodeids"))?;
    let targets = integers(node, &names.name("ids"))?;
    let values = numbers(context, node, &names.name("weights"))?;
    expect_length(node, &names.name("ids"), targets.len(), keys.len())?;
    expect_length(node, &names.name("weights"), values.values.len(), keys.len())?;
    let mut found = Vec::with_capacity(keys.len());
    for ((key, target), value) in keys.into_iter().zip(targets).zip(&values.values) {
        let target = usize::try_from(*target);
        let Ok(target) = target else { return node.bail_attr(&names.name("ids"), "expected no negative numbers") };
        // Some converters give weights to branches, where nothing reads them.
        if let Place::Leaf(leaf) = index.find(node, &names.name("nodeids"), key)? {
            found.push((leaf, (target, *value)));
        }
    }
    found.sort_by_key(|(leaf, _)| *leaf);
    let ranges = (0..leaves).map(|leaf| {
        let start = found.partition_point(|(other, _)| *other < leaf);
        start..found.partition_point(|(other, _)| *other <= leaf)
    });
    Ok((ranges.collect(), found.iter().map(|(_, weight)| *weight).collect(), values.is_double))
}
