//! The calls that wait for one graph: in which order they go, and which of them go together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::call::Call;
use crate::graph::Graph;
use crate::options::Priority;
use crate::stacking;

/// The place of a call: the higher priority first, then the earlier arrival.
pub(crate) type Place = (Priority, u64);

/// The calls that wait for one graph.
pub(crate) struct GraphQueue {
    graph: Arc<Graph>,
    waiting: BTreeMap<Place, Call>,
}

/// A shared run has to be cheaper than the runs that it replaces by at least a tenth; where it is not, each of them would
/// only wait for the others.
const WORTH_PERCENT: u32 = 90;

/// A shared run that takes half as long as the calls apart, or of which that is not known yet, may take so many times as
/// long as the lane's other runs. Others gain nothing from it, and while it runs, threads beside it may be idle.
const LONGER_FOR_A_BARGAIN: u32 = 4;

impl GraphQueue {
    pub(crate) fn new(graph: Arc<Graph>) -> GraphQueue {
        GraphQueue { graph, waiting: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the call that goes first came, as a number.
    pub(crate) fn arrival(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((_, arrival), _)| *arrival)
    }

    pub(crate) fn push(&mut self, place: Place, call: Call) {
        self.waiting.insert(place, call);
    }

    pub(crate) fn remove(&mut self, place: Place) -> Option<Call> {
        self.waiting.remove(&place)
    }

    /// When a thread should take from this queue; none if nothing waits.
    pub(crate) fn due(&self) -> Option<Instant> {
        let first = self.waiting.values().next()?;
        if self.fills_a_run(first) {
            return Some(first.arrived);
        }
        // All but the first are looked at only where calls wait for others on purpose.
        let mut due = first.due();
        if due > first.arrived {
            due = self.waiting.values().map(Call::due).fold(due, Instant::min);
        }
        Some(due)
    }

    /// Whether waiting longer brings this call no more rows.
    fn fills_a_run(&self, first: &Call) -> bool {
        let wanted = u64::from(first.options.batching.max_batch_size);
        let Some(mut rows) = first.rows else { return true };
        let mut others =
            self.waiting.values().skip(1).filter(|other| stacking::fit(&first.inputs, &other.inputs));
        while rows < wanted {
            match others.next() {
                Some(other) => rows += other.rows.unwrap_or(0),
                None => return false,
            }
        }
        true
    }

    /// Takes the first call, and with it those that may share its run: in their order, as many rows as the policies of
    /// all of them allow, and no longer than `longest`, where that is known.
    ///
    /// The largest run that is worth it: two calls may gain nothing together where sixteen gain much.
    pub(crate) fn take(&mut self, now: Instant, longest: Option<Duration>) -> Option<Batch> {
        let (_, first) = self.waiting.pop_first()?;
        let mut run = Growing::new(&self.graph, &first, now, longest);
        let mut places = Vec::new();
        let mut worthwhile = 0;
        if run.rows < run.max_rows {
            for (place, call) in &self.waiting {
                if stacking::fit(&first.inputs, &call.inputs) && run.takes(call) {
                    places.push(*place);
                    worthwhile = if run.is_worth_it() { places.len() } else { worthwhile };
                }
                if run.rows >= run.max_rows {
                    break;
                }
            }
        }
        places.truncate(worthwhile);
        let riders = places.iter().filter_map(|place| self.waiting.remove(place));
        let calls: Vec<Call> = std::iter::once(first).chain(riders).collect();
        Some(Batch::new(self.graph.clone(), calls, now))
    }
}

/// A run that is being put together.
struct Growing<'a> {
    graph: &'a Graph,
    now: Instant,
    longest: Option<Duration>,
    rows: u64,
    max_rows: u64,
    bytes: usize,
    /// What the calls would take one after the other, where that is known.
    apart: Option<Duration>,
    /// The first moment at which one of the callers would be too late.
    deadline: Instant,
}

impl Growing<'_> {
    fn new<'a>(graph: &'a Graph, first: &Call, now: Instant, longest: Option<Duration>) -> Growing<'a> {
        let max_rows = u64::from(first.options.batching.max_batch_size);
        Growing {
            graph,
            now,
            longest,
            rows: first.rows.unwrap_or(u64::MAX),
            max_rows,
            bytes: first.input_bytes,
            apart: graph.run_times().estimate(first.input_bytes),
            deadline: first.options.limits.deadline,
        }
    }

    /// Lets a call join, if its policy allows it and nobody is too late for it.
    fn takes(&mut self, call: &Call) -> bool {
        let Some(rows) = call.rows else { return false };
        let rows = self.rows.saturating_add(rows);
        let max_rows = self.max_rows.min(u64::from(call.options.batching.max_batch_size));
        let bytes = self.bytes.saturating_add(call.input_bytes);
        let deadline = self.deadline.min(call.options.limits.deadline);
        let times = self.graph.run_times();
        let left = deadline.saturating_duration_since(self.now);
        if rows > max_rows || times.at_most(bytes).is_some_and(|expected| expected > left) {
            return false;
        }
        let alone = times.estimate(call.input_bytes);
        let apart = self.apart.zip(alone).map(|(before, alone)| before + alone);
        *self = Growing { rows, max_rows, bytes, apart, deadline, ..*self };
        true
    }

    /// Whether it serves the callers, as far as that is known, and does not keep its thread from others for too long.
    fn is_worth_it(&self) -> bool {
        let times = self.graph.run_times();
        let known = times.estimate(self.bytes).zip(self.apart);
        if known.is_some_and(|(together, apart)| together > apart * WORTH_PERCENT / 100) {
            times.doubt(self.bytes);
            return false;
        }
        let (Some(expected), Some(longest)) = (times.at_most(self.bytes), self.longest) else { return true };
        let is_bargain = known.is_none_or(|(together, apart)| together * 2 <= apart);
        expected <= if is_bargain { longest * LONGER_FOR_A_BARGAIN } else { longest }
    }
}
