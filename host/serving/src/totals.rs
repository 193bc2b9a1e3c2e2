//! Counts and times of one version since the host started, in the form of Triton's statistics extension: what
//! `statistics` counts for Prometheus, to the nanosecond and with the moment of the last answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use modelhost_core::ModelName;
use parking_lot::RwLock;
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
    /// The same by the place of a response among those to its request: `0`, where there is one response to each.
    pub response_stats: BTreeMap<String, ResponseStatistics>,
    /// The same by the rows of requests, the smallest first.
    pub batch_stats: Vec<BatchStatistics>,
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

/// Where the time of responses went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseStatistics {
    /// Inference.
    pub compute_infer: Timed,
    /// The plugin, after its first inference.
    pub compute_output: Timed,
    /// Responses with outputs, from the request's arrival.
    pub success: Timed,
    /// Responses that are an error.
    pub fail: Timed,
    /// Responses without outputs: there are none.
    pub empty_response: Timed,
    /// Responses that nobody waited for any more: they are counted as failures.
    pub cancel: Timed,
}

/// Where the time of requests of one size went, of those that were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchStatistics {
    /// The rows of each of these requests. What the host put together with other requests counts for each by itself.
    pub batch_size: u64,
    /// The plugin, before its first inference.
    pub compute_input: Timed,
    /// Inference.
    pub compute_infer: Timed,
    /// The plugin, after its first inference.
    pub compute_output: Timed,
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
    /// By the rows of a request.
    batches: RwLock<BTreeMap<u64, Arc<OfBatch>>>,
}

#[derive(Debug, Default)]
struct OfBatch {
    compute_input: Sum,
    compute_infer: Sum,
    compute_output: Sum,
}

/// Requests of more different sizes than this are not told apart: clients choose the sizes.
const MAX_BATCH_SIZES: usize = 256;

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
        if let Some(batch) = self.batch(times.rows) {
            batch.compute_input.add(times.compute_input);
            batch.compute_infer.add(times.compute_infer);
            batch.compute_output.add(times.compute_output);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_inference.fetch_max(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Requests of this size; none where there are too many sizes already.
    fn batch(&self, rows: u64) -> Option<Arc<OfBatch>> {
        if let Some(batch) = self.batches.read().get(&rows) {
            return Some(batch.clone());
        }
        let mut batches = self.batches.write();
        if batches.len() >= MAX_BATCH_SIZES && !batches.contains_key(&rows) {
            return None;
        }
        Some(batches.entry(rows).or_default().clone())
    }

    /// A request that was not answered after this time.
    pub(crate) fn add_failure(&self, time: Duration) {
        self.fail.add(time);
    }

    pub(crate) fn last_inference(&self) -> u64 {
        self.last_inference.load(Ordering::Relaxed)
    }

    /// By the place of a response: there is one to each request. Nothing before the first.
    pub(crate) fn responses(&self) -> BTreeMap<String, ResponseStatistics> {
        let first = ResponseStatistics {
            compute_infer: self.compute_infer.get(),
            compute_output: self.compute_output.get(),
            success: self.success.get(),
            fail: self.fail.get(),
            ..ResponseStatistics::default()
        };
        let is_any = first.success.count + first.fail.count > 0;
        is_any.then(|| ("0".to_owned(), first)).into_iter().collect()
    }

    /// By the rows of requests.
    pub(crate) fn batches(&self) -> Vec<BatchStatistics> {
        let batches = self.batches.read();
        let of_size = |(batch_size, batch): (&u64, &Arc<OfBatch>)| BatchStatistics {
            batch_size: *batch_size,
            compute_input: batch.compute_input.get(),
            compute_infer: batch.compute_infer.get(),
            compute_output: batch.compute_output.get(),
        };
        batches.iter().map(of_size).collect()
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
        let responses = totals.responses();
        assert_eq!(responses["0"].success, Timed { count: 2, ns: 200 });
        assert_eq!(responses["0"].fail, Timed { count: 1, ns: 7 });
        let batches = totals.batches();
        assert_eq!((batches.len(), batches[0].batch_size), (1, 0));
        assert_eq!(batches[0].compute_infer, Timed { count: 2, ns: 100 });
        for rows in 0..1_000 {
            totals.batch(rows);
        }
        assert_eq!(totals.batches().len(), MAX_BATCH_SIZES);
        let statistics = totals.get();
        assert_eq!(statistics.success, Timed { count: 2, ns: 200 });
        assert_eq!(statistics.compute_infer, Timed { count: 2, ns: 100 });
        assert_eq!(statistics.fail, Timed { count: 1, ns: 7 });
        assert_eq!(statistics.compute_output, Timed { count: 2, ns: 0 });
        assert!(totals.last_inference() > 1_600_000_000_000);
    }
}
