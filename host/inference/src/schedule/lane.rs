//! Graphs that take turns on the threads of one lane. Knows weights and times, not what is run.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::call::Call;
use super::queue::{GraphQueue, Place};
use crate::caller::CallerThreads;
use crate::graph::Graph;

/// What waits together: calls of one graph, and where they run in the turns of their callers, of one model. For as long
/// as somebody holds both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    graph: usize,
    turns: usize,
}

impl Key {
    pub(crate) fn of(graph: &Arc<Graph>, turns: Option<&Arc<dyn CallerThreads>>) -> Key {
        Key { graph: Arc::as_ptr(graph).addr(), turns: turns.map_or(0, |turns| Arc::as_ptr(turns).addr()) }
    }

    /// Whether both are of one graph.
    pub(crate) fn has_graph_of(self, other: Key) -> bool {
        self.graph == other.graph
    }
}

/// What a run of a graph is charged that was never run.
const UNKNOWN: Duration = Duration::from_millis(10);

/// The graphs of one lane.
#[derive(Default)]
pub(crate) struct Lane {
    accounts: HashMap<Key, Account>,
    /// The virtual time at which the last run began.
    clock: u128,
    running: usize,
}

/// One graph among others.
struct Account {
    queue: GraphQueue,
    /// The time that it used, divided by its weight; never less than the clock when it comes back.
    used: u128,
    running: usize,
}

/// What a thread finds when it looks for work.
pub(crate) enum Found {
    /// Calls to run.
    Work(Batch, Charge),
    /// Nothing before this moment.
    NotBefore(Instant),
    /// Nothing.
    Nothing,
}

/// What a run was charged when it began, to be settled at its end.
#[derive(Clone, Copy)]
pub(crate) struct Charge {
    key: Key,
    weight: NonZeroU32,
    charged: Duration,
}

impl Lane {
    pub(crate) fn push(&mut self, key: Key, graph: &Arc<Graph>, place: Place, call: Call) {
        let clock = self.clock;
        let account = self.accounts.entry(key).or_insert_with(|| Account {
            queue: GraphQueue::new(graph.clone()),
            used: clock,
            running: 0,
        });
        if account.queue.is_empty() {
            // Nobody saves turns while nothing of it waits.
            account.used = account.used.max(clock);
        }
        account.queue.push(place, call);
    }

    /// Takes back a call that did not run yet.
    pub(crate) fn remove(&mut self, key: Key, place: Place) -> Option<Call> {
        let call = self.accounts.get_mut(&key)?.queue.remove(place);
        self.forget_idle();
        call
    }

    /// Calls that wait.
    pub(crate) fn waiting(&self, key: Key) -> usize {
        self.accounts.get(&key).map_or(0, |account| account.queue.len())
    }

    /// Calls of a graph that wait, wherever they will run.
    pub(crate) fn waiting_for_graph_of(&self, key: Key) -> usize {
        let same = self.accounts.iter().filter(|(other, _)| other.has_graph_of(key));
        same.map(|(_, account)| account.queue.len()).sum()
    }

    /// Calls of the graph whose turn it is. `longest` bounds what is put together; `at_once` ignores that calls may wait
    /// for others.
    pub(crate) fn take(&mut self, now: Instant, longest: Option<Duration>, at_once: bool) -> Found {
        let due = |account: &Account| account.queue.due().map(|due| if at_once { now } else { due });
        let is_due = |(_, account): &(&Key, &Account)| due(account).is_some_and(|due| due <= now);
        let next = self
            .accounts
            .iter()
            .filter(is_due)
            .min_by_key(|(_, account)| (account.used, account.queue.arrival()));
        let Some((&key, _)) = next else {
            let soonest = self.accounts.values().filter_map(due).min();
            return soonest.map_or(Found::Nothing, Found::NotBefore);
        };
        self.take_of(key, now, longest).map_or(Found::Nothing, |(batch, charge)| Found::Work(batch, charge))
    }

    /// Calls of this graph, whether they are due or not.
    pub(crate) fn take_of(
        &mut self,
        key: Key,
        now: Instant,
        longest: Option<Duration>,
    ) -> Option<(Batch, Charge)> {
        let account = self.accounts.get_mut(&key)?;
        let batch = account.queue.take(now, longest)?;
        self.clock = self.clock.max(account.used);
        let weight = batch.first().map_or(NonZeroU32::MIN, |call| call.options.weight);
        // Charged at once with what it will probably take: else one graph could take all threads before it pays.
        let charged = batch.graph().run_times().at_most(batch.input_bytes()).unwrap_or(UNKNOWN);
        account.used += virtual_time(charged, weight);
        account.running += 1;
        self.running += 1;
        Some((batch, Charge { key, weight, charged }))
    }

    /// Settles the charge of a run that ended.
    pub(crate) fn settle(&mut self, charge: Charge, elapsed: Duration) {
        self.running -= 1;
        if let Some(account) = self.accounts.get_mut(&charge.key) {
            account.running -= 1;
            let charged = virtual_time(charge.charged, charge.weight);
            account.used = account.used.saturating_sub(charged) + virtual_time(elapsed, charge.weight);
        }
        self.forget_idle();
    }

    /// Whether a call waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.accounts.values().any(|account| !account.queue.is_empty())
    }

    /// A graph that neither waits nor runs is kept only as long as it used more than its share.
    fn forget_idle(&mut self) {
        let clock = self.clock;
        let is_idle = |account: &Account| account.queue.is_empty() && account.running == 0;
        if self.running == 0 && self.accounts.values().all(is_idle) {
            self.accounts.clear();
            self.clock = 0;
        } else {
            self.accounts.retain(|_, account| !is_idle(account) || account.used > clock);
        }
    }
}

