//! Graphs that do what a test says, for what a real network does only by accident.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_core::{Datatype, Digest, EngineName, Tensor, TensorDescription};
use modelhost_inference::{ExecutableGraph, Graph, Proven, RunError, RunLimits};

/// The result of a run.
pub type Ran = Result<Vec<Tensor>, RunError>;

const INDEPENDENT: Proven = Proven { rows_are_independent: true, time_follows_from_extents: true };
const DEPENDENT: Proven = Proven { rows_are_independent: false, time_follows_from_extents: true };

struct Scripted<F> {
    tensors: Vec<TensorDescription>,
    proven: Proven,
    run: F,
}

impl<F: Fn(Vec<Tensor>, &RunLimits) -> Ran + Send + Sync> ExecutableGraph for Scripted<F> {
    fn inputs(&self) -> &[TensorDescription] {
        &self.tensors
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.tensors
    }

    fn resident_bytes(&self) -> u64 {
        0
    }

    fn rows_are_independent(&self) -> bool {
        self.proven.rows_are_independent
    }

    fn time_follows_from_extents(&self) -> bool {
        self.proven.time_follows_from_extents
    }

    fn run(&self, inputs: Vec<Tensor>, limits: &RunLimits) -> Ran {
        (self.run)(inputs, limits)
    }
}

/// A graph without inputs and outputs.
pub fn scripted<F>(run: F) -> Arc<Graph>
where
    F: Fn(&RunLimits) -> Ran + Send + Sync + 'static,
{
    graph(Vec::new(), DEPENDENT, move |_, limits| run(limits))
}

/// A graph that takes `x` of `[n, m]` and gives the same back, whose rows are independent.
pub fn rows<F>(run: F) -> Arc<Graph>
where
    F: Fn(Vec<Tensor>, &RunLimits) -> Ran + Send + Sync + 'static,
{
    graph(vec![floats_of_any_size()], INDEPENDENT, run)
}

/// The same, but rows may depend on each other.
pub fn dependent_rows<F>(run: F) -> Arc<Graph>
where
    F: Fn(Vec<Tensor>, &RunLimits) -> Ran + Send + Sync + 'static,
{
    graph(vec![floats_of_any_size()], DEPENDENT, run)
}

/// The same, and how long a run takes depends on values.
pub fn by_values<F>(run: F) -> Arc<Graph>
where
    F: Fn(Vec<Tensor>, &RunLimits) -> Ran + Send + Sync + 'static,
{
    graph(vec![floats_of_any_size()], Proven::default(), run)
}

fn floats_of_any_size() -> TensorDescription {
    TensorDescription { name: "x".into(), datatype: Datatype::Fp32, shape: vec![-1, -1] }
}

fn graph<F>(tensors: Vec<TensorDescription>, proven: Proven, run: F) -> Arc<Graph>
where
    F: Fn(Vec<Tensor>, &RunLimits) -> Ran + Send + Sync + 'static,
{
    let scripted = Scripted { tensors, proven, run };
    Arc::new(Graph::new(Digest::of(b"scripted"), EngineName::Tract, Arc::new(scripted)))
}

/// A graph that runs until it is told to end.
pub struct Blocker {
    pub graph: Arc<Graph>,
    released: Arc<AtomicBool>,
}

impl Blocker {
    pub fn new() -> Blocker {
        let released = Arc::new(AtomicBool::new(false));
        let is_released = released.clone();
        let graph = scripted(move |limits| {
            while !is_released.load(Ordering::SeqCst) {
                limits.check()?;
                thread::sleep(Duration::from_micros(200));
            }
            Ok(Vec::new())
        });
        Blocker { graph, released }
    }

    pub fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }
}

pub fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "did not happen in 10 seconds");
        thread::sleep(Duration::from_millis(1));
    }
}
