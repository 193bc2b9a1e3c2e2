//! How the calls of a plugin share the machine with others, as an operator configured it. It may change while calls
//! run: each keeps what it began with.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use modelhost_inference::BatchingPolicy;

/// The scheduling of a plugin's calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// The share of the machine beside other plugins.
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
