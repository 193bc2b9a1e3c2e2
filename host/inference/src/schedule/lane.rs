//! Graphs that take turns on the threads of one lane. Knows weights and times, not what is run.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::call::Call;
use super::queue::{GraphQueue, Place};
use crate::graph::Graph;

/// A graph, for as long as somebody holds it.
pub(crate) type Key = usize;

pub(crate) fn key(graph: &Arc<Graph>) -> Key {
    Arc::as_ptr(graph).addr()
}

/// The graphs of one lane.
#[derive(Default)]
pub(crate) struct Lane {
    turns: HashMap<Key, Turns>,
    /// The virtual time at which the last run began.
    clock: u128,
    running: usize,
}

/// One graph among others.
struct Turns {
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
    pub(crate) fn push(&mut self, graph: &Arc<Graph>, place: Place, call: Call) {
        let clock = self.clock;
        let turns = self.turns.entry(key(graph)).or_insert_with(|| Turns {
            queue: GraphQueue::new(graph.clone()),
            used: clock,
            running: 0,
        });
        if turns.queue.is_empty() {
            // Nobody saves turns while nothing of it waits.
            turns.used = turns.used.max(clock);
        }
        turns.queue.push(place, call);
    }

    /// Takes back a call that did not run yet.
    pub(crate) fn remove(&mut self, key: Key, place: Place) -> Option<Call> {
        let call = self.turns.get_mut(&key)?.queue.remove(place);
        self.forget_idle();
        call
    }

    /// Calls of a graph that wait.
    pub(crate) fn waiting(&self, key: Key) -> usize {
        self.turns.get(&key).map_or(0, |turns| turns.queue.len())
    }

    /// Calls of the graph whose turn it is. `longest` bounds what is put together; `at_once` ignores that calls may wait
    /// for others.
    pub(crate) fn take(&mut self, now: Instant, longest: Option<Duration>, at_once: bool) -> Found {
        let due = |turns: &Turns| turns.queue.due().map(|due| if at_once { now } else { due });
        let is_due = |turns: &&mut Turns| due(turns).is_some_and(|due| due <= now);
        let next = self.turns.values_mut().filter(is_due).min_by_key(|turns| turns.used);
        let Some(turns) = next else {
            let soonest = self.turns.values().filter_map(due).min();
            return soonest.map_or(Found::Nothing, Found::NotBefore);
        };
        self.clock = self.clock.max(turns.used);
        let Some(batch) = turns.queue.take(now, longest) else { return Found::Nothing };
        let weight = batch.first().map_or(NonZeroU32::MIN, |call| call.options.weight);
        // Charged at once with what it will probably take: else one graph could take all threads before it pays.
        let charged = batch.graph().run_times().at_most(batch.input_bytes()).unwrap_or_default();
        turns.used += virtual_time(charged, weight);
        turns.running += 1;
        self.running += 1;
        let charge = Charge { key: key(batch.graph()), weight, charged };
        Found::Work(batch, charge)
    }

    /// Settles the charge of a run that ended.
    pub(crate) fn settle(&mut self, charge: Charge, elapsed: Duration) {
        self.running -= 1;
        if let Some(turns) = self.turns.get_mut(&charge.key) {
            turns.running -= 1;
            let charged = virtual_time(charge.charged, charge.weight);
            turns.used = turns.used.saturating_sub(charged) + virtual_time(elapsed, charge.weight);
        }
        self.forget_idle();
    }

    /// Whether a call waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.turns.values().any(|turns| !turns.queue.is_empty())
    }

    /// A graph that neither waits nor runs is kept only as long as it used more than its share.
    fn forget_idle(&mut self) {
        let clock = self.clock;
        let is_idle = |turns: &Turns| turns.queue.is_empty() && turns.running == 0;
        if self.running == 0 && self.turns.values().all(is_idle) {
            self.turns.clear();
            self.clock = 0;
        } else {
            self.turns.retain(|_, turns| !is_idle(turns) || turns.used > clock);
        }
    }
}

/// Time in units that a weight divides without losing anything that matters.
fn virtual_time(time: Duration, weight: NonZeroU32) -> u128 {
    (time.as_nanos() << 32) / u128::from(weight.get())
}
