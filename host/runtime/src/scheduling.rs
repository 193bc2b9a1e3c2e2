//! How the calls of a model share the machine with others, as an operator configured it. It may change while calls
//! run: each keeps what it began with.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;
use modelhost_inference::BatchingPolicy;

use crate::threads::TurnShare;

/// The scheduling of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// The share of the machine beside other models.
    pub weight: NonZeroU32,
    /// How calls of a graph are put together.
    pub batching: BatchingPolicy,
    /// The same for graphs, by name, that have a policy of their own.
    pub graphs: BTreeMap<String, BatchingPolicy>,
}

impl Scheduling {
    /// The policy for the graph of this name.
    pub fn batching_of(&self, graph: &str) -> BatchingPolicy {
        self.graphs.get(graph).copied().unwrap_or(self.batching)
    }
}

/// What all plugins of one model have in common: they are scheduled together, and a change reaches all of them at
/// once.
#[derive(Clone)]
pub struct Share(Arc<Shared>);

struct Shared {
    scheduling: ArcSwap<Scheduling>,
    turns: TurnShare,
    /// Calls that wait or run.
    under_way: AtomicUsize,
}

impl Share {
    pub(crate) fn new(scheduling: Scheduling, turns: TurnShare) -> Share {
        Share(Arc::new(Shared {
            scheduling: ArcSwap::from_pointee(scheduling),
            turns,
            under_way: AtomicUsize::new(0),
        }))
    }

    /// Changes how calls that begin from now on are scheduled.
    pub fn set(&self, scheduling: Scheduling) {
        self.0.turns.set_weight(scheduling.weight);
        self.0.scheduling.store(Arc::new(scheduling));
    }

    /// How a call that begins now is scheduled.
    pub(crate) fn scheduling(&self) -> Arc<Scheduling> {
        self.0.scheduling.load_full()
    }

    /// Counts a call as under way until the guard is dropped.
    pub(crate) fn enter(&self) -> UnderWay<'_> {
        self.0.under_way.fetch_add(1, Relaxed);
        UnderWay(&self.0.under_way)
    }

    /// Whether a call that asks is not the only one under way.
    pub(crate) fn has_company(&self) -> bool {
        self.0.under_way.load(Relaxed) > 1
    }

    /// Whose turns its calls take.
    pub(crate) fn turns(&self) -> &TurnShare {
        &self.0.turns
    }
}

/// A call that is under way.
pub(crate) struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
