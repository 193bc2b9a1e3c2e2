//! An engine called directly in a loop: what a network costs where nothing is around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use modelhost_core::Tensor;
use modelhost_inference::{ExecutableGraph, RunLimits};

use crate::networks::Network;
use crate::timing::{Effort, Times, samples};

/// Rows of a large batch.
pub const BATCH: u64 = 16;

/// What an engine takes for a network.
#[derive(Clone, Copy, Debug)]
pub struct DirectTimes {
    /// One row, on one thread.
    pub one: Times,
    /// [`BATCH`] rows at once, on one thread.
    pub batch: Times,
    /// Runs of one row per second, with as many threads as there are cores.
    pub all_cores: f64,
}

impl DirectTimes {
    /// How many times more rows per second a batch gives.
    pub fn gain(&self) -> f64 {
        BATCH as f64 * self.one.median.as_secs_f64() / self.batch.median.as_secs_f64()
    }
}

/// Measures a loaded network.
pub fn measure(graph: &Arc<dyn ExecutableGraph>, network: &Network, effort: Effort) -> Result<DirectTimes> {
    let one = network.input(1)?;
    let times = |input: &Tensor| -> Result<Times> { Ok(Times::of(samples(effort, || run(graph, input))?)) };
    Ok(DirectTimes {
        one: times(&one)?,
        batch: times(&network.input(BATCH)?)?,
        all_cores: on_all_cores(graph, &one, effort)?,
    })
}

fn run(graph: &Arc<dyn ExecutableGraph>, input: &Tensor) -> Result<Vec<Tensor>> {
    let limits = RunLimits::new(Instant::now() + Duration::from_secs(10), 1 << 30);
    Ok(graph.run(vec![input.clone()], &limits)?)
}

fn on_all_cores(graph: &Arc<dyn ExecutableGraph>, input: &Tensor, effort: Effort) -> Result<f64> {
    let cores = std::thread::available_parallelism()?.get();
    let runs: Result<usize> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| samples(effort, || run(graph, input)));
        let threads: Vec<_> = (0..cores).map(|_| start()).collect();
        let count = |thread: std::thread::ScopedJoinHandle<'_, Result<Vec<Duration>>>| {
            Ok(thread.join().ok().context("a measuring thread panicked")??.len())
        };
        threads.into_iter().map(count).sum()
    });
    Ok(runs? as f64 / effort.measure.as_secs_f64())
}