/// Time in units that a weight divides without losing anything that matters.
fn virtual_time(time: Duration, weight: NonZeroU32) -> u128 {
    (time.as_nanos() << 32) / u128::from(weight.get())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use modelhost_core::{Digest, EngineName, Tensor, TensorDescription};
    use tokio::sync::oneshot;

    use super::*;
    use crate::engine::{ExecutableGraph, RunError, RunLimits};
    use crate::options::ComputeOptions;
    use crate::run::Admitted;

    struct Nothing;

    impl ExecutableGraph for Nothing {
        fn inputs(&self) -> &[TensorDescription] {
            &[]
        }

        fn outputs(&self) -> &[TensorDescription] {
            &[]
        }

        fn resident_bytes(&self) -> u64 {
            0
        }

        fn rows_are_independent(&self) -> bool {
            false
        }

        fn time_follows_from_extents(&self) -> bool {
            true
        }

        fn run(&self, inputs: Vec<Tensor>, _limits: &RunLimits) -> Result<Vec<Tensor>, RunError> {
            Ok(inputs)
        }
    }

    /// A graph of which every call takes this many milliseconds.
    fn graph(name: &str, milliseconds: u64) -> Arc<Graph> {
        let graph = Graph::new(Digest::of(name.as_bytes()), EngineName::Tract, Arc::new(Nothing));
        graph.run_times().record(0, Duration::from_millis(milliseconds));
        Arc::new(graph)
    }

    fn push(lane: &mut Lane, graph: &Arc<Graph>, weight: u32, arrival: u64) {
        let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), 1);
        let weight = NonZeroU32::new(weight).unwrap();
        let options = ComputeOptions { weight, ..ComputeOptions::alone(limits) };
        let place = (options.priority, arrival);
        let call = Call {
            inputs: Vec::new(),
            input_bytes: 0,
            admitted: Admitted::admit(graph, &[], &options.limits).unwrap(),
            rows: None,
            options,
            arrived: Instant::now(),
            answer: oneshot::channel().0,
            membership: Arc::default(),
        };
        lane.push(Key::of(graph, None), graph, place, call);
    }

    /// Which graphs the next runs are of, on so many threads that all run at once.
    fn turns(lane: &mut Lane, runs: usize, threads: usize, graphs: &[&Arc<Graph>]) -> Vec<usize> {
        let mut order = Vec::new();
        for _ in 0..runs / threads {
            let mut running = Vec::new();
            for _ in 0..threads {
                let Found::Work(batch, charge) = lane.take(Instant::now(), None, false) else {
                    panic!("nothing")
                };
                order.push(graphs.iter().position(|graph| Arc::ptr_eq(graph, batch.graph())).unwrap());
                running.push((charge, batch.graph().run_times().estimate(0).unwrap()));
            }
            running.into_iter().for_each(|(charge, elapsed)| lane.settle(charge, elapsed));
        }
        order
    }

    #[test]
    fn graphs_take_turns_by_the_time_they_use_and_their_weight() {
        for threads in [1, 2, 4] {
            let (light, heavy, slow) = (graph("light", 10), graph("heavy", 10), graph("slow", 50));
            let mut lane = Lane::default();
            for arrival in 0..1_000 {
                push(&mut lane, &light, 1, arrival);
                push(&mut lane, &heavy, 3, arrival);
                push(&mut lane, &slow, 1, arrival);
            }
            let order = turns(&mut lane, 260, threads, &[&light, &heavy, &slow]);
            let runs = |graph| order.iter().filter(|run| **run == graph).count();
            // The light one and the slow one use the same time, the heavy one three times as much.
            assert!((55..=66).contains(&runs(0)), "{threads}: {}", runs(0));
            assert!((170..=195).contains(&runs(1)), "{threads}: {}", runs(1));
            assert!((10..=15).contains(&runs(2)), "{threads}: {}", runs(2));
        }
    }

    #[test]
    fn who_comes_later_neither_catches_up_nor_waits_for_what_was() {
        let (old, new) = (graph("old", 10), graph("new", 10));
        let mut lane = Lane::default();
        (0..200).for_each(|arrival| push(&mut lane, &old, 1, arrival));
        turns(&mut lane, 100, 1, &[&old]);
        (200..300).for_each(|arrival| push(&mut lane, &new, 1, arrival));
        let order = turns(&mut lane, 20, 1, &[&old, &new]);
        assert!((9..=11).contains(&order.iter().sum::<usize>()), "{order:?}");
    }

    #[test]
    fn equals_go_in_the_order_of_arrival() {
        let graphs: Vec<Arc<Graph>> = (0..8).map(|index| graph(&index.to_string(), 1)).collect();
        let mut lane = Lane::default();
        graphs.iter().zip(0..).for_each(|(graph, arrival)| push(&mut lane, graph, 1, arrival));
        let views: Vec<&Arc<Graph>> = graphs.iter().collect();
        assert_eq!(turns(&mut lane, 8, 8, &views), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(lane.accounts.is_empty());
    }

    #[test]
    fn a_call_that_is_taken_back_leaves_nothing() {
        let graph = graph("g", 1);
        let mut lane = Lane::default();
        let key = Key::of(&graph, None);
        push(&mut lane, &graph, 1, 7);
        assert_eq!(lane.waiting(key), 1);
        let place = (crate::options::Priority::default(), 7);
        assert!(lane.remove(key, place).is_some());
        assert!(lane.remove(key, place).is_none());
        assert!(!lane.is_waiting() && lane.accounts.is_empty());
        assert!(matches!(lane.take(Instant::now(), None, false), Found::Nothing));
    }
}
