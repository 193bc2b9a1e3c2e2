//! A run for one call or several: stacks their rows, runs, splits, and answers each call as if it had run alone.

use std::sync::Arc;
use std::time::Instant;

use modelhost_core::Tensor;

use super::call::{Call, Done, SharedRun};
use crate::compute_error::ComputeError;
use crate::engine::{RunError, RunLimits};
use crate::graph::Graph;
use crate::run::{run, run_unrecorded};
use crate::stacking;

/// Calls that are to run together, in the order in which they go.
pub(crate) struct Batch {
    graph: Arc<Graph>,
    calls: Vec<Call>,
    shared: Arc<SharedRun>,
    began: Instant,
}

impl Batch {
    /// Takes the calls on. From now on a caller that gives up leaves the run, not the queue.
    pub(crate) fn new(graph: Arc<Graph>, calls: Vec<Call>, began: Instant) -> Batch {
        let shared = Arc::new(SharedRun::new(calls.len()));
        if calls.len() > 1 {
            calls.iter().for_each(|call| call.membership.join(shared.clone()));
        }
        Batch { graph, calls, shared, began }
    }

    pub(crate) fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The first call, whose weight counts for the run.
    pub(crate) fn first(&self) -> Option<&Call> {
        self.calls.first()
    }

    /// Bytes of all inputs.
    pub(crate) fn input_bytes(&self) -> usize {
        self.calls.iter().fold(0, |sum, call| sum.saturating_add(call.input_bytes))
    }

    /// Runs the calls on this thread and answers each.
    pub(crate) fn run(self) {
        let mut execution =
            Execution { graph: &self.graph, shared: &self.shared, began: self.began, owed: 0 };
        execution.run(self.calls);
    }
}

/// The runs of one batch: one, if all goes well.
struct Execution<'a> {
    graph: &'a Graph,
    shared: &'a SharedRun,
    began: Instant,
    /// Runs of the engine that were not yet counted for any call.
    owed: u32,
}

impl Execution<'_> {
    /// A run that fails says nothing about which of the calls is to blame, so the halves of it are tried again, down to
    /// single calls: each gets the result that it has alone.
    fn run(&mut self, calls: Vec<Call>) {
        let mut calls = self.without_ended(calls);
        if calls.len() < 2 {
            calls.into_iter().for_each(|call| self.run_alone(call));
            return;
        }
        match self.run_together(&calls) {
            Ok(outputs) => {
                calls.into_iter().zip(outputs).for_each(|(call, outputs)| self.succeed(call, outputs))
            }
            Err(error) => {
                tracing::debug!(graph = %self.graph.digest(), calls = calls.len(), %error, "a shared run failed");
                let second_half = calls.split_off(calls.len() / 2);
                self.run(calls);
                self.run(second_half);
            }
        }
    }

    /// Answers the calls whose caller gave up or whose time does not suffice, and gives the others back.
    fn without_ended(&self, calls: Vec<Call>) -> Vec<Call> {
        let mut others = Vec::with_capacity(calls.len());
        for call in calls {
            match call.admitted.check(self.graph, &call.options.limits) {
                Ok(()) => others.push(call),
                Err(error) => call.answer(Err(error.into())),
            }
        }
        others
    }

    fn run_alone(&mut self, mut call: Call) {
        self.owed += 1;
        let inputs = std::mem::take(&mut call.inputs);
        let is_background = call.options.priority.is_background();
        let run = if is_background { run_unrecorded } else { run };
        match run(self.graph, inputs, &call.options.limits) {
            Ok(outputs) => self.succeed(call, outputs),
            Err(error) => call.answer(Err(error.into())),
        }
    }

    fn run_together(&mut self, calls: &[Call]) -> Result<Vec<Vec<Tensor>>, RunError> {
        let failed = |reason: String| RunError::Failed { reason };
        let inputs: Vec<&[_]> = calls.iter().map(|call| call.inputs.as_slice()).collect();
        let stacked = stacking::stack(&inputs).map_err(|error| failed(error.to_string()))?;
        self.owed += 1;
        let outputs = run(self.graph, stacked, &self.shared_limits(calls))?;
        let rows: Vec<u64> = calls.iter().map(|call| call.rows.unwrap_or(0)).collect();
        stacking::split(&outputs, &rows).ok_or_else(|| {
            // The proof that rows are independent says that this cannot be.
            tracing::error!(graph = %self.graph.digest(), "a shared run gave another number of rows than it got");
            failed("the outputs have another number of rows than the inputs".into())
        })
    }

    /// The run may go on as long as one of the callers waits and has time. It may take the memory of one call: what
    /// takes more is tried again in halves.
    fn shared_limits(&self, calls: &[Call]) -> RunLimits {
        let limits = calls.iter().map(|call| &call.options.limits);
        RunLimits {
            deadline: limits.clone().map(|limits| limits.deadline).max().unwrap_or(self.began),
            cancelled: self.shared.cancelled.clone(),
            max_tensor_bytes: limits.map(|limits| limits.max_tensor_bytes).min().unwrap_or(0),
        }
    }

    fn succeed(&mut self, call: Call, outputs: Vec<Tensor>) {
        // A shared run goes on past the deadline of one call for the sake of another.
        if let Err(error) = call.options.limits.check() {
            return call.answer(Err(ComputeError::from(error)));
        }
        let queued = self.began.saturating_duration_since(call.arrived);
        let executions = std::mem::take(&mut self.owed);
        call.answer(Ok(Done { outputs, executions, queued }));
    }
}
