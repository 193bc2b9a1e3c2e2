//! Decides where a graph runs and turns whatever happens there into one result: checks of the inputs, deadline,
//! cancellation, panics. Knows no engine and no request.

use std::any::Any;
use std::io;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use modelhost_core::{ErrorCode, SignatureMismatch, Tensor, TensorDescription};
use tokio::sync::oneshot;

use crate::engine::{RunError, RunLimits};
use crate::graph::Graph;
use crate::worker_pool::WorkerPool;

/// Runs graphs on threads of its own, so that no thread that reads sockets or polls other calls waits for inference.
pub struct Executor {
    workers: WorkerPool,
}

/// A run that is expected to end within this time is not worth a hop to another thread and back, which costs some
/// 5 to 30 µs on an idle machine and more on a busy one. It is also about as long as a poll may take before the
/// other tasks of an async runtime notice.
const INLINE_BELOW: Duration = Duration::from_micros(100);

/// How one call of a graph is to be run.
#[derive(Clone, Debug)]
pub struct ComputeOptions {
    /// When it has to end, and how much memory it may take.
    pub limits: RunLimits,
    /// How it may be put together with others.
    pub batching: BatchingPolicy,
    /// Which calls go first.
    pub priority: Priority,
    /// The share of the threads beside calls of other graphs.
    pub weight: NonZeroU32,
}

impl ComputeOptions {
    /// A call that runs alone, with the default priority and weight.
    pub fn alone(limits: RunLimits) -> ComputeOptions {
        let batching =
            BatchingPolicy { max_batch_size: 1, max_queue_delay: Duration::ZERO, max_queue_size: usize::MAX };
        ComputeOptions { limits, batching, priority: Priority::default(), weight: NonZeroU32::MIN }
    }
}

/// How calls that wait for one graph are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchingPolicy {
    /// Rows of one execution; 1 runs every call alone.
    pub max_batch_size: u32,
    /// How long a call waits for others to join it. Zero: it takes those that wait already.
    pub max_queue_delay: Duration,
    /// Calls that may wait for the graph.
    pub max_queue_size: usize,
}

/// Which calls go first: 1 is the highest. Calls of one priority go in the order of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(pub u32);

impl Default for Priority {
    /// That of a request that says nothing.
    fn default() -> Priority {
        Priority(2)
    }
}

/// Why a graph gave no outputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// Names, datatypes or shapes that do not fit the graph.
    #[error("{reason}")]
    InvalidInput {
        /// What does not fit, and what was expected.
        reason: String,
    },
    /// The deadline passed while waiting for a thread or while running.
    #[error("inference did not end before its deadline")]
    DeadlineExceeded,
    /// The caller set [`RunLimits::cancelled`].
    #[error("inference was cancelled")]
    Cancelled,
    /// The tensors of this run would take too much memory.
    #[error("{reason}")]
    TooLarge {
        /// The operator, the bytes it would take and the limit.
        reason: String,
    },
    /// The engine reported an error or panicked.
    #[error("{reason}")]
    Failed {
        /// What the engine said.
        reason: String,
    },
}

impl ComputeError {
    /// The kind of failure, seen by the one who called `compute`.
    pub fn code(&self) -> ErrorCode {
        match self {
            ComputeError::InvalidInput { .. } => ErrorCode::InvalidArgument,
            ComputeError::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            ComputeError::Cancelled => ErrorCode::Unavailable,
            ComputeError::TooLarge { .. } => ErrorCode::TooLarge,
            ComputeError::Failed { .. } => ErrorCode::PluginFailed,
        }
    }
}

impl From<RunError> for ComputeError {
    fn from(error: RunError) -> ComputeError {
        let reason = error.to_string();
        match error {
            RunError::InvalidInput { .. } => ComputeError::InvalidInput { reason },
            RunError::DeadlineExceeded => ComputeError::DeadlineExceeded,
            RunError::Cancelled => ComputeError::Cancelled,
            RunError::TooLarge { .. } => ComputeError::TooLarge { reason },
            RunError::Failed { .. } => ComputeError::Failed { reason },
        }
    }
}

impl From<SignatureMismatch> for ComputeError {
    fn from(mismatch: SignatureMismatch) -> ComputeError {
        ComputeError::InvalidInput { reason: mismatch.to_string() }
    }
}

