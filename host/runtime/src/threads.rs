//! The threads that run plugins, and whose turn it is on them. Knows futures, not what they do.
//!
//! There are about as many threads as cores, and there may be many more calls that want to go on. Each turn of a call
//! lasts until it waits for something (inference, a timer) or the clock of the sandbox interrupts it, a millisecond or
//! so. The next turn goes to the model that had the least time on these threads for its weight ([`FairQueue`]). So a
//! call of a quiet model waits for one turn of each busy one, and not for all of their calls: with an executor that
//! takes turns in the order in which calls became ready, 64 calls of one model would be 64 turns.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{io, thread};

use async_task::{FallibleTask, Runnable};
use modelhost_core::{FairQueue, FlowId, Turn};
use modelhost_inference::Company;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Builder, Handle, Runtime};

/// The threads. They end when this is dropped.
pub(crate) struct PluginThreads {
    turns: Arc<Turns>,
    /// Drives timers, which wake the calls that wait for them. Runs no call.
    timers: Option<Runtime>,
}

/// Who wants to go on.
struct Turns {
    /// Calls that were given to the threads and have not ended.
    under_way: AtomicUsize,
    state: Mutex<State>,
    /// Told once for each one who does.
    ready: Condvar,
}

struct State {
    queue: FairQueue<Runnable>,
    is_stopped: bool,
}

/// Calls that have their turns together, by weight beside others.
pub(crate) struct TurnShare {
    turns: Arc<Turns>,
    flow: FlowId,
    /// Those of the threads' calls that are of this share.
    under_way: AtomicUsize,
}

impl PluginThreads {
    /// Starts this many threads, named so; each calls `begin` first.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub(crate) fn start(
        name: &str,
        threads: usize,
        begin: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<PluginThreads> {
        let timers =
            Builder::new_multi_thread().worker_threads(1).thread_name("plugin-timer").enable_all().build()?;
        let state = State { queue: FairQueue::new(threads), is_stopped: false };
        let turns = Arc::new(Turns {
            under_way: AtomicUsize::new(0),
            state: Mutex::new(state),
            ready: Condvar::new(),
        });
        // Before anything can fail, so that what was started ends.
        let started = PluginThreads { turns: turns.clone(), timers: Some(timers) };
        for number in 0..threads {
            let (turns, context, begin) = (turns.clone(), started.handle().clone(), begin.clone());
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
                let _context = context.enter();
                begin();
                turns.run();
            })?;
        }
        Ok(started)
    }

    /// A share for calls that belong together.
    pub(crate) fn share(&self, weight: NonZeroU32) -> Arc<TurnShare> {
        let flow = self.turns.state.lock().queue.add_flow(weight, usize::MAX);
        Arc::new(TurnShare { turns: self.turns.clone(), flow, under_way: AtomicUsize::new(0) })
    }

    /// Runs a future on the threads. It ends without a result when it panics; it is dropped when the task is.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        share: &Arc<TurnShare>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> FallibleTask<T> {
        let under_way = UnderWay::new(share);
        let counted = async move {
            let _under_way = under_way;
            future.await
        };
        let (turns, flow) = (self.turns.clone(), share.flow);
        let (runnable, task) = async_task::spawn(counted, move |runnable| turns.push(flow, runnable));
        runnable.schedule();
        task.fallible()
    }

    fn handle(&self) -> &Handle {
        self.timers.as_ref().expect("only taken by drop: bug").handle()
    }
}

impl Drop for PluginThreads {
    fn drop(&mut self) {
        self.turns.state.lock().is_stopped = true;
        self.turns.ready.notify_all();
        // A runtime must not wait for its threads where it is dropped inside of another one.
        if let Some(timers) = self.timers.take() {
            timers.shutdown_background();
        }
    }
}

impl TurnShare {
    /// Changes the weight, for turns that begin from now on.
    pub(crate) fn set_weight(&self, weight: NonZeroU32) {
        self.turns.state.lock().queue.set_flow(self.flow, weight, usize::MAX);
    }
}

impl modelhost_inference::CallerThreads for TurnShare {
    fn company(&self) -> Company {
        // The caller is one of each.
        if self.under_way.load(Ordering::Relaxed) > 1 {
            Company::SameModel
        } else if self.turns.under_way.load(Ordering::Relaxed) > 1 {
            Company::Others
        } else {
            Company::Nobody
        }
    }

