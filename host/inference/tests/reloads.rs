//! A graph that is loaded, run and dropped a thousand times leaves nothing behind, on either engine, and brings no
//! threads. A process of its
//! own: what other tests take and give back would be seen here.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
#[path = "inference/onnx.rs"]
mod onnx;
#[path = "inference/onnxruntime_library.rs"]
mod onnxruntime_library;

use std::time::{Duration, Instant};

use modelhost_core::{Datatype, Tensor};
use modelhost_inference::{Engine, RunLimits, TractEngine};
use tract_onnx::pb::tensor_proto::DataType;

use crate::onnx::{Fixed, GraphBuilder, Named};

const RELOADS: usize = 1_000;

/// Allocators keep some free memory, and more where threads come and go.
const SLACK_BYTES: u64 = 16 << 20;

/// One mebibyte of weights: a thousand that stay would be a gibibyte.
fn network() -> Vec<u8> {
    let weights: Vec<f32> = (0..512 * 512).map(|index| (index as f32).sin()).collect();
    GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(512)])
        .floats("w", &[512, 512], &weights)
        .node("MatMul", &["x", "w"], &["p"])
        .node("Relu", &["p"], &["y"])
        .output("y", DataType::Float, &[Named("n"), Fixed(512)])
        .build()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn reload(engine: &dyn Engine, onnx: &[u8], times: usize) {
    for rows in 0..times as u64 {
        // A shape of its own now and then: what is remembered of shapes must go with the graph.
        let rows = 1 + rows % 5;
        let graph = engine.load(onnx).unwrap();
        let input =
            Tensor::new(Datatype::Fp32, vec![rows, 512], vec![0; 2048 * rows as usize].into()).unwrap();
        let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), 64 << 20);
        assert_eq!(graph.run(vec![input], &limits).unwrap()[0].shape(), [rows, 512]);
    }
}

fn returns_to_where_it_was(engine: &dyn Engine) {
    let onnx = network();
    reload(engine, &onnx, 50);
    let before = resident_bytes();
    let began = Instant::now();
    reload(engine, &onnx, RELOADS);
    let (after, elapsed) = (resident_bytes(), began.elapsed());
    println!("{}: {before} bytes before, {after} after {RELOADS} reloads in {elapsed:?}", engine.name());
    assert!(after < before + SLACK_BYTES, "{}: {before} bytes before, {after} after", engine.name());
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// A thread that has ended is seen for a moment longer.
fn settles_at(expected: usize) -> bool {
    let patience = Instant::now() + Duration::from_secs(10);
    while threads() > expected && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(5));
    }
    threads() <= expected
}

/// Graphs bring no threads of their own.
fn threads_do_not_grow(engine: &dyn Engine) {
    let onnx = network();
    reload(engine, &onnx, 1);
    let before = threads();
    let graphs: Vec<_> = (0..20).map(|_| engine.load(&onnx).unwrap()).collect();
    assert!(settles_at(before), "{}: {} threads for {} graphs", engine.name(), threads(), graphs.len());
}

// One after the other: each looks at the memory of the whole process.
#[test]
fn memory_returns_to_where_it_was_on_both_engines() {
    threads_do_not_grow(&TractEngine::new());
    returns_to_where_it_was(&TractEngine::new());
    if let Some(engine) = onnxruntime_library::engine() {
        threads_do_not_grow(engine);
        returns_to_where_it_was(engine);
    }
}
