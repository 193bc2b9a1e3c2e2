//! Tree ensembles of any shape: the same answers as a walk that follows the words of the operator set, and an error for
//! whatever is no forest.

use modelhost_core::Tensor;
use proptest::collection::vec;
use proptest::prelude::*;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, attribute_proto::AttributeType};

use crate::onnx::{Fixed, GraphBuilder, Named, int_attribute};
use crate::values::{floats, limits, load, to_floats};

const FEATURES: usize = 3;
const MODES: [&str; 7] =
    ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF"];

#[derive(Clone, Debug, Default)]
struct Arrays {
    trees: Vec<i64>,
    nodes: Vec<i64>,
    modes: Vec<usize>,
    features: Vec<i64>,
    values: Vec<f32>,
    passed: Vec<i64>,
    failed: Vec<i64>,
    missing: Vec<i64>,
    weight_trees: Vec<i64>,
    weight_nodes: Vec<i64>,
    weight_targets: Vec<i64>,
    weights: Vec<f32>,
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: ints.to_vec(),
        ..Default::default()
    }
}

fn numbers(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Floats as i32,
        floats: floats.to_vec(),
        ..Default::default()
    }
}

impl Arrays {
    fn onnx(&self) -> Vec<u8> {
        let modes = AttributeProto {
            name: "nodes_modes".into(),
            r#type: AttributeType::Strings as i32,
            strings: self.modes.iter().map(|mode| MODES[*mode % MODES.len()].into()).collect(),
            ..Default::default()
        };
        let attributes = vec![
            modes,
            int_attribute("n_targets", 1),
            ints("nodes_treeids", &self.trees),
            ints("nodes_nodeids", &self.nodes),
            ints("nodes_featureids", &self.features),
            numbers("nodes_values", &self.values),
            ints("nodes_truenodeids", &self.passed),
            ints("nodes_falsenodeids", &self.failed),
            ints("nodes_missing_value_tracks_true", &self.missing),
            ints("target_treeids", &self.weight_trees),
            ints("target_nodeids", &self.weight_nodes),
            ints("target_ids", &self.weight_targets),
            numbers("target_weights", &self.weights),
        ];
        GraphBuilder::new()
            .input("x", DataType::Float, &[Named("n"), Fixed(FEATURES as i64)])
            .node_with("ai.onnx.ml", "TreeEnsembleRegressor", &["x"], &["y"], attributes)
            .output("y", DataType::Float, &[Named("n"), Fixed(1)])
            .build()
    }

    /// Adds a tree whose node n leads to 2n + 1 and 2n + 2.
    fn add(&mut self, tree: i64, nodes: &[Drawn]) {
        for (number, drawn) in nodes.iter().enumerate() {
            let children = (2 * number + 1, 2 * number + 2);
            let is_leaf = children.1 >= nodes.len() || drawn.mode == 6;
            self.trees.push(tree);
            self.nodes.push(number as i64);
            self.modes.push(if is_leaf { 6 } else { drawn.mode });
            self.features.push(drawn.feature);
            self.values.push(drawn.value);
            self.passed.push(children.0 as i64);
            self.failed.push(children.1 as i64);
            self.missing.push(i64::from(drawn.missing));
            if is_leaf {
                self.weight_trees.push(tree);
                self.weight_nodes.push(number as i64);
                self.weight_targets.push(0);
                self.weights.push(drawn.weight);
            }
        }
    }

    /// The answer for a row, by the words of the operator set.
    fn walk(&self, row: &[f32]) -> f32 {
        let mut sum = 0.0;
        let mut last = None;
        for start in 0..self.trees.len() {
            let tree = self.trees[start];
            if last.replace(tree) == Some(tree) {
                continue;
            }
            let find = |node: i64| {
                (0..self.trees.len()).find(|at| (self.trees[*at], self.nodes[*at]) == (tree, node))
            };
            let mut at = start;
            while self.modes[at] != 6 {
                let (value, threshold) = (row[self.features[at] as usize], self.values[at]);
                let passes = match self.modes[at] {
                    0 => value <= threshold,
                    1 => value < threshold,
                    2 => value >= threshold,
                    3 => value > threshold,
                    4 => value == threshold,
                    _ => value != threshold,
                };
                let passes = passes || (value.is_nan() && self.missing[at] == 1);
                at = find(if passes { self.passed[at] } else { self.failed[at] }).unwrap();
            }
            let weight = (0..self.weights.len()).find(|place| {
                (self.weight_trees[*place], self.weight_nodes[*place]) == (tree, self.nodes[at])
            });
            sum += self.weights[weight.unwrap()];
        }
        sum
    }
}

