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
use crate::options::{ComputeOptions, Priority};
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

/// The same for threads that run what nobody waits for: as much as there is.
const BACKGROUND_NICENESS: i32 = 19;

/// Engines recurse while they run subgraphs. Reserved address space, touched only as far as it is used.
const STACK_BYTES: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Short,
    Long,
    /// Of whatever length, but nobody waits for it.
    Background,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Short, Kind::Long, Kind::Background];

    fn of(priority: Priority, estimate: Option<Duration>) -> Kind {
        match estimate {
            _ if priority.is_background() => Kind::Background,
            Some(estimate) if estimate < SHORT_BELOW => Kind::Short,
            _ => Kind::Long,
        }
    }

    /// What is added to the niceness of its threads.
    fn niceness(self) -> i32 {
        match self {
            Kind::Short => 0,
            Kind::Long => LONG_NICENESS,
            Kind::Background => BACKGROUND_NICENESS,
        }
    }

    /// The longest run that calls may be put together to.
    fn longest(self) -> Option<Duration> {
        (self == Kind::Short).then_some(SHORT_BELOW)
    }
}

/// Calls and threads meet here. The lock is held for as long as it takes to put a call into a queue or to take a batch out,
/// never while a graph runs.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// One for the threads of each lane.
    wake: [Condvar; 3],
}

#[derive(Default)]
struct State {
    lanes: [Lane; 3],
    arrivals: u64,
    is_closed: bool,
}

impl Scheduler {
    /// Starts that many threads for short runs, as many for long ones and as many for the background; at least one of
    /// each.
    pub(crate) fn new(threads: usize) -> io::Result<Scheduler> {
        let scheduler = Scheduler { shared: Arc::default() };
        for kind in Kind::ALL {
            for index in 0..threads.max(1) {
                let shared = scheduler.shared.clone();
                let name = match kind {
                    Kind::Short => format!("inference-{index}"),
                    Kind::Long => format!("inference-long-{index}"),
                    Kind::Background => format!("inference-batch-{index}"),
                };
                thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || shared.work(kind))?;
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
        let is_alone = options.batching.max_batch_size < 2 || options.priority.is_background();
        let is_stackable = graph.is_batchable() && !is_alone;
        let mut presence = Waiting {
            shared: &self.shared,
            lane: Kind::Long,
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
    lane: Kind,
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
    fn submit(&self, graph: &Arc<Graph>, call: Call) -> Result<(Kind, Place), ComputeError> {
        let kind = Kind::of(call.options.priority, graph.run_times().estimate(call.input_bytes));
        let mut state = self.state.lock();
        let is_in_front = |kind: &Kind| *kind != Kind::Background;
        let in_front = Kind::ALL.into_iter().filter(is_in_front);
        let waiting: usize = in_front.map(|kind| state.lanes[kind as usize].waiting(key(graph))).sum();
        if is_in_front(&kind) && waiting >= call.options.batching.max_queue_size {
            graph.counters().record_rejection();
            return Err(ComputeError::Overloaded { waiting });
        }
        state.arrivals += 1;
        let place = (call.options.priority, state.arrivals);
        state.lanes[kind as usize].push(graph, place, call);
        drop(state);
        self.wake[kind as usize].notify_one();
        Ok((kind, place))
    }

    /// What each thread does.
    fn work(&self, kind: Kind) {
        if kind.niceness() > 0 {
            give_way(kind.niceness());
        }
        let mut settled = None;
        while let Some((batch, charge)) = self.next(kind, settled.take()) {
            let began = Instant::now();
            // The panics of engines are caught nearer to them; one that escapes must still not take the thread with it.
            if catch_unwind(AssertUnwindSafe(|| batch.run())).is_err() {
                tracing::error!("a run panicked outside of its engine");
            }
            settled = Some((charge, began.elapsed()));
        }
    }

    /// Waits for the next calls to run; none when the scheduler is gone and nothing waits.
    fn next(&self, kind: Kind, settled: Option<(Charge, Duration)>) -> Option<(Batch, Charge)> {
        let mut state = self.state.lock();
        if let Some((charge, elapsed)) = settled {
            state.lanes[kind as usize].settle(charge, elapsed);
        }
        loop {
            let at_once = state.is_closed;
            let lane = &mut state.lanes[kind as usize];
            match lane.take(Instant::now(), kind.longest(), at_once) {
                Found::Work(batch, charge) => {
                    // Another thread looks at what is left, or waits in place of this one until it is due.
                    if lane.is_waiting() {
                        self.wake[kind as usize].notify_one();
                    }
                    return Some((batch, charge));
                }
                Found::Nothing if state.is_closed => return None,
                Found::Nothing => self.wake[kind as usize].wait(&mut state),
                Found::NotBefore(moment) => {
                    self.wake[kind as usize].wait_until(&mut state, moment);
                }
            }
        }
    }
}

/// Lowers the priority of this thread for the operating system.
fn give_way(niceness: i32) {
    // On Linux this is a property of each thread, elsewhere of the whole process.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, niceness)
    {
        tracing::warn!(%error, "threads that should give way do not");
    }
}
