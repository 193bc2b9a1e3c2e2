//! The threads that run graphs, and the way of a call to them and back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use modelhost_core::Tensor;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::batch::Batch;
use super::call::{Answer, Call, Membership};
use super::lane::{Charge, Found, Key, Lane, key};
use super::queue::Place;
use crate::compute_error::ComputeError;
use crate::graph::Graph;
use crate::options::ComputeOptions;
use crate::run::total_bytes;
use crate::stacking;

/// The threads end when this is dropped and the calls that wait are done.
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
}

/// Runs that are expected to end within this time are short. It bounds how long a thread of the short lane is away, and
/// is about a slice of the kernel's scheduler, which is what giving way to others costs anyway.
const SHORT_BELOW: Duration = Duration::from_millis(2);

/// Added to the niceness of threads that run long graphs: a thread beside one of them gets nine tenths of a processor that
/// both want.
const LONG_NICENESS: i32 = 10;

/// Engines recurse while they run subgraphs. Reserved address space, touched only as far as it is used.
const STACK_BYTES: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Short,
    Long,
}

impl Length {
    const ALL: [Length; 2] = [Length::Short, Length::Long];

    fn of(estimate: Option<Duration>) -> Length {
        match estimate {
            Some(estimate) if estimate < SHORT_BELOW => Length::Short,
            _ => Length::Long,
        }
    }

    /// The longest run that calls may be put together to.
    fn longest(self) -> Option<Duration> {
        (self == Length::Short).then_some(SHORT_BELOW)
    }
}

/// Calls and threads meet here. The lock is held for as long as it takes to put a call into a queue or to take a batch out,
/// never while a graph runs.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// One for the threads of each lane.
    wake: [Condvar; 2],
}

#[derive(Default)]
struct State {
    lanes: [Lane; 2],
    arrivals: u64,
    is_closed: bool,
}

impl Scheduler {
    /// Starts that many threads for short runs, and as many for long ones; at least one of each.
    pub(crate) fn new(threads: usize) -> io::Result<Scheduler> {
        let scheduler = Scheduler { shared: Arc::default() };
        for length in Length::ALL {
            for index in 0..threads.max(1) {
                let shared = scheduler.shared.clone();
                let name = match length {
                    Length::Short => format!("inference-{index}"),
                    Length::Long => format!("inference-long-{index}"),
                };
                thread::Builder::new()
                    .name(name)
                    .stack_size(STACK_BYTES)
                    .spawn(move || shared.work(length))?;
            }
        }
        Ok(scheduler)
    }

    /// Waits for a turn, runs, and gives the outputs. Dropping the future takes the call out of the queue, or stops its
    /// run if nobody else waits for it.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub(crate) async fn compute(
        &self,
        graph: &Arc<Graph>,
        inputs: Vec<Tensor>,
        options: ComputeOptions,
    ) -> Answer {
        let (answer, result) = oneshot::channel();
        let is_stackable = graph.is_batchable() && options.batching.max_batch_size > 1;
        let mut presence = Waiting {
            shared: &self.shared,
            lane: Length::Long,
            key: key(graph),
            place: (options.priority, 0),
            cancelled: options.limits.cancelled.clone(),
            membership: Arc::default(),
            is_over: false,
        };
        let call = Call {
            input_bytes: total_bytes(&inputs),
            rows: is_stackable.then(|| stacking::rows(&inputs)).flatten(),
            inputs,
            options,
            arrived: Instant::now(),
            answer,
            membership: presence.membership.clone(),
        };
        (presence.lane, presence.place) =
            self.shared.submit(graph, call).inspect_err(|_| presence.is_over = true)?;
        let result = result.await;
        presence.is_over = true;
        result.unwrap_or_else(|_| Err(ComputeError::Failed { reason: "the inference thread ended".into() }))
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.wake.iter().for_each(|wake| {
            wake.notify_all();
        });
    }
}

/// A caller that waits.
struct Waiting<'a> {
    shared: &'a Shared,
    lane: Length,
    key: Key,
    place: Place,
    cancelled: Arc<AtomicBool>,
    membership: Arc<Membership>,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.cancelled.store(true, Ordering::Relaxed);
        let waiting = self.shared.state.lock().lanes[self.lane as usize].remove(self.key, self.place);
        // What is not in the queue any more is in a run. Calls join runs under the lock, so it is in one by now.
        if waiting.is_none() {
            self.membership.leave();
        }
    }
}

impl Shared {
    fn submit(&self, graph: &Arc<Graph>, call: Call) -> Result<(Length, Place), ComputeError> {
        let length = Length::of(graph.run_times().estimate(call.input_bytes));
        let mut state = self.state.lock();
        let waiting: usize = state.lanes.iter().map(|lane| lane.waiting(key(graph))).sum();
        if waiting >= call.options.batching.max_queue_size {
            graph.counters().record_rejection();
            return Err(ComputeError::Overloaded { waiting });
        }
        state.arrivals += 1;
        let place = (call.options.priority, state.arrivals);
        state.lanes[length as usize].push(graph, place, call);
        drop(state);
        self.wake[length as usize].notify_one();
        Ok((length, place))
    }

    /// What each thread does.
    fn work(&self, length: Length) {
        if length == Length::Long {
            give_way();
        }
        let mut settled = None;
        while let Some((batch, charge)) = self.next(length, settled.take()) {
            let began = Instant::now();
            // The panics of engines are caught nearer to them; one that escapes must still not take the thread with it.
            if catch_unwind(AssertUnwindSafe(|| batch.run())).is_err() {
                tracing::error!("a run panicked outside of its engine");
            }
            settled = Some((charge, began.elapsed()));
        }
    }

    /// Waits for the next calls to run; none when the scheduler is gone and nothing waits.
    fn next(&self, length: Length, settled: Option<(Charge, Duration)>) -> Option<(Batch, Charge)> {
        let mut state = self.state.lock();
        if let Some((charge, elapsed)) = settled {
            state.lanes[length as usize].settle(charge, elapsed);
        }
        loop {
            let at_once = state.is_closed;
            let lane = &mut state.lanes[length as usize];
            match lane.take(Instant::now(), length.longest(), at_once) {
                Found::Work(batch, charge) => {
                    // Another thread looks at what is left, or waits in place of this one until it is due.
                    if lane.is_waiting() {
                        self.wake[length as usize].notify_one();
                    }
                    return Some((batch, charge));
                }
                Found::Nothing if state.is_closed => return None,
                Found::Nothing => self.wake[length as usize].wait(&mut state),
                Found::NotBefore(moment) => {
                    self.wake[length as usize].wait_until(&mut state, moment);
                }
            }
        }
    }
}

/// Lowers the priority of this thread for the operating system.
fn give_way() {
    // On Linux this is a property of each thread, elsewhere of the whole process.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, LONG_NICENESS)
    {
        tracing::warn!(%error, "long graphs run with the priority of short ones");
    }
}
