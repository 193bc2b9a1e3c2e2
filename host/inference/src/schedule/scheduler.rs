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
use crate::caller::CallerThreads;
use crate::compute_error::ComputeError;
use crate::graph::Graph;
use crate::options::ComputeOptions;
use crate::run::{Admitted, total_bytes};
use crate::stacking;
use crate::thread_priority::{BackgroundThreads, give_way};

/// The threads end when this is dropped and the calls that wait are done.
pub(crate) struct Scheduler {
    pub(super) shared: Arc<Shared>,
}

/// Runs that are expected to end within this time are short. It bounds how long a thread of the short lane is away, and
/// is about a slice of the kernel's scheduler, which is what giving way to others costs anyway.
const SHORT_BELOW: Duration = Duration::from_millis(2);

/// Added to the niceness of threads that run long graphs: a thread beside one of them gets nine tenths of a processor that
/// both want.
const LONG_NICENESS: i32 = 10;

/// Engines recurse while they run subgraphs. Reserved address space, touched only as far as it is used.
const STACK_BYTES: usize = 16 << 20;

/// Quick calls are put together to a run that lasts no longer: it is a turn among the turns of plugins.
const GATHERED_BELOW: Duration = Duration::from_micros(500);

/// Where calls wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneName {
    /// For the threads of those who call.
    Callers,
    /// For threads here that do short runs.
    Short,
    /// For threads here that do long ones.
    Long,
    /// For threads here that do what nobody waits for, of whatever length.
    Background,
}

impl LaneName {
    /// The lanes with threads of a scheduler for requests.
    const OF_REQUESTS: &[LaneName] = &[LaneName::Short, LaneName::Long];

    /// The lane of a run that is sure to take this time.
    fn of(time: Option<Duration>) -> LaneName {
        match time {
            Some(time) if time < SHORT_BELOW => LaneName::Short,
            _ => LaneName::Long,
        }
    }

    /// The longest run that calls may be put together to, as far as that is no bargain.
    fn longest(self) -> Option<Duration> {
        match self {
            LaneName::Callers => Some(GATHERED_BELOW),
            LaneName::Short => Some(SHORT_BELOW),
            LaneName::Long | LaneName::Background => None,
        }
    }
}

/// Calls and threads meet here. The lock is held for as long as it takes to put a call into a queue or to take a batch out,
/// never while a graph runs.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// For the threads of each lane that has some.
    wake: [Condvar; 4],
}

#[derive(Default)]
struct State {
    lanes: [Lane; 4],
    arrivals: u64,
    is_closed: bool,
}

impl Scheduler {
    /// Starts that many threads for short runs, and as many for long ones; at least one of each.
    pub(crate) fn of_requests(threads: usize) -> io::Result<Scheduler> {
        Scheduler::start(LaneName::OF_REQUESTS, threads, None)
    }

    /// Starts threads for what nobody waits for. They share nothing with those of requests: one that others interrupted
    /// while it held a lock would keep requests waiting.
    pub(crate) fn of_background(threads: BackgroundThreads) -> io::Result<Scheduler> {
        Scheduler::start(&[LaneName::Background], threads.count(), Some(threads))
    }

    fn start(
        lanes: &[LaneName],
        threads: usize,
        background: Option<BackgroundThreads>,
    ) -> io::Result<Scheduler> {
        let scheduler = Scheduler { shared: Arc::default() };
        for &lane in lanes {
            for index in 0..threads.max(1) {
                let shared = scheduler.shared.clone();
                let name = match lane {
                    LaneName::Long => format!("inference-long-{index}"),
                    LaneName::Background => format!("inference-batch-{index}"),
                    _ => format!("inference-{index}"),
                };
                thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
                    match background {
                        Some(background) => background.enter(),
                        None if lane == LaneName::Long => give_way(LONG_NICENESS),
                        None => {}
                    }
                    shared.work(lane);
                })?;
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
        admitted: Admitted,
    ) -> Answer {
        let is_background = options.priority.is_background();
        let lane = match graph.sure_time(admitted.extents) {
            _ if is_background => LaneName::Background,
            time => LaneName::of(time),
        };
        let submitted = self.submit(graph, inputs, options, admitted, lane, None)?;
        self.shared.wake[lane as usize].notify_one();
        submitted.answer().await
    }

