//! How one call of a graph is to be run. Knows nothing about what runs it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::caller::CallerThreads;
use crate::engine::RunLimits;

/// How one call of a graph is to be run.
#[derive(Clone, Debug)]
pub struct ComputeOptions {
    /// When it has to end, and how much memory it may take.
    pub limits: RunLimits,
    /// How it may be put together with others.
    pub batching: BatchingPolicy,
    /// Which calls go first.
    pub priority: Priority,
    /// The share of the threads beside calls of other graphs.
    pub weight: NonZeroU32,
    /// The threads that the caller is on, where it takes turns with others.
    pub threads: Option<Arc<dyn CallerThreads>>,
}

impl ComputeOptions {
    /// A call that runs alone, with the default priority and weight.
    pub fn alone(limits: RunLimits) -> ComputeOptions {
        let batching =
            BatchingPolicy { max_batch_size: 1, max_queue_delay: Duration::ZERO, max_queue_size: usize::MAX };
        ComputeOptions {
            limits,
            batching,
            priority: Priority::default(),
            weight: NonZeroU32::MIN,
            threads: None,
        }
    }
}

/// How calls that wait for one graph are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchingPolicy {
    /// Rows of one execution; 1 runs every call alone.
    pub max_batch_size: u32,
    /// How long a call waits for others to join it. Zero: it takes those that wait already.
    pub max_queue_delay: Duration,
    /// Calls that may wait for the graph.
    pub max_queue_size: usize,
}

/// Which calls go first: 1 is the highest. Calls of one priority go in the order of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(pub u32);

impl Priority {
    /// Of work for which nobody waits, such as a batch job: it runs on threads of its own that give way to all others,
    /// is never put together with other calls, and says nothing about how long those take.
    pub const BACKGROUND: Priority = Priority(u32::MAX);

    /// The priority that a client asked for, none of which is that of the background.
    pub fn of_request(asked: Option<u32>) -> Priority {
        asked.map_or_else(Priority::default, |number| Priority(number.min(u32::MAX - 1)))
    }

    /// Whether it is that of the background.
    pub fn is_background(self) -> bool {
        self == Priority::BACKGROUND
    }
}

impl Default for Priority {
    /// That of a request that says nothing.
    fn default() -> Priority {
        Priority(2)
    }
}