    fn after_those_ready(&self, work: Box<dyn FnOnce() + Send>) {
        let (turns, flow) = (self.turns.clone(), self.flow);
        let (runnable, task) =
            async_task::spawn(async move { work() }, move |runnable| turns.push(flow, runnable));
        runnable.schedule();
        task.detach();
    }
}

/// A call that is under way, until this is dropped.
struct UnderWay(Arc<TurnShare>);

impl UnderWay {
    fn new(share: &Arc<TurnShare>) -> UnderWay {
        share.under_way.fetch_add(1, Ordering::Relaxed);
        share.turns.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(share.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.turns.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for TurnShare {
    fn drop(&mut self) {
        self.turns.state.lock().queue.remove_flow(self.flow);
    }
}

impl Turns {
    fn push(&self, flow: FlowId, runnable: Runnable) {
        self.state.lock().queue.push(flow, 0, runnable);
        self.ready.notify_one();
    }

    fn run(&self) {
        let mut ended = None;
        while let Some((turn, runnable)) = self.next(ended.take()) {
            let began = Instant::now();
            if catch_unwind(AssertUnwindSafe(|| runnable.run())).is_err() {
                tracing::error!("a call panicked on a plugin thread");
            }
            ended = Some((turn, u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)));
        }
    }

    /// Ends a turn, and waits for the next. None when there will be no more.
    fn next(&self, ended: Option<(Turn, u64)>) -> Option<(Turn, Runnable)> {
        let mut state = self.state.lock();
        if let Some((turn, cost)) = ended {
            state.queue.finish(turn, cost);
        }
        loop {
            if state.is_stopped {
                return None;
            }
            match state.queue.grant() {
                Some(granted) => return Some(granted),
                None => self.ready.wait(&mut state),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use super::*;

    fn weight(weight: u32) -> NonZeroU32 {
        NonZeroU32::new(weight).unwrap()
    }

    /// A call that takes one short turn after the other, as one does that the clock interrupts.
    async fn turns(count: Arc<AtomicU64>) {
        loop {
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(100) {
                std::hint::spin_loop();
            }
            count.fetch_add(1, Ordering::Relaxed);
            let mut has_yielded = false;
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut has_yielded, true) {
                    return std::task::Poll::Ready(());
                }
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
        }
    }

    #[test]
    fn time_goes_by_weight_and_not_by_the_number_of_calls() {
        let threads = PluginThreads::start("plugin", 1, || {}).unwrap();
        let (many, few) = (threads.share(weight(1)), threads.share(weight(3)));
        let counts = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let mut calls: Vec<_> = (0..64).map(|_| threads.spawn(&many, turns(counts[0].clone()))).collect();
        calls.push(threads.spawn(&few, turns(counts[1].clone())));
        thread::sleep(Duration::from_millis(500));
        let [many, few] = counts.map(|count| count.load(Ordering::Relaxed) as f64);
        let ratio = few / many;
        assert!((2.0..4.5).contains(&ratio), "{few} turns beside {many}");
    }

    #[test]
    fn a_panic_is_the_end_of_one_call() {
        let threads = PluginThreads::start("plugin", 1, || {}).unwrap();
        let share = threads.share(weight(1));
        let failed = threads.spawn(&share, async { panic!("as asked for") });
        let timers = Builder::new_current_thread().build().unwrap();
        assert_eq!(timers.block_on(failed), None::<()>);
        assert_eq!(timers.block_on(threads.spawn(&share, async { 7 })), Some(7));
    }

    #[test]
    fn a_call_that_nobody_waits_for_is_dropped() {
        let threads = PluginThreads::start("plugin", 1, || {}).unwrap();
        let share = threads.share(weight(1));
        let held = Arc::new(());
        let holding = held.clone();
        let call = threads.spawn(&share, async move {
            tokio::time::sleep(Duration::from_secs(600)).await;
            drop(holding);
        });
        thread::sleep(Duration::from_millis(20));
        drop(call);
        let began = Instant::now();
        while Arc::strong_count(&held) > 1 {
            assert!(began.elapsed() < Duration::from_secs(10), "the call is still there");
            thread::sleep(Duration::from_millis(1));
        }
    }
}