impl Executor {
    /// Starts that many threads, at least one. One per core is right: a run uses one thread.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn new(threads: usize) -> io::Result<Executor> {
        Ok(Executor { workers: WorkerPool::new(threads)? })
    }

    /// Runs the graph on these inputs, in any order, and gives its outputs in the order of the graph's file.
    ///
    /// A graph that is known to take less than 100 µs for inputs of this size runs at once on the calling thread;
    /// any other runs on a thread of the executor. Dropping the future sets [`RunLimits::cancelled`]: a job that
    /// still waits is not started, and one that runs stops at its next operator.
    ///
    /// # Errors
    /// [`ComputeError`]; a panic of the engine is [`ComputeError::Failed`].
    pub async fn compute(
        &self,
        graph: &Arc<Graph>,
        inputs: Vec<(String, Tensor)>,
        options: ComputeOptions,
    ) -> Result<Vec<(String, Tensor)>, ComputeError> {
        let limits = options.limits;
        let inputs = in_order(graph.inputs(), inputs)?;
        limits.check()?;
        let outputs = if runs_inline(graph, &inputs) {
            run(graph, inputs, &limits)?
        } else {
            self.run_on_worker(graph.clone(), inputs, limits).await?
        };
        let names = graph.outputs().iter().map(|description| description.name.clone());
        Ok(names.zip(outputs).collect())
    }

    async fn run_on_worker(
        &self,
        graph: Arc<Graph>,
        inputs: Vec<Tensor>,
        limits: RunLimits,
    ) -> Result<Vec<Tensor>, ComputeError> {
        let guard = CancelOnDrop { cancelled: limits.cancelled.clone(), armed: true };
        let (answer, result) = oneshot::channel();
        let submitted = self.workers.submit(Box::new(move || {
            // Who no longer listens does not want the result.
            let _ = answer.send(run(&graph, inputs, &limits));
        }));
        if !submitted {
            return Err(ComputeError::Failed { reason: "no inference thread is left".into() });
        }
        let result = result.await;
        guard.disarm();
        result.unwrap_or_else(|_| Err(ComputeError::Failed { reason: "the inference thread ended".into() }))
    }
}

/// Tells a running job that its caller is gone.
struct CancelOnDrop {
    cancelled: Arc<AtomicBool>,
    armed: bool,
}

impl CancelOnDrop {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }
}

/// Checks the inputs and brings them into the order of the descriptions.
fn in_order(
    descriptions: &[TensorDescription],
    mut inputs: Vec<(String, Tensor)>,
) -> Result<Vec<Tensor>, ComputeError> {
    TensorDescription::check_all(descriptions, "input", &inputs)?;
    // After the check each description has exactly one input of its name.
    inputs.sort_by_key(|(name, _)| descriptions.iter().position(|description| description.name == *name));
    Ok(inputs.into_iter().map(|(_, tensor)| tensor).collect())
}

fn runs_inline(graph: &Graph, inputs: &[Tensor]) -> bool {
    graph.run_times().estimate(total_bytes(inputs)).is_some_and(|estimate| estimate < INLINE_BELOW)
}

/// Runs the graph on this thread; remembers how long it took.
fn run(graph: &Graph, inputs: Vec<Tensor>, limits: &RunLimits) -> Result<Vec<Tensor>, ComputeError> {
    limits.check()?;
    let input_bytes = total_bytes(&inputs);
    let start = Instant::now();
    // Unwind safety: a graph is not changed by a run, apart from atomics and caches behind locks that do not poison.
    let result = catch_unwind(AssertUnwindSafe(|| graph.executable().run(inputs, limits)));
    match result {
        Ok(Ok(outputs)) => {
            graph.run_times().record(input_bytes, start.elapsed());
            Ok(outputs)
        }
        Ok(Err(error)) => Err(error.into()),
        Err(panic) => {
            let message = panic_message(&*panic);
            tracing::error!(graph = %graph.digest(), "the inference engine panicked: {message}");
            Err(ComputeError::Failed {
                reason: "the inference engine failed unexpectedly on these inputs".into(),
            })
        }
    }
}

fn total_bytes(tensors: &[Tensor]) -> usize {
    tensors.iter().map(|tensor| tensor.data().len()).sum()
}

/// The text of a panic, where it has one.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&'static str>().copied()).unwrap_or("no message")
}
