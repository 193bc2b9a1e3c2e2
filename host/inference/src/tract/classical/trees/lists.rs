//! The encoding of TreeEnsemble, the newest one: arrays of branches and of leaves, which point to each other by place.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::{DatumType, TractResult};

use super::arrays::{Numbers, feature, tensor};
use super::forest::{Aggregate, Branch, Forest, Place, Test};
use crate::tract::classical::attributes::{expect_length, integer, integers};
use crate::tract::classical::post_transform::PostTransform;
use crate::tract::classical::values;

/// A branch that asks whether a value is one of a list: the lists stand one after another, each closed by NaN.
const BRANCH_MEMBER: u8 = 6;

pub(super) fn aggregate(node: &NodeProto) -> TractResult<Aggregate> {
    Ok(match integer(node, "aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return node.bail_attr("aggregate_function", &format!("expected 0 to 3, got {other}")),
    })
}

pub(super) fn post_transform(node: &NodeProto) -> TractResult<PostTransform> {
    Ok(match integer(node, "post_transform", 0)? {
        0 => PostTransform::None,
        1 => PostTransform::Softmax,
        2 => PostTransform::Logistic,
        3 => PostTransform::SoftmaxZero,
        4 => PostTransform::Probit,
        other => return node.bail_attr("post_transform", &format!("expected 0 to 4, got {other}")),
    })
}

pub(super) fn forest(context: &ParsingContext<'_>, node: &NodeProto, targets: usize) -> TractResult<Forest> {
    let numbers = |name: &str| -> TractResult<Numbers> {
        tensor(context, node, name)?.map_or_else(|| node.bail_attr(name, "expected a tensor"), Ok)
    };
    let modes = modes(context, node)?;
    let splits = numbers("nodes_splits")?;
    let weights = numbers("leaf_weights")?;
    let mut members = tensor(context, node, "membership_values")?.unwrap_or_default().values.into_iter();
    let features = integers(node, "nodes_featureids")?;
    let missing = integers(node, "nodes_missing_value_tracks_true")?;
    let passed = Ways::new(node, "nodes_truenodeids", "nodes_trueleafs", modes.len())?;
    let failed = Ways::new(node, "nodes_falsenodeids", "nodes_falseleafs", modes.len())?;
    expect_length(node, "nodes_splits", splits.values.len(), modes.len())?;
    expect_length(node, "nodes_featureids", features.len(), modes.len())?;
    let mut branches = Vec::with_capacity(modes.len());
    for (number, mode) in modes.iter().enumerate() {
        let members = match *mode {
            BRANCH_MEMBER => members.by_ref().take_while(|member| !member.is_nan()).collect(),
            _ => Vec::new(),
        };
        branches.push(Branch {
            feature: feature(node, features[number])?,
            test: test(node, *mode, splits.values[number], members)?,
            missing_passes: missing.get(number) == Some(&1),
            passed: passed.get(node, number)?,
            failed: failed.get(node, number)?,
        });
    }
    let weights_by_leaf = leaves(node, &weights.values)?;
    let is_double = splits.is_double || weights.is_double;
    let leaves = (0..weights_by_leaf.len()).map(|leaf| leaf..leaf + 1).collect();
    let roots = roots(node, &branches)?;
    Ok(Forest { branches, leaves, weights: weights_by_leaf, roots, targets, is_double })
}

fn modes(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Vec<u8>> {
    let proto = node.get_attr::<&TensorProto>("nodes_modes")?;
    let modes = context.load_tensor(proto)?;
    node.expect_attr("nodes_modes", modes.datum_type() == DatumType::U8, "a tensor of UINT8")?;
    Ok(values::elements::<u8>(&modes)?.to_vec())
}

fn test(node: &NodeProto, mode: u8, split: f64, members: Vec<f64>) -> TractResult<Test> {
    Ok(match mode {
        0 => Test::AtMost(split),
        1 => Test::Below(split),
        2 => Test::AtLeast(split),
        3 => Test::Above(split),
        4 => Test::Is(split),
        5 => Test::IsNot(split),
        BRANCH_MEMBER => Test::IsOneOf(members),
        other => return node.bail_attr("nodes_modes", &format!("expected 0 to 6, got {other}")),
    })
}

/// Where the branches lead on one side: places, and for each whether it is one of a leaf.
struct Ways<'a> {
    name: &'static str,
    places: &'a [i64],
    are_leaves: &'a [i64],
}

impl Ways<'_> {
    fn new<'a>(node: &'a NodeProto, name: &'static str, leaves: &str, branches: usize) -> TractResult<Ways<'a>> {
        let ways = Ways { name, places: integers(node, name)?, are_leaves: integers(node, leaves)? };
        expect_length(node, name, ways.places.len(), branches)?;
        expect_length(node, leaves, ways.are_leaves.len(), branches)?;
        Ok(ways)
    }

    fn get(&self, node: &NodeProto, number: usize) -> TractResult<Place> {
        let place = usize::try_from(self.places[number]);
        let Ok(place) = place else { return node.bail_attr(self.name, "expected no negative numbers") };
        Ok(if self.are_leaves[number] == 0 { Place::Branch(place) } else { Place::Leaf(place) })
    }
}

fn leaves(node: &NodeProto, weights: &[f64]) -> TractResult<Vec<(usize, f64)>> {
    let targets = integers(node, "leaf_targetids")?;
    expect_length(node, "leaf_targetids", targets.len(), weights.len())?;
    let leaf = |(target, weight): (&i64, &f64)| match usize::try_from(*target) {
        Ok(target) => Ok((target, *weight)),
        Err(_) => node.bail_attr("leaf_targetids", "expected no negative numbers"),
    };
    targets.iter().zip(weights).map(leaf).collect()
}

/// A root whose branch has the same leaf on both sides is a tree of this leaf alone, for which there is no other way to
/// write it.
fn roots(node: &NodeProto, branches: &[Branch]) -> TractResult<Vec<Place>> {
    let root = |number: &i64| {
        let number = usize::try_from(*number).ok().filter(|number| *number < branches.len());
        let Some(number) = number else { return node.bail_attr("tree_roots", "expected numbers of nodes") };
        let Branch { passed, failed, .. } = &branches[number];
        let is_leaf = matches!(passed, Place::Leaf(_)) && passed == failed;
        Ok(if is_leaf { *passed } else { Place::Branch(number) })
    };
    integers(node, "tree_roots")?.iter().map(root).collect()
}