    pub(super) fn submit(
        &self,
        graph: &Arc<Graph>,
        inputs: Vec<Tensor>,
        options: ComputeOptions,
        admitted: Admitted,
        lane: LaneName,
        threads: Option<&Arc<dyn CallerThreads>>,
    ) -> Result<Submitted<'_>, ComputeError> {
        let key = Key::of(graph, threads);
        let (answer, result) = oneshot::channel();
        let is_stackable = is_stackable(graph, &options);
        let (cancelled, membership) = (options.limits.cancelled.clone(), Arc::<Membership>::default());
        let call = Call {
            input_bytes: total_bytes(&inputs),
            admitted,
            rows: is_stackable.then(|| stacking::rows(&inputs)).flatten(),
            inputs,
            options,
            arrived: Instant::now(),
            answer,
            membership: membership.clone(),
        };
        let (place, is_first) = self.shared.push(key, graph, call, lane)?;
        let waiting =
            Waiting { shared: &self.shared, lane, key, place, cancelled, membership, is_over: false };
        Ok(Submitted { waiting, result, is_first })
    }
}

/// A call in a queue, or in the run that it left it for.
pub(super) struct Submitted<'a> {
    waiting: Waiting<'a>,
    result: oneshot::Receiver<Answer>,
    /// Whether no other waits with it.
    pub(super) is_first: bool,
}

impl Submitted<'_> {
    /// What it waits by.
    pub(super) fn key(&self) -> Key {
        self.waiting.key
    }

    pub(super) async fn answer(mut self) -> Answer {
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
    lane: LaneName,
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
    /// The next calls with this key in the lane of the callers' threads.
    pub(super) fn take_gathered(&self, key: Key) -> Option<(Batch, Charge)> {
        let name = LaneName::Callers;
        self.state.lock().lanes[name as usize].take_of(key, Instant::now(), name.longest())
    }

    /// Ends a run of that lane, and says whether more calls wait.
    pub(super) fn settle_gathered(&self, key: Key, charge: Charge, elapsed: Duration) -> bool {
        let lane = &mut self.state.lock().lanes[LaneName::Callers as usize];
        lane.settle(charge, elapsed);
        lane.waiting(key) > 0
    }

    fn push(
        &self,
        key: Key,
        graph: &Arc<Graph>,
        call: Call,
        lane: LaneName,
    ) -> Result<(Place, bool), ComputeError> {
        let mut state = self.state.lock();
        let waiting: usize = state.lanes.iter().map(|lane| lane.waiting_for_graph_of(key)).sum();
        // Those that nobody waits for are as many as their job makes.
        if lane != LaneName::Background && waiting >= call.options.batching.max_queue_size {
            graph.counters().record_rejection();
            return Err(ComputeError::Overloaded { waiting });
        }
        state.arrivals += 1;
        let place = (call.options.priority, state.arrivals);
        let lane = &mut state.lanes[lane as usize];
        let is_first = lane.waiting(key) == 0;
        lane.push(key, graph, place, call);
        Ok((place, is_first))
    }

    /// What each thread does.
    fn work(&self, name: LaneName) {
        let mut settled = None;
        while let Some((batch, charge)) = self.next(name, settled.take()) {
            settled = Some((charge, timed(batch)));
        }
    }

    /// Waits for the next calls to run; none when the scheduler is gone and nothing waits.
    fn next(&self, name: LaneName, settled: Option<(Charge, Duration)>) -> Option<(Batch, Charge)> {
        let mut state = self.state.lock();
        if let Some((charge, elapsed)) = settled {
            state.lanes[name as usize].settle(charge, elapsed);
        }
        loop {
            let at_once = state.is_closed;
            let lane = &mut state.lanes[name as usize];
            match lane.take(Instant::now(), name.longest(), at_once) {
                Found::Work(batch, charge) => {
                    // Another thread looks at what is left, or waits in place of this one until it is due.
                    if lane.is_waiting() {
                        self.wake[name as usize].notify_one();
                    }
                    return Some((batch, charge));
                }
                Found::Nothing if state.is_closed => return None,
                Found::Nothing => self.wake[name as usize].wait(&mut state),
                Found::NotBefore(moment) => {
                    self.wake[name as usize].wait_until(&mut state, moment);
                }
            }
        }
    }
}

/// Whether a call may share its run with others.
pub(crate) fn is_stackable(graph: &Graph, options: &ComputeOptions) -> bool {
    graph.is_batchable() && options.batching.max_batch_size > 1 && !options.priority.is_background()
}

/// Runs a batch and says how long it took.
pub(super) fn timed(batch: Batch) -> Duration {
    let began = Instant::now();
    // The panics of engines are caught nearer to them; one that escapes must still not take the thread with it.
    if catch_unwind(AssertUnwindSafe(|| batch.run())).is_err() {
        tracing::error!("a run panicked outside of its engine");
    }
    began.elapsed()
}
