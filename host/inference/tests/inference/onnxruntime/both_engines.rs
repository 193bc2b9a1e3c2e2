//! The same answers on both engines.

use half::f16;
use modelhost_core::{Datatype, Tensor};
use modelhost_inference::{Engine, OnnxRuntimeEngine, TractEngine};
use proptest::prelude::*;
use tract_onnx::pb::tensor_proto::DataType;

use super::{engine, engine_or_return};
use crate::onnx::{Fixed, GraphBuilder, Named, float_attribute, int_attribute, linear, tensor};
use crate::values::{floats, integers, limits, to_floats, to_integers};

/// Runs on both; the outputs of the built-in engine first.
fn on_both(engine: &OnnxRuntimeEngine, onnx: &[u8], inputs: &[Tensor]) -> [Vec<Tensor>; 2] {
    let engines: [&dyn Engine; 2] = [&TractEngine::new(), engine];
    engines.map(|engine| {
        let graph = engine.load(onnx).unwrap_or_else(|error| panic!("{}: {error}", engine.name()));
        graph.run(inputs.to_vec(), &limits()).unwrap_or_else(|error| panic!("{}: {error}", engine.name()))
    })
}

#[track_caller]
fn assert_close(left: &[f32], right: &[f32]) {
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(right) {
        assert!((left - right).abs() <= 1e-5 * (1.0 + left.abs()), "{left} and {right}");
    }
}

fn mlp(widths: &[usize], values: &[f32]) -> Vec<u8> {
    let mut next = values.iter().copied().cycle();
    let mut graph = GraphBuilder::new().input("x", DataType::Float, &[Named("n"), Fixed(widths[0] as i64)]);
    let mut before = "x".to_owned();
    for (layer, pair) in widths.windows(2).enumerate() {
        let [from, to] = [pair[0], pair[1]];
        let name = |what: &str| format!("{what}{layer}");
        let weights: Vec<f32> = next.by_ref().take(from * to).collect();
        let bias: Vec<f32> = next.by_ref().take(to).collect();
        graph = graph
            .floats(&name("w"), &[from as i64, to as i64], &weights)
            .floats(&name("b"), &[to as i64], &bias)
            .node("Gemm", &[&before, &name("w"), &name("b")], &[&name("g")])
            .node("Relu", &[&name("g")], &[&name("r")]);
        before = name("r");
    }
    let last = widths[widths.len() - 1] as i64;
    graph.node("Softmax", &[&before], &["y"]).output("y", DataType::Float, &[Named("n"), Fixed(last)]).build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn networks_of_any_width(
        widths in proptest::collection::vec(1_usize..24, 2..5),
        values in proptest::collection::vec(-2.0_f32..2.0, 97),
        rows in 0_usize..9,
    ) {
        let Some(engine) = engine() else { return Ok(()) };
        let onnx = mlp(&widths, &values);
        let input: Vec<f32> = values.iter().rev().copied().cycle().take(rows * widths[0]).collect();
        let input = floats(&[rows as u64, widths[0] as u64], &input);
        let [ours, theirs] = on_both(engine, &onnx, &[input]);
        prop_assert_eq!(ours[0].shape(), theirs[0].shape());
        for (left, right) in to_floats(&ours[0]).iter().zip(to_floats(&theirs[0])) {
            prop_assert!((left - right).abs() <= 1e-5);
        }
    }
}

#[test]
fn descriptions_agree() {
    let engine = engine_or_return!();
    let [ours, theirs] =
        [TractEngine::new().load(&linear().build()).unwrap(), engine.load(&linear().build()).unwrap()];
    assert_eq!(ours.inputs(), theirs.inputs());
    assert_eq!(ours.outputs(), theirs.outputs());
}

#[test]
fn a_convolution() {
    let engine = engine_or_return!();
    let kernel: Vec<f32> = (0..2 * 3 * 3 * 3).map(|index| (index as f32 * 0.37).sin()).collect();
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Fixed(1), Fixed(3), Fixed(8), Fixed(8)])
        .floats("k", &[2, 3, 3, 3], &kernel)
        .node("Conv", &["x", "k"], &["c"])
        .node("Relu", &["c"], &["r"])
        .node("GlobalAveragePool", &["r"], &["y"])
        .output("y", DataType::Float, &[Fixed(1), Fixed(2), Fixed(1), Fixed(1)])
        .build();
    let image: Vec<f32> = (0..3 * 8 * 8).map(|index| (index as f32 * 0.11).cos()).collect();
    let [ours, theirs] = on_both(engine, &onnx, &[floats(&[1, 3, 8, 8], &image)]);
    assert_close(&to_floats(&ours[0]), &to_floats(&theirs[0]));
}

#[test]
fn half_precision() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float16, &[Named("n")])
        .node("Add", &["x", "x"], &["y"])
        .output("y", DataType::Float16, &[Named("n")])
        .build();
    let data: Vec<u8> =
        [1.5_f32, -0.25].iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    let input = Tensor::new(Datatype::Fp16, vec![2], data.into()).unwrap();
    let [ours, theirs] = on_both(engine, &onnx, &[input]);
    assert_eq!(ours, theirs);
    let expected: Vec<u8> =
        [3.0_f32, -0.5].iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    assert_eq!(ours[0].data().as_ref(), expected);
}

