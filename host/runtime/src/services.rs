//! What all calls share: the limits, the inference engines and whether networks may be loaded from bytes.

use std::sync::{Arc, OnceLock};

use modelhost_inference::{BatchingPolicy, Executor, GraphCache};

use crate::memory_budget::MemoryBudget;
use crate::predictions::PredictionTables;
use crate::settings::CallLimits;

/// Shared by all calls of a host.
pub struct Services {
    /// Limits of one call.
    pub limits: CallLimits,
    /// What all calls may hold together.
    pub memory: Arc<MemoryBudget>,
    /// Runs networks.
    pub executor: Executor,
    /// All networks that are in use.
    pub graph_cache: Arc<GraphCache>,
    /// How calls of a graph are put together, where nothing else is configured.
    pub batching: BatchingPolicy,
    /// Whether a plugin may load a network from bytes.
    pub allow_graph_load: bool,
    /// Where predictions are looked up, once it is known.
    pub predictions: OnceLock<Arc<dyn PredictionTables>>,
}
