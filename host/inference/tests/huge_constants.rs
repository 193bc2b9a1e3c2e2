//! A small file that asks for a huge constant is refused before the memory is taken. A process of its own: the most that it
//! ever took would be that of other tests.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
#[path = "inference/onnx.rs"]
mod onnx;

use std::time::{Duration, Instant};

use modelhost_inference::{Engine, LoadError, TractEngine};
use tract_onnx::pb::tensor_proto::DataType;

use crate::onnx::{Fixed, GraphBuilder, int_attribute, value_attribute};

/// The most bytes that the process had in memory so far.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_small_file_cannot_ask_for_a_huge_constant() {
    // Within 32 bits: of a larger constant extent tract keeps only the lower half.
    let huge = 2_000_000_000;
    let start = GraphBuilder::new().input("x", DataType::Float, &[Fixed(1)]);
    let constant_of_shape = start.clone().integers("shape", &[1], &[huge]).node_with(
        "",
        "ConstantOfShape",
        &["shape"],
        &["c"],
        vec![value_attribute(0.0)],
    );
    let expand = start.clone().floats("one", &[1], &[1.0]).integers("shape", &[2], &[huge / 8, 8]).node(
        "Expand",
        &["one", "shape"],
        &["c"],
    );
    let tile = start.clone().floats("one", &[1], &[1.0]).integers("times", &[1], &[huge]).node(
        "Tile",
        &["one", "times"],
        &["c"],
    );
    let range =
        start.clone().integers("from", &[], &[0]).integers("to", &[], &[huge]).integers("step", &[], &[1]);
    let range = range.node("Range", &["from", "to", "step"], &["c"]);
    let range = range.node_with("", "Cast", &["c"], &["f"], vec![int_attribute("to", 1)]);
    let before = peak_bytes();
    for (name, graph, sum) in [
        ("ConstantOfShape", constant_of_shape, "c"),
        ("Expand", expand, "c"),
        ("Tile", tile, "c"),
        ("Range", range, "f"),
    ] {
        let onnx = graph.node("Add", &["x", sum], &["y"]).output("y", DataType::Float, &[]).build();
        let started = Instant::now();
        let error = match TractEngine::new().load(&onnx) {
            Err(error) => error,
            Ok(graph) => panic!("{name} was loaded: {:?}", graph.outputs()),
        };
        assert!(matches!(error, LoadError::TooLarge { .. }), "{name}: {error}");
        assert!(started.elapsed() < Duration::from_secs(10), "{name}");
    }
    assert!(peak_bytes() < before + (200 << 20), "memory was taken before the refusal");
}
