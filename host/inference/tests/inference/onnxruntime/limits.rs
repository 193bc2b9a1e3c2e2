//! How a run ends that does not end by itself, and many runs at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_inference::{RunError, RunLimits};
use tract_onnx::pb::tensor_proto::DataType;

use super::{engine_or_return, load};
use crate::onnx::{GraphBuilder, Named, counting_loop, linear};
use crate::values::{floats, integers, limits, to_floats};

/// More rounds than any machine does.
const ENDLESS: i64 = i64::MAX;

#[test]
fn a_run_ends_at_its_deadline() {
    let engine = engine_or_return!();
    let graph = load(engine, &counting_loop());
    let began = Instant::now();
    let limits = RunLimits::new(began + Duration::from_millis(100), 1 << 30);
    let result = graph.run(vec![integers(&[], &[ENDLESS]), floats(&[1], &[0.0])], &limits);
    assert_eq!(result.unwrap_err(), RunError::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(20));
    // The thread's next run is not stopped by what stopped this one.
    let outputs =
        graph.run(vec![integers(&[], &[3]), floats(&[1], &[0.0])], &crate::values::limits()).unwrap();
    assert_eq!(to_floats(&outputs[0]), [3.0]);
}

#[test]
fn a_run_ends_when_its_caller_gives_up() {
    let engine = engine_or_return!();
    let graph = load(engine, &counting_loop());
    // Long enough that the watchdog sleeps.
    thread::sleep(Duration::from_millis(400));
    let limits = limits();
    let cancelled = limits.cancelled.clone();
    thread::scope(|scope| {
        let run = scope.spawn(|| graph.run(vec![integers(&[], &[ENDLESS]), floats(&[1], &[0.0])], &limits));
        thread::sleep(Duration::from_millis(50));
        cancelled.store(true, Ordering::Relaxed);
        assert_eq!(run.join().unwrap().unwrap_err(), RunError::Cancelled);
    });
}

/// An endless run on one thread holds up no other run of the same graph: with a lock around the session the others
/// would wait for it for ever.
#[test]
fn runs_of_one_graph_overlap() {
    let engine = engine_or_return!();
    let graph = load(engine, &counting_loop());
    let endless = limits();
    let cancelled = endless.cancelled.clone();
    let done = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let result = graph.run(vec![integers(&[], &[ENDLESS]), floats(&[1], &[0.0])], &endless);
            is_over.store(true, Ordering::SeqCst);
            assert_eq!(result.unwrap_err(), RunError::Cancelled);
        });
        thread::sleep(Duration::from_millis(50));
        let others: Vec<_> = (0..7)
            .map(|thread| {
                let (graph, done) = (&graph, &done);
                scope.spawn(move || {
                    for round in 0..50 {
                        let start = (thread * 1000 + round) as f32;
                        let inputs = vec![integers(&[], &[5]), floats(&[1], &[start])];
                        let outputs = graph.run(inputs, &limits()).unwrap();
                        assert_eq!(to_floats(&outputs[0]), [start + 5.0]);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(done.load(Ordering::SeqCst), 350);
        assert!(!is_over.load(Ordering::SeqCst), "the endless run is still there");
        cancelled.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_run_takes_no_more_memory_than_it_may() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n")])
        .input("shape", DataType::Int64, &[Named("rank")])
        .node("Expand", &["x", "shape"], &["y"])
        .node("ReduceSum", &["y"], &["sum"])
        .output("sum", DataType::Float, &[])
        .build();
    let graph = load(engine, &onnx);
    let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), 1 << 20);
    let expand = |extent: i64| graph.run(vec![floats(&[1], &[1.0]), integers(&[1], &[extent])], &limits);
    for huge in [1 << 20, 1 << 38, 1 << 58] {
        match expand(huge).unwrap_err() {
            RunError::TooLarge { operator, limit, .. } => {
                assert_eq!((operator.as_str(), limit), ("Expand", 1 << 20));
            }
            // The number of bytes does not fit into the library's own arithmetic.
            RunError::Failed { reason } => assert!(huge == 1 << 58 && !reason.is_empty(), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(to_floats(&expand(1000).unwrap()[0]), [1000.0]);
}

#[test]
fn memory_is_counted_for_each_run_and_not_for_all() {
    let engine = engine_or_return!();
    let graph = load(engine, &linear().build());
    // Eight runs at once, each within a limit that two together would pass.
    let rows = 10_000_u64;
    let input = vec![1.0_f32; 3 * rows as usize];
    let limit = rows * 2 * 4 * 3;
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), limit);
                    let outputs = graph.run(vec![floats(&[rows, 3], &input)], &limits).unwrap();
                    assert!(to_floats(&outputs[0]).chunks(2).all(|row| row == [19.0, 32.0]));
                }
            });
        }
    });
}

#[test]
fn loaded_weights_are_counted() {
    let engine = engine_or_return!();
    let side = 256_i64;
    let weights = vec![0.5_f32; (side * side) as usize];
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), crate::onnx::Fixed(side)])
        .floats("w", &[side, side], &weights)
        .node("MatMul", &["x", "w"], &["y"])
        .output("y", DataType::Float, &[Named("n"), crate::onnx::Fixed(side)])
        .build();
    let resident = load(engine, &onnx).resident_bytes();
    let expected = (side * side * 4) as u64;
    assert!((expected..4 * expected).contains(&resident), "{resident}");
}
