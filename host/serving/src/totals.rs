//! Counts and times of one version since the host started, in the form of Triton's statistics extension: what
//! `statistics` counts for Prometheus, to the nanosecond and with the moment of the last answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use modelhost_core::ModelName;
use serde::{Deserialize, Serialize};

use crate::statistics::RequestTimes;

/// What one version did. Serializes as Triton's `model_stats` do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionStatistics {
    /// The model.
    pub name: ModelName,
    /// The version's number.
    pub version: String,
    /// When the last request was answered, in milliseconds since 1970; 0 before the first.
    pub last_inference: u64,
    /// Inferences, those of a batch counted each.
    pub inference_count: u64,
    /// Executions, a batch counted once.
    pub execution_count: u64,
    /// Where the time went.
    pub inference_stats: InferenceStatistics,
    /// What the version holds in memory now; empty where it is not loaded.
    pub memory_usage: Vec<MemoryOfKind>,
}

/// The parts of the time of all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferenceStatistics {
    /// Requests that were answered, from arrival to answer.
    pub success: Timed,
    /// Requests that were not, from arrival to refusal or failure.
    pub fail: Timed,
    /// Waiting, of those that were answered; so are all that follow.
    pub queue: Timed,
    /// The plugin, before its first inference.
    pub compute_input: Timed,
    /// Inference.
    pub compute_infer: Timed,
    /// The plugin, after its first inference.
    pub compute_output: Timed,
    /// Answers from a cache: there is none.
    pub cache_hit: Timed,
    /// Likewise.
    pub cache_miss: Timed,
}

/// How often, and how long in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// How often.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

/// Memory of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryOfKind {
    /// Always `CPU`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Always 0.
    pub id: u32,
    /// All of it.
    pub byte_size: u64,
    /// The part that stays while no request runs: machine code and graphs. What models have in common, each counts.
    pub at_rest_byte_size: u64,
    /// The part that requests hold that run now.
    pub in_use_byte_size: u64,
}

/// Adds up. Each request touches each number once.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    success: Sum,
    fail: Sum,
    queue: Sum,
    compute_input: Sum,
    compute_infer: Sum,
    compute_output: Sum,
    last_inference: AtomicU64,
}

#[derive(Debug, Default)]
struct Sum {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Totals {
    /// A request that was answered.
    pub(crate) fn add_success(&self, times: &RequestTimes) {
        self.success.add(times.request);
        self.queue.add(times.queue);
        self.compute_input.add(times.compute_input);
        self.compute_infer.add(times.compute_infer);
        self.compute_output.add(times.compute_output);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_inference.fetch_max(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A request that was not answered after this time.
    pub(crate) fn add_failure(&self, time: Duration) {
        self.fail.add(time);
    }

    pub(crate) fn last_inference(&self) -> u64 {
        self.last_inference.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self) -> InferenceStatistics {
        InferenceStatistics {
            success: self.success.get(),
            fail: self.fail.get(),
            queue: self.queue.get(),
            compute_input: self.compute_input.get(),
            compute_infer: self.compute_infer.get(),
            compute_output: self.compute_output.get(),
            cache_hit: Timed::default(),
            cache_miss: Timed::default(),
        }
    }
}

impl Sum {
    fn add(&self, time: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Timed {
        Timed { count: self.count.load(Ordering::Relaxed), ns: self.ns.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_add_up() {
        let totals = Totals::default();
        let times = RequestTimes {
            request: Duration::from_nanos(100),
            queue: Duration::from_nanos(10),
            compute_infer: Duration::from_nanos(50),
            ..RequestTimes::default()
        };
        totals.add_success(&times);
        totals.add_success(&times);
        totals.add_failure(Duration::from_nanos(7));
        let statistics = totals.get();
        assert_eq!(statistics.success, Timed { count: 2, ns: 200 });
        assert_eq!(statistics.compute_infer, Timed { count: 2, ns: 100 });
        assert_eq!(statistics.fail, Timed { count: 1, ns: 7 });
        assert_eq!(statistics.compute_output, Timed { count: 2, ns: 0 });
        assert!(totals.last_inference() > 1_600_000_000_000);
    }
}
