//! How the calls of a model share the machine with others, as an operator configured it. It may change while calls
//! run: each keeps what it began with.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwap;
use modelhost_inference::BatchingPolicy;

use crate::predictions::Grants;
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

/// What all plugins of one model have in common: they are scheduled together and may reach the same things, and a
/// change reaches all of them at once.
#[derive(Clone)]
pub struct Share(Arc<Shared>);

struct Shared {
    scheduling: ArcSwap<Scheduling>,
    grants: ArcSwap<Grants>,
    turns: Arc<TurnShare>,
    /// On the threads of the background.
    background_turns: Arc<TurnShare>,
}

impl Share {
    pub(crate) fn new(
        scheduling: Scheduling,
        turns: Arc<TurnShare>,
        background_turns: Arc<TurnShare>,
    ) -> Share {
        let scheduling = ArcSwap::from_pointee(scheduling);
        Share(Arc::new(Shared { scheduling, grants: ArcSwap::default(), turns, background_turns }))
    }

    /// Changes how calls that begin from now on are scheduled.
    pub fn set(&self, scheduling: Scheduling) {
        self.0.turns.set_weight(scheduling.weight);
        self.0.background_turns.set_weight(scheduling.weight);
        self.0.scheduling.store(Arc::new(scheduling));
    }

    /// Changes which prediction tables calls that begin from now on may read; none to begin with.
    pub fn grant(&self, tables: Grants) {
        self.0.grants.store(Arc::new(tables));
    }

    /// Which prediction tables a call that begins now may read.
    pub(crate) fn grants(&self) -> Arc<Grants> {
        self.0.grants.load_full()
    }

    /// How a call that begins now is scheduled.
    pub(crate) fn scheduling(&self) -> Arc<Scheduling> {
        self.0.scheduling.load_full()
    }

    /// Whose turns its calls take.
    pub(crate) fn turns(&self) -> &Arc<TurnShare> {
        &self.0.turns
    }

    /// The same, of those that nobody waits for.
    pub(crate) fn background_turns(&self) -> &Arc<TurnShare> {
        &self.0.background_turns
    }
}
