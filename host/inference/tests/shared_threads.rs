//! ONNX Runtime with more than one thread for a run: one pool for all graphs. A process of its own, because the library
//! is opened once in each.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
#[path = "inference/onnx.rs"]
mod onnx;
#[path = "inference/onnxruntime_library.rs"]
mod onnxruntime_library;

use std::thread;
use std::time::{Duration, Instant};

use modelhost_core::{Datatype, Tensor};
use modelhost_inference::{Engine, OnnxRuntimeEngine, RunError, RunLimits};

use crate::onnx::{linear, slow};

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// A thread that has ended is seen for a moment longer.
fn settles_at(expected: usize) -> bool {
    let patience = Instant::now() + Duration::from_secs(10);
    while threads() > expected && Instant::now() < patience {
        thread::sleep(Duration::from_millis(5));
    }
    threads() <= expected
}

fn ones(shape: &[u64]) -> Tensor {
    let count = shape.iter().product::<u64>() as usize;
    let data: Vec<u8> = std::iter::repeat_n(1.0_f32.to_le_bytes(), count).flatten().collect();
    Tensor::new(Datatype::Fp32, shape.to_vec(), data.into()).unwrap()
}

fn limits(max_tensor_bytes: u64) -> RunLimits {
    RunLimits::new(Instant::now() + Duration::from_secs(60), max_tensor_bytes)
}

#[test]
fn all_graphs_share_one_pool() {
    let Some(file) = onnxruntime_library::file() else { return };
    let engine = OnnxRuntimeEngine::open(&file, 3).unwrap();
    let onnx = slow(2).build();
    let first = engine.load(&onnx).unwrap();
    let before = threads();
    let graphs: Vec<_> = (0..10).map(|_| engine.load(&onnx).unwrap()).collect();
    assert!(settles_at(before), "{} threads with {} graphs more", threads(), graphs.len());

    // Right answers from runs at the same time, which the pool's threads share.
    let small = engine.load(&linear().build()).unwrap();
    thread::scope(|scope| {
        for graph in &graphs[..4] {
            scope.spawn(|| {
                let outputs = graph.run(vec![ones(&[512, 512])], &limits(1 << 30)).unwrap();
                let expected = (512.0_f32 * 512.0).to_le_bytes();
                assert!(outputs[0].data().chunks(4).all(|value| value == expected));
                let outputs = small.run(vec![ones(&[1, 3])], &limits(1 << 20)).unwrap();
                assert_eq!(outputs[0].data()[..4], 19.0_f32.to_le_bytes());
            });
        }
    });

    // The memory of a run is counted here too.
    let error = first.run(vec![ones(&[512, 512])], &limits(1 << 19)).unwrap_err();
    assert!(matches!(&error, RunError::TooLarge { operator, .. } if operator == "MatMul"), "{error}");
}