#[derive(Clone, Debug)]
struct Drawn {
    mode: usize,
    feature: i64,
    value: f32,
    missing: bool,
    weight: f32,
}

/// Few of them, so that values and thresholds are often the same.
fn number() -> impl Strategy<Value = f32> {
    prop::sample::select(vec![
        -1.0,
        -0.5,
        -0.0,
        0.0,
        f32::MIN_POSITIVE,
        0.5,
        1.0,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ])
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let parts = (0_usize..7, 0..FEATURES as i64, number(), any::<bool>(), -4_i32..5);
    parts.prop_map(|(mode, feature, value, missing, weight)| Drawn {
        mode,
        feature,
        value,
        missing,
        weight: weight as f32,
    })
}

fn forest() -> impl Strategy<Value = Arrays> {
    vec(vec(drawn(), 1..32), 1..12).prop_map(|trees| {
        let mut arrays = Arrays::default();
        trees.iter().enumerate().for_each(|(tree, nodes)| arrays.add(tree as i64, nodes));
        arrays
    })
}

fn rows() -> impl Strategy<Value = Vec<f32>> {
    vec(vec(number(), FEATURES), 1..40).prop_map(|rows| rows.concat())
}

fn input(x: &[f32]) -> Tensor {
    floats(&[(x.len() / FEATURES) as u64, FEATURES as u64], x)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_forest_answers_as_a_walk_by_the_book(arrays in forest(), x in rows()) {
        let outputs = load(&arrays.onnx()).unwrap().run(vec![input(&x)], &limits()).unwrap();
        let expected: Vec<f32> = x.chunks(FEATURES).map(|row| arrays.walk(row)).collect();
        prop_assert_eq!(to_floats(&outputs[0]), expected);
    }

    /// A cycle, a way to nowhere, a feature that is not there, arrays of unlike length: an error, or a run that ends.
    #[test]
    fn changed_arrays_are_refused_or_run(
        mut arrays in forest(),
        x in rows(),
        changes in vec((0_usize..12, any::<prop::sample::Index>(), -2_i64..40, any::<bool>()), 1..6),
    ) {
        for (which, index, to, cuts) in changes {
            let array = match which {
                0 => &mut arrays.trees,
                1 => &mut arrays.nodes,
                2 => &mut arrays.features,
                3 | 4 => &mut arrays.passed,
                5 | 6 => &mut arrays.failed,
                7 => &mut arrays.weight_trees,
                8 => &mut arrays.weight_nodes,
                9 => &mut arrays.weight_targets,
                10 => &mut arrays.missing,
                _ => {
                    let mode = index.index(arrays.modes.len());
                    arrays.modes[mode] = to.unsigned_abs() as usize;
                    continue;
                }
            };
            if array.is_empty() {
                continue;
            }
            let at = index.index(array.len());
            if cuts && to < 3 { array.truncate(at) } else { array[at] = if to == 39 { i64::MAX } else { to } }
        }
        match load(&arrays.onnx()) {
            Ok(graph) => drop(graph.run(vec![input(&x)], &limits())),
            Err(error) => {
                let error = error.to_string();
                prop_assert!(error.contains("TreeEnsembleRegressor"), "{}", error);
                prop_assert!(!error.contains("unexpectedly"), "{}", error);
            }
        }
    }
}

#[test]
fn what_is_no_forest_is_refused_in_one_sentence() {
    let branch = Drawn { mode: 0, feature: 0, value: 0.5, missing: false, weight: 1.0 };
    let mut good = Arrays::default();
    good.add(0, &vec![branch; 7]);
    let refused = |change: fn(&mut Arrays)| {
        let mut arrays = good.clone();
        change(&mut arrays);
        load(&arrays.onnx()).err().unwrap().to_string()
    };
    let cases: [(fn(&mut Arrays), &str); 6] = [
        (|arrays| arrays.passed[1] = 0, "a branch leads back to itself"),
        (
            |arrays| arrays.failed[2] = 70,
            "'nodes_falsenodeids': expected existing nodes, but tree 0 has no node 70",
        ),
        (|arrays| arrays.features[0] = i64::MAX, "'nodes_featureids': expected numbers of features"),
        (|arrays| arrays.features[0] = 3, "'nodes_featureids': feature 3 is asked for, but the input has 3"),
        (
            |arrays| arrays.nodes[3] = 4,
            "'nodes_nodeids': expected each node once, but tree 0 has two nodes 4",
        ),
        (|arrays| arrays.values.truncate(2), "'nodes_values': expected 7 entries, got 2"),
    ];
    for (change, expected) in cases {
        let error = refused(change);
        assert!(error.contains("TreeEnsembleRegressor") && error.contains(expected), "{error}");
    }
}
