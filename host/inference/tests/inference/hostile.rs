//! Files and inputs that are made to do harm: an error in bounded time and memory, never a panic.

use std::time::{Duration, Instant};

use modelhost_core::{Datatype, Tensor};
use modelhost_inference::{Engine, LoadError, RunError, RunLimits, TractEngine};
use proptest::prelude::*;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;

use crate::onnx::{
    Fixed, GraphBuilder, Named, Unknown, graph_attribute, int_attribute, linear, value_attribute,
};
use crate::values::{load, load_error, zeros};

#[test]
fn huge_declared_extents_allocate_nothing() {
    for extent in [1 << 40, i64::MAX] {
        let onnx = GraphBuilder::new()
            .input("x", DataType::Float, &[Fixed(extent), Fixed(extent)])
            .node("Relu", &["x"], &["y"])
            .output("y", DataType::Float, &[])
            .build();
        // Refused or loaded, but not allocated: nobody can make an input of this size.
        let _ = load(&onnx);
    }
}

#[test]
fn a_run_that_needs_too_much_memory_is_refused_before_it_starts() {
    // The outer sum of two vectors of n elements has n² elements.
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(1)])
        .node_with("", "Transpose", &["x"], &["t"], Vec::new())
        .node("Add", &["x", "t"], &["y"])
        .output("y", DataType::Float, &[])
        .build();
    let graph = load(&onnx).unwrap();
    let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), 100 << 20);
    assert!(graph.run(vec![zeros(Datatype::Fp32, &[1000, 1])], &limits).is_ok());
    let error = graph.run(vec![zeros(Datatype::Fp32, &[1_000_000, 1])], &limits).unwrap_err();
    let RunError::TooLarge { bytes, limit, .. } = error else { panic!("{error}") };
    assert!(bytes >= 4_000_000_000_000 && limit == 100 << 20, "{bytes} {limit}");
}

#[test]
fn many_live_tensors_count_together() {
    // Each of 64 tensors is within the limit; all are needed at the end.
    let mut graph = GraphBuilder::new().input("x", DataType::Float, &[Named("n")]);
    let names: Vec<String> = (0..64).map(|index| format!("t{index}")).collect();
    for (index, name) in names.iter().enumerate() {
        graph = graph.floats(&format!("c{index}"), &[1], &[index as f32]);
        graph = graph.node("Add", &["x", &format!("c{index}")], &[name]);
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let concat = vec![int_attribute("axis", 0)];
    let onnx = graph.node_with("", "Concat", &all, &["y"], concat).output("y", DataType::Float, &[]).build();
    let graph = load(&onnx).unwrap();
    let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), 64 << 20);
    assert!(graph.run(vec![zeros(Datatype::Fp32, &[1 << 10])], &limits).is_ok());
    let error = graph.run(vec![zeros(Datatype::Fp32, &[1 << 20])], &limits).unwrap_err();
    assert!(matches!(error, RunError::TooLarge { .. }), "{error}");
}

/// `y = x in rows of four + 0`, where four constants of `n * factor` floats each are added up on the way to that zero:
/// tract makes a plan of it for each shape.
fn growing_constants(factor: i64) -> Vec<u8> {
    let mut graph = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Named("m")])
        .input("i", DataType::Int64, &[Named("q")])
        .integers("shape", &[2], &[-1, 4])
        .integers("zero", &[1], &[0])
        .integers("factor", &[1], &[factor])
        .floats("sum0", &[1], &[0.0])
        .node("Reshape", &["x", "shape"], &["rows"])
        .node("Shape", &["x"], &["extents"])
        .node("Gather", &["extents", "zero"], &["n"])
        .node("Mul", &["n", "factor"], &["length"]);
    for index in 0..4 {
        let name = |what: &str| format!("{what}{index}");
        let value = vec![value_attribute(index as f32)];
        graph = graph
            .node_with("", "ConstantOfShape", &["length"], &[&name("constant")], value)
            .node("Gather", &[&name("constant"), "i"], &[&name("taken")])
            .node("ReduceSum", &[&name("taken"), "zero"], &[&name("part")])
            .node("Add", &[&name("sum"), &name("part")], &[&format!("sum{}", index + 1)]);
    }
    graph.node("Add", &["rows", "sum4"], &["y"]).output("y", DataType::Float, &[Unknown, Fixed(4)]).build()
}

fn of_rows(rows: u64) -> Vec<Tensor> {
    vec![zeros(Datatype::Fp32, &[rows, 4]), zeros(Datatype::Int64, &[1])]
}

