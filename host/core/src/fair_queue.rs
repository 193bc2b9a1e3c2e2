//! Who runs next where more want to than can: weighted fair queueing. It knows no clock, no thread and no lock: whoever
//! owns it says what arrives, what ends and what that cost.
//!
//! This is start-time fair queueing (Goyal, Vin, Cheng 1996). Each flow has a virtual time, the service that it received
//! divided by its weight, and the next free slot goes to the flow whose virtual time is least. A flow that was idle
//! begins at the virtual time of those that are busy: it gets its share from now on, and nothing for the past. What a
//! turn costs is known only when it ends, so a flow is charged its own average when its turn begins, and the
//! difference when it ends.
//!
//! Within a flow the lowest number of priority goes first, and then who came first.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// A queue of `T`s, each of which belongs to a flow. Costs are in any unit, always the same.
#[derive(Debug)]
pub struct FairQueue<T> {
    slots: usize,
    running: usize,
    virtual_time: u128,
    flows: Vec<Option<Flow<T>>>,
    /// The flows that have somebody waiting who may run as soon as a slot is free, by their virtual time.
    ready: BTreeSet<(u128, usize)>,
    arrivals: u64,
}

/// Names a flow of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId(usize);

/// Names one who waits.
#[derive(Debug)]
pub struct Ticket {
    flow: FlowId,
    key: (u32, u64),
}

/// A slot that is taken. It is given back by [`FairQueue::finish`].
#[derive(Debug)]
#[must_use]
pub struct Turn {
    flow: FlowId,
    charged: u64,
}

/// How a flow stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Turns that have begun and not ended.
    pub running: usize,
    /// Who waits.
    pub waiting: usize,
    /// A moving average of what a turn costs; 0 before the first one ended.
    pub average_cost: u64,
}

#[derive(Debug)]
struct Flow<T> {
    weight: NonZeroU32,
    /// Turns at one moment.
    limit: usize,
    running: usize,
    virtual_time: u128,
    average_cost: u64,
    /// Goes when it is empty.
    is_retired: bool,
    waiting: BTreeMap<(u32, u64), T>,
}

/// Virtual time is kept in fractions of a unit of cost, so that large weights do not round small costs away.
const FRACTIONS: u128 = 1 << 16;

/// A new turn moves the average by an eighth of the difference.
const SMOOTHING: u64 = 8;

impl<T> FairQueue<T> {
    /// A queue for this many turns at one moment, at least one.
    pub fn new(slots: usize) -> FairQueue<T> {
        FairQueue {
            slots: slots.max(1),
            running: 0,
            virtual_time: 0,
            flows: Vec::new(),
            ready: BTreeSet::new(),
            arrivals: 0,
        }
    }

    /// Adds a flow, of which at most `limit` run at one moment.
    pub fn add_flow(&mut self, weight: NonZeroU32, limit: usize) -> FlowId {
        let flow = Flow {
            weight,
            limit: limit.max(1),
            running: 0,
            virtual_time: self.virtual_time,
            average_cost: 0,
            is_retired: false,
            waiting: BTreeMap::new(),
        };
        match self.flows.iter().position(Option::is_none) {
            Some(free) => {
                self.flows[free] = Some(flow);
                FlowId(free)
            }
            None => {
                self.flows.push(Some(flow));
                FlowId(self.flows.len() - 1)
            }
        }
    }

    /// Removes a flow, as soon as nobody of it runs or waits.
    pub fn remove_flow(&mut self, id: FlowId) {
        self.change(id, |flow| flow.is_retired = true);
    }

    /// Changes a flow's weight and limit, for turns that begin from now on.
    pub fn set_flow(&mut self, id: FlowId, weight: NonZeroU32, limit: usize) {
        self.change(id, |flow| {
            flow.weight = weight;
            flow.limit = limit.max(1);
        });
    }

    /// How a flow stands.
    pub fn standing(&self, id: FlowId) -> Standing {
        self.flow(id).map_or_else(Standing::default, |flow| Standing {
            running: flow.running,
            waiting: flow.waiting.len(),
            average_cost: flow.average_cost,
        })
    }

    /// How many of a flow go before one who arrives with this priority.
    pub fn ahead(&self, id: FlowId, priority: u32) -> usize {
        self.flow(id).map_or(0, |flow| flow.waiting.range(..=(priority, u64::MAX)).count())
    }

    /// Whether one who arrives would not have to wait: a slot is free, and nobody is to go before.
    pub fn can_start(&self, id: FlowId) -> bool {
        let is_free = self.running < self.slots && self.ready.is_empty();
        is_free && self.flow(id).is_some_and(|flow| flow.running < flow.limit && flow.waiting.is_empty())
    }

