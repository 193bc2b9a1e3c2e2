//! What putting calls together brings: calls per second and waiting times of many callers on one graph, with batching off
//! and on.
//!
//! ```text
//! cargo run --release -p modelhost-inference --example batching
//! ```
#![allow(clippy::unwrap_used, reason = "a program of measurements ends where something is wrong")]

#[path = "../../tests/inference/onnx.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod onnx;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use modelhost_core::{Datatype, Digest, EngineName, Tensor};
use modelhost_inference::{
    BackgroundThreads, BatchingPolicy, ComputeOptions, Engine, Executor, Graph, RunLimits, TractEngine,
};
use onnx::{Fixed, GraphBuilder, Named};
use tract_onnx::pb::tensor_proto::DataType::Float;

const CALLERS: [usize; 3] = [1, 4, 16];
const MEASURED: Duration = Duration::from_secs(2);

struct Network {
    name: &'static str,
    onnx: Vec<u8>,
    shape: Vec<u64>,
}

/// Layers of these widths, with nothing but multiplications, additions and comparisons with zero between them.
fn perceptron(name: &'static str, widths: &[i64]) -> Network {
    let mut graph = GraphBuilder::new().input("x", Float, &[Named("n"), Fixed(widths[0])]);
    let mut before = "x".to_owned();
    for (layer, pair) in widths.windows(2).enumerate() {
        let [weights, bias, sum, after] = ["w", "b", "s", "h"].map(|kind| format!("{kind}{layer}"));
        let values: Vec<f32> =
            (0..pair[0] * pair[1]).map(|index| (index % 17) as f32 / 170.0 - 0.05).collect();
        graph = graph
            .floats(&weights, pair, &values)
            .floats(&bias, &pair[1..], &vec![0.1; pair[1] as usize])
            .node("Gemm", &[&before, &weights, &bias], &[&sum])
            .node("Relu", &[&sum], &[&after]);
        before = after;
    }
    let onnx = graph.output(&before, Float, &[]).build();
    Network { name, onnx, shape: vec![widths[0] as u64] }
}

/// Three convolutions over an image of 32 × 32.
fn convolutions() -> Network {
    let mut graph = GraphBuilder::new().input("x", Float, &[Named("n"), Fixed(3), Fixed(32), Fixed(32)]);
    let mut before = "x".to_owned();
    for (layer, pair) in [3_i64, 16, 32, 32].windows(2).enumerate() {
        let [weights, sum, after] = ["w", "s", "h"].map(|kind| format!("{kind}{layer}"));
        let shape = [pair[1], pair[0], 3, 3];
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|index: i64| (index % 7) as f32 / 70.0).collect();
        graph = graph.floats(&weights, &shape, &values).node("Conv", &[&before, &weights], &[&sum]).node(
            "Relu",
            &[&sum],
            &[&after],
        );
        before = after;
    }
    let onnx = graph.output(&before, Float, &[]).build();
    Network { name: "convolutions 32×32", onnx, shape: vec![3, 32, 32] }
}

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let networks = [
        perceptron("linear 32→1", &[32, 1]),
        perceptron("MLP of 0.1 M", &[256, 256, 128, 10]),
        perceptron("MLP of 1 M", &[512, 1024, 448, 10]),
        convolutions(),
    ];
    println!("{threads} threads of inference, as many of callers");
    println!("| network | callers | batching | calls/s | p50 | p99 | rows per run |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for network in &networks {
        direct(network);
        for callers in CALLERS {
            for max_batch_size in [1, 32] {
                measure(network, callers, max_batch_size, threads);
            }
        }
    }
}

fn input(network: &Network, rows: u64) -> Tensor {
    let shape = [&[rows], &network.shape[..]].concat();
    let values = (0..shape.iter().product::<u64>()).flat_map(|index| ((index % 11) as f32).to_le_bytes());
    Tensor::new(Datatype::Fp32, shape, values.collect::<Vec<u8>>().into()).unwrap()
}

fn limits() -> RunLimits {
    RunLimits::new(Instant::now() + Duration::from_secs(60), 1 << 30)
}

/// The engine in a loop, on one thread.
fn direct(network: &Network) {
    let graph = TractEngine::new().load(&network.onnx).unwrap();
    for rows in [1, 4, 16, 32] {
        let input = input(network, rows);
        let began = Instant::now();
        let mut runs = 0_u32;
        while began.elapsed() < MEASURED / 4 {
            graph.run(vec![input.clone()], &limits()).unwrap();
            runs += 1;
        }
        let row = began.elapsed() / runs / u32::try_from(rows).unwrap();
        println!(
            "| {} | engine alone, {rows} rows | | {:.0} rows/s | {row:?} per row | | |",
            network.name,
            1.0 / row.as_secs_f64()
        );
    }
}

fn measure(network: &Network, callers: usize, max_batch_size: u32, threads: usize) {
    let engine = TractEngine::new().load(&network.onnx).unwrap();
    let graph = Arc::new(Graph::new(Digest::of(&network.onnx), EngineName::Tract, engine));
    let executor = Arc::new(Executor::new(threads, BackgroundThreads::of_share(100)).unwrap());
    let is_over = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build().unwrap();
    let input = input(network, 1);
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (graph, executor, is_over, input) =
                (graph.clone(), executor.clone(), is_over.clone(), input.clone());
            runtime.spawn(async move {
                let mut times = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let batching = BatchingPolicy {
                        max_batch_size,
                        max_queue_delay: Duration::ZERO,
                        max_queue_size: usize::MAX,
                    };
                    let options = ComputeOptions { batching, ..ComputeOptions::alone(limits()) };
                    let began = Instant::now();
                    executor.compute(&graph, vec![("x".into(), input.clone())], options).await.unwrap();
                    times.push(began.elapsed());
                    // A caller has other things to do between calls.
                    tokio::task::yield_now().await;
                }
                times
            })
        })
        .collect();
    std::thread::sleep(MEASURED);
    is_over.store(true, Ordering::Relaxed);
    let mut times: Vec<Duration> =
        tasks.into_iter().flat_map(|task| runtime.block_on(task).unwrap()).collect();
    let elapsed = began.elapsed();
    times.sort();
    let counted = graph.statistics();
    println!(
        "| {} | {callers} | {} | {:.0} | {:?} | {:?} | {:.1} |",
        network.name,
        if max_batch_size > 1 { "on" } else { "off" },
        times.len() as f64 / elapsed.as_secs_f64(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        counted.rows as f64 / counted.executions as f64,
    );
}