#[test]
fn what_a_plan_for_one_shape_adds_is_bounded() {
    let graph = load(&growing_constants(200_000)).unwrap();
    // The plan of the attempt at loading is kept and counted.
    let loaded = graph.resident_bytes();
    assert!(loaded >= 4 * 200_000 * 4, "{loaded}");
    let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), 1 << 30);
    assert!(graph.run(of_rows(2), &limits).is_ok());
    let kept = graph.resident_bytes();
    assert!(kept > loaded, "{kept}");
    let error = graph.run(of_rows(1000), &limits).unwrap_err();
    let RunError::InvalidInput { reason } = &error else { panic!("{error}") };
    assert!(reason.contains("ConstantOfShape brings the constants"), "{reason}");
    // Nor may they take what the run may not.
    let few = RunLimits { max_tensor_bytes: 4 << 20, ..limits };
    assert!(matches!(graph.run(of_rows(3), &few), Err(RunError::InvalidInput { .. })));
    assert_eq!(graph.resident_bytes(), kept);
}

#[test]
fn no_plan_is_made_for_a_run_that_is_over() {
    let graph = load(&growing_constants(100)).unwrap();
    let kept = graph.resident_bytes();
    let late = RunLimits::new(Instant::now(), 1 << 30);
    assert_eq!(graph.run(of_rows(2), &late).unwrap_err(), RunError::DeadlineExceeded);
    assert_eq!(graph.resident_bytes(), kept);
}

#[test]
fn constants_count_together_when_a_graph_is_loaded() {
    let mut graph =
        GraphBuilder::new().input("x", DataType::Float, &[Fixed(1)]).integers("shape", &[1], &[1000]);
    let mut before = "x".to_owned();
    for index in 0..4 {
        let (constant, after) = (format!("c{index}"), format!("x{index}"));
        let value = vec![value_attribute(index as f32)];
        graph = graph.node_with("", "ConstantOfShape", &["shape"], &[&constant], value).node(
            "Add",
            &[&before, &constant],
            &[&after],
        );
        before = after;
    }
    let onnx = graph.output(&before, DataType::Float, &[]).build();
    assert!(TractEngine::new().max_constant_bytes(16_000).load(&onnx).is_ok());
    let error = TractEngine::new().max_constant_bytes(15_999).load(&onnx).err().unwrap();
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
}

#[test]
fn shapes_that_depend_on_values_are_refused() {
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Fixed(1)])
        .input("shape", DataType::Int64, &[Fixed(2)])
        .node("Expand", &["x", "shape"], &["y"])
        .output("y", DataType::Float, &[])
        .build();
    let error = load_error(&onnx);
    assert!(error.contains("graph is not supported"), "{error}");
}

#[test]
fn cycles_are_refused() {
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Fixed(1)])
        .node("Add", &["x", "b"], &["a"])
        .node("Relu", &["a"], &["b"])
        .output("b", DataType::Float, &[Fixed(1)])
        .build();
    assert!(load_error(&onnx).contains("graph is not supported"));
}

#[test]
fn long_chains_and_deep_nesting_do_not_overflow_the_stack() {
    let mut chain = GraphBuilder::new().input("x0", DataType::Float, &[Fixed(1)]);
    for step in 0..3_000 {
        chain = chain.node("Neg", &[&format!("x{step}")], &[&format!("x{}", step + 1)]);
    }
    let _ = load(&chain.output("x3000", DataType::Float, &[Fixed(1)]).build());

    let mut nested = GraphBuilder::new().node("Relu", &["x"], &["y"]).output("y", DataType::Float, &[]).0;
    for _ in 0..150 {
        let attributes = vec![
            graph_attribute("then_branch", nested.clone()),
            graph_attribute("else_branch", Default::default()),
        ];
        nested = GraphBuilder::new()
            .node_with("", "If", &["c"], &["y"], attributes)
            .output("y", DataType::Float, &[])
            .0;
    }
    let mut model = linear().model();
    model.graph = Some(nested);
    assert!(load_error(&model.encode_to_vec()).contains("not an ONNX file"));
}

#[test]
fn operators_without_inputs_or_with_absurd_attributes_are_errors() {
    for (operator, attributes) in [
        ("Add", vec![]),
        ("Conv", vec![int_attribute("group", 0)]),
        ("Concat", vec![int_attribute("axis", i64::MIN)]),
        ("Softmax", vec![int_attribute("axis", 99)]),
        ("Gemm", vec![]),
        ("Slice", vec![]),
        ("Constant", vec![]),
        ("TopK", vec![int_attribute("axis", -99)]),
    ] {
        for inputs in [&[][..], &["x"], &["x", "x"], &["x", "", "x"]] {
            let onnx = GraphBuilder::new()
                .input("x", DataType::Float, &[Fixed(2), Fixed(2)])
                .node_with("", operator, inputs, &["y"], attributes.clone())
                .output("y", DataType::Float, &[])
                .build();
            let _ = load(&onnx);
        }
    }
}

fn never_panics(bytes: &[u8]) {
    let engine = TractEngine::new();
    if let Ok(graph) = engine.load(bytes) {
        assert!(!graph.outputs().is_empty());
    }
    let _ = engine.refused_operators(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        never_panics(&bytes);
    }

    #[test]
    fn changed_models_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = linear().build();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        never_panics(&bytes);
    }

    #[test]
    fn cut_off_models_never_panic(at in any::<prop::sample::Index>()) {
        let bytes = linear().build();
        never_panics(&bytes[..at.index(bytes.len())]);
    }
}
