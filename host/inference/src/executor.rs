//! Decides where a call of a graph runs: at once on the thread that asks, or in the queue of its graph. Checks the inputs
//! and names the outputs. Knows no engine and no request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use modelhost_core::{Tensor, TensorDescription};

use crate::caller::{CallerThreads, Company};
use crate::compute_error::ComputeError;
use crate::graph::Graph;
use crate::known_times::Extents;
use crate::options::ComputeOptions;
use crate::run::{Admitted, run};
use crate::schedule::{Done, Scheduler, is_stackable};
use crate::thread_priority::BackgroundThreads;

/// Runs graphs: quick ones on the thread that asks, others on threads of its own, so that no thread that polls other calls
/// waits long for inference.
pub struct Executor {
    scheduler: Scheduler,
    /// Of calls that nobody waits for.
    background: Scheduler,
}

/// A run that is expected to end within this time is not worth a hop to another thread and back, which costs some
/// 5 to 30 µs on an idle machine and more on a busy one. It is also about as long as a poll may take before the
/// other tasks of an async runtime notice.
const INLINE_BELOW: Duration = Duration::from_micros(100);

/// The same where the caller is known to keep nobody waiting but who comes during the run: as long as a turn of a plugin
/// may last anyway.
const ALONE_INLINE_BELOW: Duration = Duration::from_millis(1);

/// Not even sharing a run with others makes up for the hop.
const ALWAYS_INLINE_BELOW: Duration = Duration::from_micros(20);

/// What a call of a graph gave.
#[derive(Debug)]
pub struct Computed {
    /// The outputs, in the order of the graph's file.
    pub outputs: Vec<(String, Tensor)>,
    /// Executions of the graph that are to be counted for this call: none where another call of the same run counts for
    /// it, several where shared runs failed before.
    pub executions: u32,
    /// How long it waited before it ran.
    pub queued: Duration,
}

impl Executor {
    /// Starts that many threads for short runs and as many for long ones, at least one of each, and those of the
    /// background. One per core is right: a run uses one thread.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn new(threads: usize, background: BackgroundThreads) -> io::Result<Executor> {
        let (scheduler, background) =
            (Scheduler::of_requests(threads)?, Scheduler::of_background(background)?);
        Ok(Executor { scheduler, background })
    }

    /// Runs the graph on these inputs, in any order, and gives its outputs in the order of the graph's file.
    ///
    /// A graph that is sure to take less than 100 µs for inputs of these extents (1 ms where nobody else is under way) runs
    /// on the calling thread: at once, or where others are on their way to share a run with, after their turns. Any other
    /// waits for a thread of the executor, as does one that is to wait for others or that others run already. Dropping the
    /// future sets [`crate::RunLimits::cancelled`]: a call that still waits leaves the queue, and a run that nobody else
    /// waits for stops at its next operator.
    ///
    /// # Errors
    /// [`ComputeError`]; a panic of the engine is [`ComputeError::Failed`].
    pub async fn compute(
        &self,
        graph: &Arc<Graph>,
        inputs: Vec<(String, Tensor)>,
        options: ComputeOptions,
    ) -> Result<Computed, ComputeError> {
        let inputs = in_order(graph.inputs(), inputs)?;
        let counters = graph.counters();
        counters.record_request();
        let admitted = Admitted::admit(graph, &inputs, &options.limits)?;
        let done = match where_to_run(graph, admitted.extents, &options) {
            Where::Here => run_here(graph, inputs, &options)?,
            Where::HereAndSeen => {
                let _present = counters.enter();
                run_here(graph, inputs, &options)?
            }
            Where::Gathered(threads) => {
                let _present = counters.enter();
                self.scheduler.gather(graph, inputs, options, admitted, threads).await?
            }
            Where::Background => self.background.compute(graph, inputs, options, admitted).await?,
            Where::Queue => {
                let _present = counters.enter();
                self.scheduler.compute(graph, inputs, options, admitted).await?
            }
        };
        let names = graph.outputs().iter().map(|description| description.name.clone());
        let outputs = names.zip(done.outputs).collect();
        Ok(Computed { outputs, executions: done.executions, queued: done.queued })
    }
}

enum Where {
    /// On the calling thread.
    Here,
    /// On the calling thread, and later calls may see that the graph is busy.
    HereAndSeen,
    /// On the threads on which the caller and others take turns, after theirs.
    Gathered(Arc<dyn CallerThreads>),
    /// In the queue of the graph.
    Queue,
    /// The same, and later calls do not see it: there is nothing to be had from it for them.
    Background,
}

fn where_to_run(graph: &Graph, extents: Extents, options: &ComputeOptions) -> Where {
    if options.priority.is_background() {
        return Where::Background;
    }
    let batching = &options.batching;
    let Some(time) = graph.sure_time(extents) else { return Where::Queue };
    let company = options.threads.as_ref().map(|threads| threads.company());
    let is_stackable = is_stackable(graph, options);
    if is_stackable && !batching.max_queue_delay.is_zero() {
        // Somebody wants it to wait for others.
        return Where::Queue;
    }
    if company == Some(Company::Nobody) && time < ALONE_INLINE_BELOW {
        return Where::Here;
    }
    if time >= INLINE_BELOW {
        return Where::Queue;
    }
    if !is_stackable || time < ALWAYS_INLINE_BELOW {
        return Where::Here;
    }
    match (&options.threads, company) {
        (Some(threads), Some(Company::SameModel)) => Where::Gathered(threads.clone()),
        _ if graph.counters().is_busy() => Where::Queue,
        _ => Where::HereAndSeen,
    }
}

fn run_here(graph: &Graph, inputs: Vec<Tensor>, options: &ComputeOptions) -> Result<Done, ComputeError> {
    let outputs = run(graph, inputs, &options.limits)?;
    Ok(Done { outputs, executions: 1, queued: Duration::ZERO })
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
