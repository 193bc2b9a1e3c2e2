//! One run of a graph on the calling thread: limits, panics, and how long it took. Knows no queues.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use modelhost_core::Tensor;

use crate::engine::{RunError, RunLimits};
use crate::graph::Graph;
use crate::known_times::Extents;

/// A call that may begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    pub(crate) extents: Extents,
    /// It most likely takes longer than there is time; it is let go on because what is known may be wrong.
    is_trial: bool,
}

impl Admitted {
    /// Whether a call may begin: somebody waits for it, and there is time for it as far as that is known.
    ///
    /// # Errors
    /// [`RunError::Cancelled`] or [`RunError::DeadlineExceeded`].
    pub(crate) fn admit(graph: &Graph, inputs: &[Tensor], limits: &RunLimits) -> Result<Admitted, RunError> {
        let times = graph.known_times();
        let extents = times.extents(inputs);
        limits.check()?;
        let is_trial = times.is_too_long(extents, limits.time_left());
        if is_trial && !times.is_to_be_tried(extents) {
            return Err(RunError::DeadlineExceeded);
        }
        Ok(Admitted { extents, is_trial })
    }

    /// The same, later.
    ///
    /// # Errors
    /// [`RunError::Cancelled`] or [`RunError::DeadlineExceeded`].
    pub(crate) fn check(&self, graph: &Graph, limits: &RunLimits) -> Result<(), RunError> {
        limits.check()?;
        let is_too_long = graph.known_times().is_too_long(self.extents, limits.time_left());
        if is_too_long && !self.is_trial { Err(RunError::DeadlineExceeded) } else { Ok(()) }
    }
}

/// Runs the graph on this thread; remembers how long it took.
///
/// # Errors
/// [`RunError`]; a panic of the engine is [`RunError::Failed`].
pub(crate) fn run(graph: &Graph, inputs: Vec<Tensor>, limits: &RunLimits) -> Result<Vec<Tensor>, RunError> {
    limits.check()?;
    let (input_bytes, extents) = (total_bytes(&inputs), graph.known_times().extents(&inputs));
    let start = Instant::now();
    let result = run_unrecorded(graph, inputs, limits);
    let elapsed = start.elapsed();
    match &result {
        Ok(_) => {
            graph.run_times().record(input_bytes, elapsed);
            graph.known_times().record(extents, elapsed);
        }
        Err(_) => graph.known_times().record_unfinished(extents, elapsed),
    }
    result
}

/// The same for a run that others interrupt for as long as they like: how long it takes says nothing about the graph.
///
/// # Errors
/// The same.
pub(crate) fn run_unrecorded(
    graph: &Graph,
    inputs: Vec<Tensor>,
    limits: &RunLimits,
) -> Result<Vec<Tensor>, RunError> {
    limits.check()?;
    graph.counters().record_execution(rows(&inputs));
    // Unwind safety: a graph is not changed by a run, apart from atomics and caches behind locks that do not poison.
    let result = catch_unwind(AssertUnwindSafe(|| graph.executable().run(inputs, limits)));
    result.unwrap_or_else(|panic| {
        let message = panic_message(&*panic);
        tracing::error!(graph = %graph.digest(), "the inference engine panicked: {message}");
        Err(RunError::Failed { reason: "the engine ended unexpectedly on these inputs".into() })
    })
}

/// Bytes of all tensors.
pub(crate) fn total_bytes(tensors: &[Tensor]) -> usize {
    tensors.iter().map(|tensor| tensor.data().len()).sum()
}

/// What a run counts for: the first extent of its first input, 1 where it has none.
fn rows(inputs: &[Tensor]) -> u64 {
    inputs.first().and_then(|input| input.shape().first()).copied().unwrap_or(1)
}

/// The text of a panic, where it has one.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&'static str>().copied()).unwrap_or("no message")
}