#[test]
fn integers_and_labels() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(3)])
        .node_with(
            "",
            "ArgMax",
            &["x"],
            &["label"],
            vec![int_attribute("axis", 1), int_attribute("keepdims", 0)],
        )
        .output("label", DataType::Int64, &[Named("n")])
        .build();
    let input = floats(&[2, 3], &[0.0, 5.0, 1.0, 9.0, 5.0, 1.0]);
    let [ours, theirs] = on_both(engine, &onnx, &[input]);
    assert_eq!(to_integers(&ours[0]), [1, 0]);
    assert_eq!(ours, theirs);
}

/// `y = x · w` with x and w on scales of eight bits.
fn quantised() -> Vec<u8> {
    let int8 = |name: &str, shape: &[i64], values: &[i8]| {
        tensor(name, DataType::Int8, shape, values.iter().map(|value| *value as u8).collect())
    };
    let mut graph = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(2)])
        .floats("x_scale", &[], &[0.05])
        .floats("w_scale", &[], &[0.02]);
    graph.0.initializer.push(int8("zero", &[], &[0]));
    graph.0.initializer.push(int8("w", &[2, 3], &[50, -100, 25, 127, -128, 0]));
    graph
        .node("QuantizeLinear", &["x", "x_scale", "zero"], &["xq"])
        .node("DequantizeLinear", &["xq", "x_scale", "zero"], &["xd"])
        .node("DequantizeLinear", &["w", "w_scale", "zero"], &["wd"])
        .node("MatMul", &["xd", "wd"], &["y"])
        .output("y", DataType::Float, &[Named("n"), Fixed(3)])
        .build()
}

#[test]
fn eight_bits_between_quantise_and_dequantise() {
    let engine = engine_or_return!();
    let input = floats(&[2, 2], &[1.0, -2.0, 0.26, 0.0]);
    let expected = [1.0 * 1.0 - 2.0 * 2.54, -2.0 + 2.0 * 2.56, 0.5, 0.25, -0.5, 0.125];
    let theirs = engine.load(&quantised()).unwrap().run(vec![input.clone()], &limits()).unwrap();
    assert_close(&to_floats(&theirs[0]), &expected);
    // The built-in engine answers the same, or says which operator it does not run.
    match TractEngine::new().load(&quantised()) {
        Ok(graph) => assert_close(&to_floats(&graph.run(vec![input], &limits()).unwrap()[0]), &expected),
        Err(error) => assert!(error.to_string().contains("Linear"), "{error}"),
    }
}

#[test]
fn eight_bits_chosen_at_run_time() {
    let engine = engine_or_return!();
    let mut graph = GraphBuilder::new().input("x", DataType::Float, &[Fixed(1), Fixed(2)]);
    graph.0.initializer.push(tensor("w", DataType::Uint8, &[2, 2], vec![1, 2, 3, 4]));
    let onnx = graph
        .node("DynamicQuantizeLinear", &["x"], &["xq", "scale", "zero"])
        .node("MatMulInteger", &["xq", "w", "zero"], &["products"])
        .node_with("", "Cast", &["products"], &["floats"], vec![int_attribute("to", DataType::Float as i64)])
        .node("Mul", &["floats", "scale"], &["y"])
        .output("y", DataType::Float, &[Fixed(1), Fixed(2)])
        .build();
    // The range from 0 to 5.1 has steps of 0.02: both values are on one.
    let input = floats(&[1, 2], &[5.1, 2.0]);
    let theirs = engine.load(&onnx).unwrap().run(vec![input.clone()], &limits()).unwrap();
    assert_close(&to_floats(&theirs[0]), &[11.1, 18.2]);
    match TractEngine::new().load(&onnx) {
        Ok(graph) => assert_close(&to_floats(&graph.run(vec![input], &limits()).unwrap()[0]), &[11.1, 18.2]),
        Err(error) => assert!(error.to_string().contains("DynamicQuantizeLinear"), "{error}"),
    }
}

#[test]
fn attributes_keep_their_values() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n")])
        .node_with("", "LeakyRelu", &["x"], &["y"], vec![float_attribute("alpha", 0.0)])
        .output("y", DataType::Float, &[Named("n")])
        .build();
    let [ours, theirs] = on_both(engine, &onnx, &[floats(&[2], &[-3.0, 3.0])]);
    assert_eq!(to_floats(&theirs[0]), [0.0, 3.0]);
    assert_eq!(ours[0].shape(), theirs[0].shape());
}

#[test]
fn gathering_by_int64() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("i", DataType::Int64, &[Named("n")])
        .floats("table", &[3], &[10.0, 20.0, 30.0])
        .node("Gather", &["table", "i"], &["y"])
        .output("y", DataType::Float, &[Named("n")])
        .build();
    let [ours, theirs] = on_both(engine, &onnx, &[integers(&[4], &[2, 0, -1, 1])]);
    assert_eq!(to_floats(&theirs[0]), [30.0, 10.0, 30.0, 20.0]);
    assert_eq!(ours, theirs);
}
