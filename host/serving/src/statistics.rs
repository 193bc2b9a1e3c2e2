//! What is counted, under the names that Triton's dashboards know. A version's handles are made once, so that
//! counting a request is a few atomic additions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use modelhost_core::{ErrorCode, ModelName, VersionNumber};
use parking_lot::Mutex;
use prometheus::core::{AtomicU64, GenericCounter, GenericCounterVec};
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use crate::servable::MemoryUsage;
use crate::totals::{Totals, VersionStatistics};

type Counter = GenericCounter<AtomicU64>;
type CounterVec = GenericCounterVec<AtomicU64>;

/// The families of all models.
pub(crate) struct Statistics {
    success: CounterVec,
    failure: CounterVec,
    inferences: CounterVec,
    executions: CounterVec,
    pending: IntGaugeVec,
    request_us: CounterVec,
    queue_us: CounterVec,
    compute_input_us: CounterVec,
    compute_infer_us: CounterVec,
    compute_output_us: CounterVec,
    load_seconds: prometheus::GaugeVec,
    /// Of every version that was shown since the start, and not deleted.
    totals: Mutex<HashMap<(ModelName, VersionNumber), Arc<Totals>>>,
    loads: CounterVec,
    is_loaded: IntGaugeVec,
    memory: IntGaugeVec,
}

/// How the time of one request was spent, and which executions count for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestTimes {
    /// From arrival to answer.
    pub request: Duration,
    /// Waiting for a place, and for the turn of a graph.
    pub queue: Duration,
    /// The first part of that: from arrival to the start of the plugin.
    pub admission: Duration,
    /// The plugin, before its first inference.
    pub compute_input: Duration,
    /// Inference.
    pub compute_infer: Duration,
    /// The plugin, after its first inference.
    pub compute_output: Duration,
    /// Executions of graphs: none where another request of the same batch counts for them.
    pub executions: u32,
    /// Rows of the request: a batch of several counts for each.
    pub rows: u64,
}

impl RequestTimes {
    /// Adds how the time of a part of the request was spent.
    pub(crate) fn add(&mut self, part: &RequestTimes) {
        self.queue += part.queue;
        self.compute_input += part.compute_input;
        self.compute_infer += part.compute_infer;
        self.compute_output += part.compute_output;
    }
}

/// The handles of one version.
pub struct ModelStatistics {
    labels: [String; 2],
    failure: CounterVec,
    success: Counter,
    inferences: Counter,
    executions: Counter,
    pending: IntGauge,
    request_us: Counter,
    queue_us: Counter,
    compute_input_us: Counter,
    compute_infer_us: Counter,
    compute_output_us: Counter,
    totals: Arc<Totals>,
    is_loaded: IntGauge,
    /// In the order of [`MEMORY_STATES`].
    memory: [IntGauge; MEMORY_STATES.len()],
}

/// The values of the label `state` of `modelhost_model_memory_bytes`.
const MEMORY_STATES: [&str; 5] = ["code", "graphs", "shared_graphs", "in_use", "peak_in_use"];

const LABELS: [&str; 2] = ["model", "version"];

impl Statistics {
    /// Registers all families.
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Statistics> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<CounterVec> {
            let family = CounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let pending = IntGaugeVec::new(
            Opts::new("nv_inference_pending_request_count", "Requests that wait or run"),
            &LABELS,
        )?;
        registry.register(Box::new(pending.clone()))?;
        let load_seconds = prometheus::GaugeVec::new(
            Opts::new("nv_model_load_duration_secs", "Time that loading the version took"),
            &LABELS,
        )?;
        registry.register(Box::new(load_seconds.clone()))?;
        let is_loaded = IntGaugeVec::new(
            Opts::new(
                "modelhost_model_loaded",
                "1 where the version is in memory, 0 where its next request loads it",
            ),
            &LABELS,
        )?;
        registry.register(Box::new(is_loaded.clone()))?;
        let memory = IntGaugeVec::new(
            Opts::new(
                "modelhost_model_memory_bytes",
                "Memory of the version: at rest of code and networks, in use of sandboxes and tensors",
            ),
            &["model", "version", "state"],
        )?;
        registry.register(Box::new(memory.clone()))?;
        Ok(Statistics {
            success: counter("nv_inference_request_success", "Requests that were answered", &LABELS)?,
            failure: counter(
                "nv_inference_request_failure",
                "Requests that were not answered",
                &["model", "version", "reason"],
            )?,
            inferences: counter("nv_inference_count", "Inferences, batched ones counted each", &LABELS)?,
            executions: counter("nv_inference_exec_count", "Executions, a batch counted once", &LABELS)?,
            loads: counter(
                "modelhost_model_loads",
                "Times that the version was brought into memory",
                &LABELS,
            )?,
            is_loaded,
            memory,
            pending,
            request_us: counter(
                "nv_inference_request_duration_us",
                "Time of requests from arrival to answer",
                &LABELS,
            )?,
            queue_us: counter("nv_inference_queue_duration_us", "Time that requests waited", &LABELS)?,
            compute_input_us: counter(
                "nv_inference_compute_input_duration_us",
                "Time in plugins before their first inference",
                &LABELS,
            )?,
            compute_infer_us: counter(
                "nv_inference_compute_infer_duration_us",
                "Time in inference",
                &LABELS,
            )?,
            compute_output_us: counter(
                "nv_inference_compute_output_duration_us",
                "Time in plugins after their first inference began, inference left out",
                &LABELS,
            )?,
            load_seconds,
            totals: Mutex::default(),
        })
    }

