//! A call that waits for its turn, and the run that it may come to share with others.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use modelhost_core::Tensor;
use tokio::sync::oneshot;

use crate::compute_error::ComputeError;
use crate::options::ComputeOptions;
use crate::run::Admitted;

/// What a call is answered.
pub(crate) type Answer = Result<Done, ComputeError>;

/// A call that has its outputs.
#[derive(Debug)]
pub(crate) struct Done {
    /// In the order of the graph's file.
    pub(crate) outputs: Vec<Tensor>,
    /// Executions that are counted for this call.
    pub(crate) executions: u32,
    /// How long it waited.
    pub(crate) queued: Duration,
}

/// A call that waits.
pub(crate) struct Call {
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) input_bytes: usize,
    pub(crate) admitted: Admitted,
    /// The rows that it would bring to a shared run; none if it has to run alone.
    pub(crate) rows: Option<u64>,
    pub(crate) options: ComputeOptions,
    pub(crate) arrived: Instant,
    pub(crate) answer: oneshot::Sender<Answer>,
    pub(crate) membership: Arc<Membership>,
}

impl Call {
    /// When it goes on, whether others joined it or not.
    pub(crate) fn due(&self) -> Instant {
        match self.rows {
            Some(_) => {
                self.arrived.checked_add(self.options.batching.max_queue_delay).unwrap_or(self.arrived)
            }
            None => self.arrived,
        }
    }

    /// Who no longer listens does not want the answer. Whoever has it does not need the run any more.
    pub(crate) fn answer(self, answer: Answer) {
        self.membership.leave();
        let _ = self.answer.send(answer);
    }
}

/// The shared run that a call is part of, once it is.
#[derive(Default)]
pub(crate) struct Membership {
    run: OnceLock<Arc<SharedRun>>,
    has_left: AtomicBool,
}

impl Membership {
    pub(crate) fn join(&self, run: Arc<SharedRun>) {
        // A call joins once: it leaves the queue with it.
        let _ = self.run.set(run);
    }

    /// The caller gave up, or has its answer. A shared run goes on for the others; with the last one it is stopped.
    pub(crate) fn leave(&self) {
        if let Some(run) = self.run.get()
            && !self.has_left.swap(true, Ordering::Relaxed)
            && run.callers.fetch_sub(1, Ordering::Relaxed) == 1
        {
            run.cancelled.store(true, Ordering::Relaxed);
        }
    }
}

/// A run for several callers.
pub(crate) struct SharedRun {
    /// Those that still wait for it.
    callers: AtomicUsize,
    /// Set when nobody waits for it.
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl SharedRun {
    pub(crate) fn new(callers: usize) -> SharedRun {
        SharedRun { callers: AtomicUsize::new(callers), cancelled: Arc::default() }
    }
}
