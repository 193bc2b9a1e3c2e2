//! Which networks' rows are proven to be independent. A network that is wrongly believed to keep rows apart would carry one
//! client's values into another's answer, so every way to mix them has a case.

use modelhost_core::Tensor;
use modelhost_inference::TractEngine;
use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType::{Float, Int64};

use crate::onnx::{Extent, Fixed, GraphBuilder, Named, Unknown, int_attribute, linear};
use crate::values::{floats, limits, load, to_floats};

const N: Extent = Named("n");

fn ints_attribute(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: ints.to_vec(),
        ..AttributeProto::default()
    }
}

/// A network with the input `x` of `[n, 3]`.
fn table() -> GraphBuilder {
    GraphBuilder::new().input("x", Float, &[N, Fixed(3)])
}

/// A network with the input `x` of `[n, 2, 4, 4]`.
fn images() -> GraphBuilder {
    GraphBuilder::new().input("x", Float, &[N, Fixed(2), Fixed(4), Fixed(4)])
}

trait Steps {
    fn step(self, operator: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> Self;
    fn ends(self) -> bool;
}

impl Steps for GraphBuilder {
    fn step(self, operator: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> Self {
        self.node_with("", operator, inputs, &[output], attributes)
    }

    /// Whether the rows of `y` are independent, which both ways of asking must answer alike.
    fn ends(self) -> bool {
        let onnx = self.output("y", Float, &[]).build();
        let graph = load(&onnx).unwrap_or_else(|error| panic!("{error}"));
        let is_independent = graph.rows_are_independent();
        assert_eq!(TractEngine::new().prove(&onnx).rows_are_independent, is_independent);
        is_independent
    }
}

fn axis(axis: i64) -> Vec<AttributeProto> {
    vec![int_attribute("axis", axis)]
}

fn keepdims(keep: i64, axes: &[i64]) -> Vec<AttributeProto> {
    vec![int_attribute("keepdims", keep), ints_attribute("axes", axes)]
}

#[test]
fn layers_keep_rows_apart() {
    assert!(load(&linear().build()).unwrap().rows_are_independent());
    let perceptron = table()
        .floats("w1", &[3, 8], &[0.5; 24])
        .floats("b1", &[8], &[0.1; 8])
        .floats("w2", &[8, 2], &[0.5; 16])
        .floats("b2", &[2], &[0.1; 2])
        .step("Gemm", &["x", "w1", "b1"], "h", vec![])
        .step("Relu", &["h"], "r", vec![])
        .step("Gemm", &["r", "w2", "b2"], "z", vec![])
        .step("Softmax", &["z"], "y", axis(1));
    assert!(perceptron.ends());
}

#[test]
fn convolutions_keep_rows_apart() {
    let network = images()
        .floats("w", &[4, 2, 3, 3], &[0.1; 72])
        .floats("scale", &[4], &[1.5; 4])
        .floats("zero", &[4], &[0.5; 4])
        .floats("dense", &[4, 5], &[0.3; 20])
        .step("Conv", &["x", "w"], "c", vec![ints_attribute("pads", &[1, 1, 1, 1])])
        .step("BatchNormalization", &["c", "scale", "zero", "zero", "scale"], "n", vec![])
        .step("Relu", &["n"], "r", vec![])
        .step("MaxPool", &["r"], "p", vec![ints_attribute("kernel_shape", &[2, 2])])
        .step("GlobalAveragePool", &["p"], "g", vec![])
        .step("Flatten", &["g"], "f", axis(1))
        .step("MatMul", &["f", "dense"], "y", vec![]);
    assert!(network.ends());
}

#[test]
fn normalisation_over_features_keeps_rows_apart() {
    let network = table()
        .step("ReduceMean", &["x"], "m", keepdims(1, &[1]))
        .step("Sub", &["x", "m"], "d", vec![])
        .step("Mul", &["d", "d"], "q", vec![])
        .step("ReduceMean", &["q"], "v", keepdims(1, &[1]))
        .step("Sqrt", &["v"], "s", vec![])
        .step("Div", &["d", "s"], "y", vec![]);
    assert!(network.ends());
    let layer =
        table().floats("scale", &[3], &[1.5; 3]).step("LayerNormalization", &["x", "scale"], "y", axis(-1));
    assert!(layer.ends());
}

#[test]
fn normalisation_over_rows_mixes_them() {
    let network =
        table().step("ReduceMean", &["x"], "m", keepdims(1, &[0])).step("Sub", &["x", "m"], "y", vec![]);
    assert!(!network.ends());
    assert!(!table().step("Softmax", &["x"], "y", axis(0)).ends());
    assert!(table().step("Softmax", &["x"], "y", axis(-1)).ends());
}

#[test]
fn what_goes_along_rows_mixes_them() {
    for (along, is_independent) in [(0, false), (1, true)] {
        let sum = table().integers("a", &[], &[along]).step("CumSum", &["x", "a"], "y", vec![]);
        assert_eq!(sum.ends(), is_independent, "CumSum along {along}");
        let largest = table().step("ReduceMax", &["x"], "m", keepdims(1, &[along]));
        if let Ok(graph) =
            load(&largest.clone().step("Add", &["x", "m"], "y", vec![]).output("y", Float, &[]).build())
        {
            assert_eq!(graph.rows_are_independent(), is_independent, "ReduceMax along {along}");
        }
        let norm = table().step("LpNormalization", &["x"], "y", axis(along));
        assert_eq!(norm.ends(), is_independent, "LpNormalization along {along}");
        let highest = table().step("Hardmax", &["x"], "y", axis(along));
        // Not every independent network has to be proven, but no other may be.
        assert!(is_independent || !highest.ends(), "Hardmax along {along}");
    }
}

#[test]
fn rows_that_are_multiplied_with_rows_mix() {
    let transposed = table().step("Transpose", &["x"], "t", vec![ints_attribute("perm", &[1, 0])]);
    assert!(!transposed.clone().step("MatMul", &["x", "t"], "y", vec![]).ends());
    assert!(!transposed.clone().step("MatMul", &["t", "x"], "y", vec![]).ends());
    let back = transposed.step("Transpose", &["t"], "y", vec![ints_attribute("perm", &[1, 0])]);
    assert!(back.ends());
}

#[test]
fn attention_within_a_row_keeps_rows_apart() {
    let tokens = GraphBuilder::new().input("x", Float, &[N, Named("s"), Fixed(4)]);
    let network = tokens
        .floats("w", &[4, 4], &[0.2; 16])
        .step("MatMul", &["x", "w"], "q", vec![])
        .step("Transpose", &["x"], "k", vec![ints_attribute("perm", &[0, 2, 1])])
        .step("MatMul", &["q", "k"], "scores", vec![])
        .step("Softmax", &["scores"], "p", axis(-1))
        .step("MatMul", &["p", "x"], "y", vec![]);
    assert!(network.ends());
}

#[test]
fn attention_between_rows_mixes_them() {
    let network = GraphBuilder::new()
        .input("x", Float, &[N, Fixed(2), Fixed(4)])
        .step("Transpose", &["x"], "t", vec![ints_attribute("perm", &[1, 0, 2])])
        .step("Transpose", &["x"], "k", vec![ints_attribute("perm", &[1, 2, 0])])
        .step("MatMul", &["t", "k"], "scores", vec![])
        .step("Softmax", &["scores"], "p", axis(-1))
        .step("MatMul", &["p", "t"], "z", vec![])
        .step("Transpose", &["z"], "y", vec![ints_attribute("perm", &[1, 0, 2])]);
    assert!(!network.ends());
}

#[test]
fn tables_are_looked_up_by_row() {
    let words = GraphBuilder::new().input("ids", Int64, &[N, Fixed(5)]);
    let embedding =
        words.floats("table", &[7, 4], &[0.5; 28]).step("Gather", &["table", "ids"], "y", axis(0));
    assert!(embedding.ends());
    let columns = table().integers("which", &[2], &[2, 0]).step("Gather", &["x", "which"], "y", axis(1));
    assert!(columns.ends());
}

#[test]
fn rows_that_are_chosen_by_number_mix() {
    for index in [0, -1] {
        let first = table()
            .integers("which", &[1], &[index])
            .step("Gather", &["x", "which"], "row", axis(0))
            .step("Add", &["x", "row"], "y", vec![]);
        assert!(!first.ends(), "{index}");
    }
    // tract would take the element beside the row, which is the last or the first of another one.
    for index in [3, -4, 1_000] {
        let outside = table()
            .integers("which", &[1], &[index])
            .step("Gather", &["x", "which"], "y", axis(1))
            .output("y", Float, &[])
            .build();
        assert!(load(&outside).map_or(true, |graph| !graph.rows_are_independent()), "{index}");
    }
    let reversed = table()
        .integers("starts", &[1], &[-1])
        .integers("ends", &[1], &[i64::MIN])
        .integers("axes", &[1], &[0])
        .integers("steps", &[1], &[-1])
        .step("Slice", &["x", "starts", "ends", "axes", "steps"], "y", vec![])
        .output("y", Float, &[])
        .build();
    assert!(load(&reversed).is_ok_and(|graph| !graph.rows_are_independent()) || load(&reversed).is_err());
    let shifted = table()
        .integers("starts", &[1], &[1])
        .integers("ends", &[1], &[i64::MAX])
        .integers("axes", &[1], &[0])
        .step("Slice", &["x", "starts", "ends", "axes"], "y", vec![]);
    assert!(!shifted.ends());
    let padded = table()
        .integers("pads", &[4], &[1, 0, -1, 0])
        .step("Pad", &["x", "pads"], "y", vec![])
        .output("y", Float, &[])
        .build();
    assert!(load(&padded).map_or(true, |graph| !graph.rows_are_independent()));
}

#[test]
fn shapes_that_keep_rows_together_keep_them_apart() {
    let network = images()
        .integers("flat", &[2], &[0, 32])
        .integers("back", &[4], &[-1, 4, 4, 2])
        .step("Reshape", &["x", "flat"], "f", vec![])
        .step("Reshape", &["f", "back"], "r", vec![])
        .step("Transpose", &["r"], "y", vec![ints_attribute("perm", &[0, 3, 1, 2])]);
    assert!(network.ends());
    let cut = table()
        .integers("starts", &[1], &[1])
        .integers("ends", &[1], &[3])
        .integers("axes", &[1], &[1])
        .step("Slice", &["x", "starts", "ends", "axes"], "part", vec![])
        .step("Concat", &["part", "x"], "y", axis(1));
    assert!(cut.ends());
}

#[test]
fn shapes_that_tear_rows_apart_mix_them() {
    let halves = GraphBuilder::new()
        .input("x", Float, &[N, Fixed(4)])
        .integers("shape", &[2], &[-1, 2])
        .step("Reshape", &["x", "shape"], "y", vec![]);
    assert!(!halves.ends());
    let swapped = GraphBuilder::new()
        .input("x", Float, &[N, Fixed(4)])
        .integers("shape", &[2], &[4, -1])
        .step("Reshape", &["x", "shape"], "z", vec![])
        .step("Transpose", &["z"], "y", vec![ints_attribute("perm", &[1, 0])]);
    assert!(!swapped.ends());
    assert!(!table().step("Concat", &["x", "x"], "y", axis(0)).ends());
    let transposed = table().step("Transpose", &["x"], "y", vec![ints_attribute("perm", &[1, 0])]);
    assert!(!transposed.ends());
}

/// How many rows there are says something about the other requests.
#[test]
fn the_number_of_rows_is_no_value() {
    let rows = || {
        table()
            .integers("zero", &[], &[0])
            .step("Shape", &["x"], "shape", vec![])
            .step("Gather", &["shape", "zero"], "rows", axis(0))
            .step("Cast", &["rows"], "count", vec![int_attribute("to", Float as i64)])
    };
    assert!(!rows().step("Div", &["x", "count"], "y", vec![]).ends());
    assert!(!rows().step("Add", &["x", "count"], "y", vec![]).ends());
    let numbered = table()
        .integers("zero", &[], &[0])
        .integers("one", &[], &[1])
        .integers("last", &[1], &[1])
        .step("Shape", &["x"], "shape", vec![])
        .step("Gather", &["shape", "zero"], "rows", axis(0))
        .step("Range", &["zero", "rows", "one"], "range", vec![])
        .step("Cast", &["range"], "numbers", vec![int_attribute("to", Float as i64)])
        .step("Unsqueeze", &["numbers", "last"], "column", vec![])
        .step("Add", &["x", "column"], "y", vec![])
        .output("y", Float, &[])
        .build();
    assert!(load(&numbered).map_or(true, |graph| !graph.rows_are_independent()));
}

#[test]
fn every_input_and_every_output_has_to_have_the_rows() {
    let pair = |second: &[Extent]| {
        GraphBuilder::new().input("x", Float, &[N, Fixed(3)]).input("w", Float, second).step(
            "Add",
            &["x", "w"],
            "y",
            vec![],
        )
    };
    assert!(pair(&[N, Fixed(3)]).ends());
    assert!(!pair(&[Fixed(1), Fixed(3)]).ends(), "one input is the same for all");
    assert!(!pair(&[Fixed(3)]).ends());
    let fixed =
        GraphBuilder::new().input("x", Float, &[Fixed(4), Fixed(3)]).step("Relu", &["x"], "y", vec![]);
    assert!(!fixed.ends());
    assert!(
        GraphBuilder::new().input("x", Float, &[Unknown, Fixed(3)]).step("Relu", &["x"], "y", vec![]).ends()
    );
    let square = GraphBuilder::new().input("x", Float, &[N, N]).step("Relu", &["x"], "y", vec![]);
    assert!(!square.ends());
    let constant = table()
        .floats("c", &[1, 3], &[1.0; 3])
        .step("Relu", &["c"], "k", vec![])
        .step("Relu", &["x"], "y", vec![])
        .output("k", Float, &[]);
    assert!(!constant.ends(), "one output has no rows");
}

#[test]
fn networks_with_a_plan_for_each_shape_are_not_proven() {
    let network = GraphBuilder::new()
        .input("x", Float, &[N, Named("m")])
        .integers("shape", &[2], &[-1, 4])
        .step("Reshape", &["x", "shape"], "rows", vec![])
        .step("Relu", &["rows"], "y", vec![]);
    assert!(!network.ends());
}

/// A recurrent layer with rows in its second dimension, as ONNX has them, and transpositions around it.
#[test]
fn recurrent_layers_keep_rows_apart() {
    let layer = |sequence: &[i64]| {
        GraphBuilder::new()
            .input("x", Float, &[N, Fixed(5), Fixed(3)])
            .floats("w", &[1, 8, 3], &[0.1; 24])
            .floats("r", &[1, 8, 2], &[0.1; 16])
            .floats("b", &[1, 16], &[0.1; 16])
            .integers("starts", &[2], &[0, 0])
            .integers("ends", &[2], &[1, 2])
            .integers("axes", &[2], &[1, 2])
            .step("Slice", &["x", "starts", "ends", "axes"], "some", vec![])
            .step("Transpose", &["some"], "state", vec![ints_attribute("perm", &[1, 0, 2])])
            .step("Transpose", &["x"], "t", vec![ints_attribute("perm", sequence)])
            .node_with(
                "",
                "LSTM",
                &["t", "w", "r", "b", "", "state", "state"],
                &["all", "last"],
                vec![int_attribute("hidden_size", 2)],
            )
            .step("Transpose", &["last"], "y", vec![ints_attribute("perm", &[1, 0, 2])])
            .output("y", Float, &[])
            .build()
    };
    let independent = load(&layer(&[1, 0, 2])).unwrap_or_else(|error| panic!("{error}"));
    assert!(independent.rows_are_independent());
    // Along the rows, as if they were the sequence.
    assert!(load(&layer(&[0, 1, 2])).map_or(true, |graph| !graph.rows_are_independent()));
}

#[test]
fn for_other_engines_only_known_operators_count() {
    let engine = TractEngine::new();
    let other = |domain: &str, operator: &str, attributes: Vec<AttributeProto>| {
        let onnx =
            table().node_with(domain, operator, &["x"], &["y"], attributes).output("y", Float, &[]).build();
        engine.prove(&onnx).rows_are_independent
    };
    assert!(other("", "LogSoftmax", axis(1)));
    assert!(!other("", "LogSoftmax", axis(0)));
    assert!(!other("com.example", "Relu", vec![]), "another engine may have an operator of that name");
    assert!(!other("", "DynamicQuantizeLinear", vec![]));
    assert!(!other("", "RandomUniformLike", vec![]));
    assert!(!engine.prove(b"no graph").rows_are_independent);
    // In training mode it normalises over the rows; tract would run it as if it did not.
    let training = images()
        .floats("scale", &[2], &[1.5; 2])
        .step(
            "BatchNormalization",
            &["x", "scale", "scale", "scale", "scale"],
            "y",
            vec![int_attribute("training_mode", 1)],
        )
        .output("y", Float, &[])
        .build();
    assert!(!engine.prove(&training).rows_are_independent);
}

/// The proof, held against what the networks do: other rows change nothing.
#[test]
fn independent_rows_have_the_same_results_in_any_company() {
    let onnx = images()
        .floats("w", &[4, 2, 3, 3], &(0..72).map(|i| (i % 7) as f32 / 8.0).collect::<Vec<_>>())
        .step("Conv", &["x", "w"], "c", vec![ints_attribute("pads", &[1, 1, 1, 1])])
        .step("AveragePool", &["c"], "y", vec![ints_attribute("kernel_shape", &[2, 2])])
        .output("y", Float, &[])
        .build();
    let graph = load(&onnx).unwrap();
    assert!(graph.rows_are_independent());
    let row = |seed: u64| -> Vec<f32> { (0..32).map(|i| ((i * 5 + seed * 11) % 13) as f32).collect() };
    let run = |rows: &[u64]| -> Vec<f32> {
        let values: Vec<f32> = rows.iter().flat_map(|seed| row(*seed)).collect();
        let input: Tensor = floats(&[rows.len() as u64, 2, 4, 4], &values);
        to_floats(&graph.run(vec![input], &limits()).unwrap()[0])
    };
    let alone: Vec<Vec<f32>> = (0..5).map(|seed| run(&[seed])).collect();
    assert_eq!(run(&[0, 1, 2, 3, 4]), alone.concat());
    assert_eq!(run(&[4, 4, 1]), [&alone[4][..], &alone[4], &alone[1]].concat());
}