    /// The handles of a version.
    pub(crate) fn of(&self, model: &ModelName, version: VersionNumber) -> ModelStatistics {
        let labels = [model.to_string(), version.to_string()];
        let counter = |family: &CounterVec| family.with_label_values(&labels);
        ModelStatistics {
            success: counter(&self.success),
            inferences: counter(&self.inferences),
            executions: counter(&self.executions),
            pending: self.pending.with_label_values(&labels),
            request_us: counter(&self.request_us),
            queue_us: counter(&self.queue_us),
            compute_input_us: counter(&self.compute_input_us),
            compute_infer_us: counter(&self.compute_infer_us),
            compute_output_us: counter(&self.compute_output_us),
            is_loaded: self.is_loaded.with_label_values(&labels),
            memory: MEMORY_STATES
                .map(|state| self.memory.with_label_values(&[labels[0].as_str(), labels[1].as_str(), state])),
            failure: self.failure.clone(),
            totals: self.totals.lock().entry((model.clone(), version)).or_default().clone(),
            labels,
        }
    }

    /// Whether anything can be counted of the version: it was deployed or asked for since the start.
    pub(crate) fn is_counted(&self, model: &ModelName, version: VersionNumber) -> bool {
        self.totals.lock().contains_key(&(model.clone(), version))
    }

    /// What was counted of a version; nothing where it was neither deployed nor asked for. Its memory is for others to say.
    pub(crate) fn report(&self, model: &ModelName, version: VersionNumber) -> VersionStatistics {
        let totals = self.totals.lock().get(&(model.clone(), version)).cloned();
        let labels = [model.to_string(), version.to_string()];
        // Asking a family for a series makes it.
        let count =
            |family: &CounterVec| totals.as_ref().map_or(0, |_| family.with_label_values(&labels).get());
        VersionStatistics {
            name: model.clone(),
            version: version.to_string(),
            last_inference: totals.as_ref().map_or(0, |totals| totals.last_inference()),
            inference_count: count(&self.inferences),
            execution_count: count(&self.executions),
            inference_stats: totals.as_ref().map(|totals| totals.get()).unwrap_or_default(),
            response_stats: totals.as_ref().map(|totals| totals.responses()).unwrap_or_default(),
            batch_stats: totals.as_ref().map(|totals| totals.batches()).unwrap_or_default(),
            memory_usage: Vec::new(),
        }
    }

    /// Remembers how long loading a version took.
    pub(crate) fn record_load(&self, model: &ModelName, version: VersionNumber, time: Duration) {
        let labels = [model.to_string(), version.to_string()];
        self.load_seconds.with_label_values(&labels).set(time.as_secs_f64());
        self.loads.with_label_values(&labels).inc();
    }

    /// Drops the series of a deleted version: numbers are never used again.
    pub(crate) fn forget(&self, model: &ModelName, version: VersionNumber) {
        let labels = [model.to_string(), version.to_string()];
        let counters = [
            &self.success,
            &self.inferences,
            &self.executions,
            &self.request_us,
            &self.queue_us,
            &self.compute_input_us,
            &self.compute_infer_us,
            &self.compute_output_us,
            &self.loads,
        ];
        // A series that was never made is no failure.
        for family in counters {
            let _ = family.remove_label_values(&labels);
        }
        for reason in ["REJECTED", "CANCELED", "BACKEND", "OTHER"] {
            let _ = self.failure.remove_label_values(&[labels[0].as_str(), labels[1].as_str(), reason]);
        }
        for state in MEMORY_STATES {
            let _ = self.memory.remove_label_values(&[labels[0].as_str(), labels[1].as_str(), state]);
        }
        let _ = self.is_loaded.remove_label_values(&labels);
        let _ = self.pending.remove_label_values(&labels);
        let _ = self.load_seconds.remove_label_values(&labels);
        self.totals.lock().remove(&(model.clone(), version));
    }
}

impl ModelStatistics {
    /// Counts a request as pending until the guard is dropped.
    pub(crate) fn pending(&self) -> PendingGuard<'_> {
        self.pending.inc();
        PendingGuard(&self.pending)
    }

    pub(crate) fn record_success(&self, times: &RequestTimes) {
        self.success.inc();
        self.inferences.inc_by(times.rows);
        self.executions.inc_by(u64::from(times.executions));
        self.request_us.inc_by(microseconds(times.request));
        self.queue_us.inc_by(microseconds(times.queue));
        self.compute_input_us.inc_by(microseconds(times.compute_input));
        self.compute_infer_us.inc_by(microseconds(times.compute_infer));
        self.compute_output_us.inc_by(microseconds(times.compute_output));
        self.totals.add_success(times);
    }

    /// Shows what the version takes of memory now.
    pub(crate) fn record_memory(&self, usage: &MemoryUsage) {
        let MemoryUsage {
            loaded,
            code_bytes,
            graph_bytes,
            shared_graph_bytes,
            in_use_bytes,
            peak_in_use_bytes,
        } = *usage;
        self.is_loaded.set(loaded.into());
        let states = [code_bytes, graph_bytes, shared_graph_bytes, in_use_bytes, peak_in_use_bytes];
        for (gauge, bytes) in self.memory.iter().zip(states) {
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Counts a request that got no answer after this time; also one that failed before it came this far, such as a
    /// body that cannot be read.
    pub fn record_failure(&self, code: ErrorCode, time: Duration) {
        self.totals.add_failure(time);
        let [model, version] = &self.labels;
        self.failure.with_label_values(&[model.as_str(), version.as_str(), code.failure_reason()]).inc();
    }
}

/// Ends the counting of a pending request.
pub(crate) struct PendingGuard<'a>(&'a IntGauge);

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