    /// Begins a turn at once, if that can be.
    pub fn start(&mut self, id: FlowId) -> Option<Turn> {
        if !self.can_start(id) {
            return None;
        }
        let mut virtual_time = self.virtual_time;
        self.change(id, |flow| {
            virtual_time = flow.virtual_time.max(virtual_time);
            flow.virtual_time = virtual_time;
        });
        self.virtual_time = virtual_time;
        Some(self.begin(id))
    }

    /// Puts one at its place in its flow. Who may run is told by [`FairQueue::grant`].
    pub fn push(&mut self, id: FlowId, priority: u32, item: T) -> Ticket {
        let virtual_time = self.virtual_time;
        self.arrivals += 1;
        let key = (priority, self.arrivals);
        self.change(id, |flow| {
            if flow.waiting.is_empty() {
                flow.virtual_time = flow.virtual_time.max(virtual_time);
            }
            flow.waiting.insert(key, item);
        });
        Ticket { flow: id, key }
    }

    /// Takes one back who waits; none if their turn has begun.
    pub fn cancel(&mut self, ticket: &Ticket) -> Option<T> {
        let mut taken = None;
        self.change(ticket.flow, |flow| taken = flow.waiting.remove(&ticket.key));
        taken
    }

    /// Begins the next turn, if a slot is free and somebody may have it.
    pub fn grant(&mut self) -> Option<(Turn, T)> {
        if self.running >= self.slots {
            return None;
        }
        let (virtual_time, index) = *self.ready.first()?;
        self.virtual_time = self.virtual_time.max(virtual_time);
        let id = FlowId(index);
        // Begun before it is taken out: a flow that nobody runs or waits in may be gone.
        let turn = self.begin(id);
        let mut first = None;
        self.change(id, |flow| first = flow.waiting.pop_first());
        let (_, item) = first?;
        Some((turn, item))
    }

    /// Ends a turn, which cost this much.
    pub fn finish(&mut self, turn: Turn, cost: u64) {
        self.running = self.running.saturating_sub(1);
        self.change(turn.flow, |flow| {
            flow.running = flow.running.saturating_sub(1);
            let (charged, cost_weighed) = (flow.weigh(turn.charged), flow.weigh(cost));
            flow.virtual_time = (flow.virtual_time + cost_weighed).saturating_sub(charged);
            flow.average_cost = match flow.average_cost {
                0 => cost,
                average => average - average / SMOOTHING + cost / SMOOTHING,
            };
        });
        self.forgive_what_nobody_wanted(turn.flow);
    }

    /// Ends a turn in which nothing was done, and which says nothing about what turns cost.
    pub fn forgo(&mut self, turn: Turn) {
        self.running = self.running.saturating_sub(1);
        self.change(turn.flow, |flow| {
            flow.running = flow.running.saturating_sub(1);
            flow.virtual_time = flow.virtual_time.saturating_sub(flow.weigh(turn.charged));
        });
        self.forgive_what_nobody_wanted(turn.flow);
    }

    /// While nobody waits, a flow takes nothing from others: it need not pay for that when they come.
    fn forgive_what_nobody_wanted(&mut self, id: FlowId) {
        if self.ready.is_empty() {
            let virtual_time = self.flow(id).map_or(0, |flow| flow.virtual_time);
            self.virtual_time = self.virtual_time.max(virtual_time);
        }
    }

    fn begin(&mut self, id: FlowId) -> Turn {
        self.running += 1;
        let mut charged = 0;
        self.change(id, |flow| {
            flow.running += 1;
            // Never nothing, so that flows without a history take turns as well.
            charged = flow.average_cost.max(1);
            flow.virtual_time += flow.weigh(charged);
        });
        Turn { flow: id, charged }
    }

    fn flow(&self, id: FlowId) -> Option<&Flow<T>> {
        self.flows.get(id.0)?.as_ref()
    }

    /// Changes a flow, and where it stands among those that are ready.
    fn change(&mut self, id: FlowId, change: impl FnOnce(&mut Flow<T>)) {
        let Some(flow) = self.flows.get_mut(id.0).and_then(Option::as_mut) else { return };
        let before = flow.is_ready().then_some(flow.virtual_time);
        change(flow);
        let after = flow.is_ready().then_some(flow.virtual_time);
        if before != after {
            before.map(|time| self.ready.remove(&(time, id.0)));
            after.map(|time| self.ready.insert((time, id.0)));
        }
        if flow.is_retired && flow.running == 0 && flow.waiting.is_empty() {
            self.flows[id.0] = None;
        }
    }
}

impl<T> Flow<T> {
    fn is_ready(&self) -> bool {
        !self.waiting.is_empty() && self.running < self.limit
    }

    fn weigh(&self, cost: u64) -> u128 {
        u128::from(cost) * FRACTIONS / u128::from(self.weight.get())
    }
}

#[cfg(test)]
#[path = "fair_queue_tests.rs"]
mod tests;
