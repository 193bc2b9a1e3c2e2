//! Quick calls of one model that share a run on the threads on which their callers take turns: the first one asks for a turn
//! after those who are ready now, and takes along whoever has joined by then.

use std::sync::Arc;

use modelhost_core::Tensor;

use super::call::Answer;
use super::lane::Key;
use super::scheduler::{LaneName, Scheduler, Shared, timed};
use crate::caller::CallerThreads;
use crate::graph::Graph;
use crate::options::ComputeOptions;
use crate::run::Admitted;

impl Scheduler {
    /// As [`Scheduler::compute`], but it runs on the threads of the callers.
    ///
    /// # Errors
    /// [`ComputeError`](crate::ComputeError).
    pub(crate) async fn gather(
        &self,
        graph: &Arc<Graph>,
        inputs: Vec<Tensor>,
        options: ComputeOptions,
        admitted: Admitted,
        threads: Arc<dyn CallerThreads>,
    ) -> Answer {
        let submitted = self.submit(graph, inputs, options, admitted, LaneName::Callers, Some(&threads))?;
        // Who is not the first one joins the run that the first one asked for.
        if submitted.is_first {
            run_later(self.shared.clone(), submitted.key(), threads);
        }
        submitted.answer().await
    }
}

fn run_later(shared: Arc<Shared>, key: Key, threads: Arc<dyn CallerThreads>) {
    let again = threads.clone();
    threads.after_those_ready(Box::new(move || run(shared, key, again)));
}

/// Runs what was gathered, as much as one run may hold.
fn run(shared: Arc<Shared>, key: Key, threads: Arc<dyn CallerThreads>) {
    // Who waited may have given up.
    let Some((batch, charge)) = shared.take_gathered(key) else { return };
    if shared.settle_gathered(key, charge, timed(batch)) {
        run_later(shared, key, threads);
    }
}
