//! A fixed number of threads of our own that run jobs in the order of arrival. Knows nothing about what a job does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, thread};

use crossbeam_channel::{Receiver, Sender, unbounded};

/// The threads end when the pool is dropped and the jobs that were already handed over are done.
pub(crate) struct WorkerPool {
    jobs: Sender<Job>,
}

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Engines recurse while they run subgraphs. Reserved address space, touched only as far as it is used.
const STACK_BYTES: usize = 16 << 20;

impl WorkerPool {
    /// Starts that many threads, at least one.
    pub(crate) fn new(threads: usize) -> io::Result<WorkerPool> {
        // The queue has no bound of its own: admission bounds the callers, and a caller that gave up leaves an entry
        // that is skipped in well under a microsecond.
        let (jobs, queue) = unbounded::<Job>();
        for index in 0..threads.max(1) {
            let queue = queue.clone();
            thread::Builder::new()
                .name(format!("inference-{index}"))
                .stack_size(STACK_BYTES)
                .spawn(move || work(&queue))?;
        }
        Ok(WorkerPool { jobs })
    }

    /// Puts a job at the end of the queue. False if no thread is left to run it.
    pub(crate) fn submit(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }
}

fn work(queue: &Receiver<Job>) {
    for job in queue {
        // Jobs catch the panics of what they call; a panic that escapes must still not take the thread with it.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job on an inference thread panicked");
        }
    }
}
