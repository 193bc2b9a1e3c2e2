//! One run of a graph on the calling thread: limits, panics, and how long it took. Knows no queues.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use modelhost_core::Tensor;

use crate::engine::{RunError, RunLimits};
use crate::graph::Graph;

/// Whether a run may begin: somebody waits for it, and there is time for it as far as that is known.
///
/// # Errors
/// [`RunError::Cancelled`] or [`RunError::DeadlineExceeded`].
pub(crate) fn check_before(graph: &Graph, input_bytes: usize, limits: &RunLimits) -> Result<(), RunError> {
    limits.check()?;
    let time_left = limits.deadline.saturating_duration_since(Instant::now());
    if graph.run_times().estimate(input_bytes).is_some_and(|estimate| estimate > time_left) {
        graph.run_times().doubt(input_bytes);
        return Err(RunError::DeadlineExceeded);
    }
    Ok(())
}

/// Runs the graph on this thread; remembers how long it took.
///
/// # Errors
/// [`RunError`]; a panic of the engine is [`RunError::Failed`].
pub(crate) fn run(graph: &Graph, inputs: Vec<Tensor>, limits: &RunLimits) -> Result<Vec<Tensor>, RunError> {
    let input_bytes = total_bytes(&inputs);
    let start = Instant::now();
    let result = run_unrecorded(graph, inputs, limits);
    match &result {
        Ok(_) => graph.run_times().record(input_bytes, start.elapsed()),
        Err(RunError::DeadlineExceeded) => {
            graph.run_times().record_unfinished(input_bytes, start.elapsed());
        }
        Err(_) => {}
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
    match result {
        Ok(result) => result,
        Err(panic) => {
            let message = panic_message(&*panic);
            tracing::error!(graph = %graph.digest(), "the inference engine panicked: {message}");
            Err(RunError::Failed { reason: "the engine ended unexpectedly on these inputs".into() })
        }
    }
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
