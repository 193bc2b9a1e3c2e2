//! The threads that run graphs, and the way of a call to them and back; and the runs for which no thread is worth it.

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
use super::lane::{Charge, Found, Key, Lane};
use super::queue::Place;
use crate::compute_error::ComputeError;
use crate::graph::Graph;
use crate::options::{CallerTurns, ComputeOptions};
use crate::run::total_bytes;
use crate::stacking;

/// The threads end when this is dropped and the calls that wait are done.
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
}

/// Runs that are expected to end within this time are short. It bounds how long a thread of the short lane is away, and
/// is about a slice of the kernel's scheduler, which is what giving way to others costs anyway.
const SHORT_BELOW: Duration = Duration::from_millis(2);

/// A call that may share its run counts as this many: with less room than that in a short run, few could share one.
const SHARED_BY: u32 = 4;

/// Added to the niceness of threads that run long graphs: a thread beside one of them gets nine tenths of a processor that
/// both want.
const LONG_NICENESS: i32 = 10;

/// Engines recurse while they run subgraphs. Reserved address space, touched only as far as it is used.
const STACK_BYTES: usize = 16 << 20;

/// Quick calls are put together to a run that lasts no longer: it is a turn among the turns of plugins.
const GATHERED_BELOW: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// On the threads of those who call; the others have threads here.
    Quick,
    Short,
    Long,
}

impl Length {
    const WITH_THREADS: [Length; 2] = [Length::Short, Length::Long];

    fn of(estimate: Option<Duration>, is_stackable: bool) -> Length {
        let calls = if is_stackable { SHARED_BY } else { 1 };
        match estimate {
            Some(estimate) if estimate * calls < SHORT_BELOW => Length::Short,
            _ => Length::Long,
        }
    }

    /// The longest run that calls may be put together to.
    fn longest(self) -> Option<Duration> {
        match self {
            Length::Quick => Some(GATHERED_BELOW),
            Length::Short => Some(SHORT_BELOW),
            Length::Long => None,
        }
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
    /// Starts that many threads for short runs, and as many for long ones; at least one of each.
    pub(crate) fn new(threads: usize) -> io::Result<Scheduler> {
        let scheduler = Scheduler { shared: Arc::default() };
        for length in Length::WITH_THREADS {
            for index in 0..threads.max(1) {
                let shared = scheduler.shared.clone();
                let name = match length {
                    Length::Long => format!("inference-long-{index}"),
                    _ => format!("inference-{index}"),
                };
                thread::Builder::new()
                    .name(name)
                    .stack_size(STACK_BYTES)
                    .spawn(move || shared.work(length))?;
            }
        }
        Ok(scheduler)
    }

    /// Waits for a thread, runs, and gives the outputs. Dropping the future takes the call out of the queue, or stops its
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
        let estimate = graph.run_times().estimate(total_bytes(&inputs));
        let length = Length::of(estimate, is_stackable(graph, &options));
        let submitted = self.submit(graph, inputs, options, length, None)?;
        self.shared.wake[length as usize].notify_one();
        submitted.answer().await
    }

    /// The same, but it runs where the caller takes turns with others, after the turns of those who are ready now and may
    /// join.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub(crate) async fn gather(
        &self,
        graph: &Arc<Graph>,
        inputs: Vec<Tensor>,
        options: ComputeOptions,
        turns: Arc<dyn CallerTurns>,
    ) -> Answer {
        let submitted = self.submit(graph, inputs, options, Length::Quick, Some(&turns))?;
        // Who is not the first one joins the run that the first one asked for.
        if submitted.is_first {
            let key = submitted.waiting.key;
            self.shared.clone().run_gathered_later(key, turns);
        }
        submitted.answer().await
    }

    fn submit(
        &self,
        graph: &Arc<Graph>,
        inputs: Vec<Tensor>,
        options: ComputeOptions,
        length: Length,
        turns: Option<&Arc<dyn CallerTurns>>,
    ) -> Result<Submitted<'_>, ComputeError> {
        let key = Key::of(graph, turns);
        let (answer, result) = oneshot::channel();
        let is_stackable = is_stackable(graph, &options);
        let (cancelled, membership) = (options.limits.cancelled.clone(), Arc::<Membership>::default());
        let call = Call {
            input_bytes: total_bytes(&inputs),
            rows: is_stackable.then(|| stacking::rows(&inputs)).flatten(),
            inputs,
            options,
            arrived: Instant::now(),
            answer,
            membership: membership.clone(),
        };
        let (place, is_first) = self.shared.push(key, graph, call, length)?;
        let waiting =
            Waiting { shared: &self.shared, lane: length, key, place, cancelled, membership, is_over: false };
        Ok(Submitted { waiting, result, is_first })
    }
}

/// A call in a queue, or in the run that it left it for.
struct Submitted<'a> {
    waiting: Waiting<'a>,
    result: oneshot::Receiver<Answer>,
    /// Whether no other waited for the same graph in the same lane.
    is_first: bool,
}

impl Submitted<'_> {
    async fn answer(mut self) -> Answer {
        let result = self.result.await;
        self.waiting.is_over = true;
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
    fn push(
        &self,
        key: Key,
        graph: &Arc<Graph>,
        call: Call,
        length: Length,
    ) -> Result<(Place, bool), ComputeError> {
        let mut state = self.state.lock();
        let waiting: usize = state.lanes.iter().map(|lane| lane.waiting_for_graph_of(key)).sum();
        if waiting >= call.options.batching.max_queue_size {
            graph.counters().record_rejection();
            return Err(ComputeError::Overloaded { waiting });
        }
        state.arrivals += 1;
        let place = (call.options.priority, state.arrivals);
        let lane = &mut state.lanes[length as usize];
        let is_first = lane.waiting(key) == 0;
        lane.push(key, graph, place, call);
        Ok((place, is_first))
    }

    fn run_gathered_later(self: Arc<Self>, key: Key, turns: Arc<dyn CallerTurns>) {
        let next = turns.clone();
        turns.after_those_ready(Box::new(move || self.run_gathered(key, next)));
    }

    /// Runs what was gathered for a graph, as much as one run may hold.
    fn run_gathered(self: Arc<Self>, key: Key, turns: Arc<dyn CallerTurns>) {
        let lane = Length::Quick as usize;
        let taken = self.state.lock().lanes[lane].take_of(key, Instant::now(), Length::Quick.longest());
        // Who waited may have given up.
        let Some((batch, charge)) = taken else { return };
        let elapsed = timed(batch);
        let mut state = self.state.lock();
        state.lanes[lane].settle(charge, elapsed);
        let are_more_waiting = state.lanes[lane].waiting(key) > 0;
        drop(state);
        if are_more_waiting {
            self.run_gathered_later(key, turns);
        }
    }

    /// What each thread does.
    fn work(&self, length: Length) {
        if length == Length::Long {
            give_way();
        }
        let mut settled = None;
        while let Some((batch, charge)) = self.next(length, settled.take()) {
            settled = Some((charge, timed(batch)));
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

/// Whether a call may share its run with others.
pub(crate) fn is_stackable(graph: &Graph, options: &ComputeOptions) -> bool {
    graph.is_batchable() && options.batching.max_batch_size > 1
}

/// Runs a batch and says how long it took.
fn timed(batch: Batch) -> Duration {
    let began = Instant::now();
    // The panics of engines are caught nearer to them; one that escapes must still not take the thread with it.
    if catch_unwind(AssertUnwindSafe(|| batch.run())).is_err() {
        tracing::error!("a run panicked outside of its engine");
    }
    began.elapsed()
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
