//! A loaded graph together with what is known about it: its digest, its tensors, how long it takes and what was counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use modelhost_core::{Digest, EngineName, GraphDescription, TensorDescription};

use crate::engine::ExecutableGraph;
use crate::known_times::{Extents, KnownTimes};
use crate::run_times::RunTimes;

/// A loaded graph, shared by everything that runs it.
pub struct Graph {
    digest: Digest,
    engine: EngineName,
    executable: Arc<dyn ExecutableGraph>,
    run_times: RunTimes,
    known_times: KnownTimes,
    /// One more owner for each plugin that carries the graph.
    holders: Arc<()>,
    counters: Counters,
    /// Whether rows of several calls may share a run.
    is_batchable: bool,
    time_follows_from_extents: bool,
}

/// What was counted for a graph since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphStatistics {
    /// Calls whose inputs fitted.
    pub requests: u64,
    /// Runs of the engine: one for all calls that were put together.
    pub executions: u64,
    /// Rows of all executions together.
    pub rows: u64,
    /// Calls that were refused because too many waited.
    pub rejected: u64,
}

/// The same, while it is counted.
#[derive(Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    executions: AtomicU64,
    rows: AtomicU64,
    rejected: AtomicU64,
    /// Calls that wait or run at this moment.
    present: AtomicUsize,
}

impl Counters {
    pub(crate) fn record_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn record_execution(&self, rows: u64) {
        self.executions.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn record_rejection(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether somebody waits for the graph or runs it.
    pub(crate) fn is_busy(&self) -> bool {
        self.present.load(Ordering::Relaxed) > 0
    }

    /// Counts a call as present until the guard is dropped.
    pub(crate) fn enter(&self) -> Present<'_> {
        self.present.fetch_add(1, Ordering::Relaxed);
        Present(&self.present)
    }
}

/// A call that waits or runs.
pub(crate) struct Present<'a>(&'a AtomicUsize);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts as one who keeps a graph, beside those who only run it.
pub struct GraphHold(#[expect(dead_code, reason = "held to be counted")] Arc<()>);

impl Graph {
    /// A graph of these bytes' digest, loaded by this engine. Graphs that should be shared come from
    /// [`crate::GraphCache`].
    pub fn new(digest: Digest, engine: EngineName, executable: Arc<dyn ExecutableGraph>) -> Graph {
        let is_batchable = executable.rows_are_independent()
            && has_free_rows(executable.inputs())
            && has_free_rows(executable.outputs());
        let time_follows_from_extents = executable.time_follows_from_extents();
        Graph {
            digest,
            engine,
            executable,
            run_times: RunTimes::default(),
            known_times: KnownTimes::default(),
            holders: Arc::default(),
            counters: Counters::default(),
            is_batchable,
            time_follows_from_extents,
        }
    }

    /// Counts one more who keeps the graph, for as long as the answer lives.
    pub fn hold(&self) -> GraphHold {
        GraphHold(self.holders.clone())
    }

    /// How many keep it.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.holders) - 1
    }

    /// The engine that runs it.
    pub fn engine(&self) -> EngineName {
        self.engine
    }

    /// Bytes that it keeps in memory while nothing runs.
    pub fn resident_bytes(&self) -> u64 {
        self.executable.resident_bytes()
    }

    /// The digest of the file.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The inputs, in the order of the file; -1 for each extent that is free.
    pub fn inputs(&self) -> &[TensorDescription] {
        self.executable.inputs()
    }

    /// The outputs, in the order of the file; -1 for each extent that is not known before a run.
    pub fn outputs(&self) -> &[TensorDescription] {
        self.executable.outputs()
    }

    /// Inputs and outputs under the name by which a plugin knows the graph.
    pub fn description(&self, name: &str) -> GraphDescription {
        GraphDescription {
            name: name.to_owned(),
            inputs: self.inputs().to_vec(),
            outputs: self.outputs().to_vec(),
        }
    }

    /// Whether calls of this graph may be put together: its first dimensions are free and its rows independent.
    pub fn is_batchable(&self) -> bool {
        self.is_batchable
    }

    /// What was counted since it was loaded.
    pub fn statistics(&self) -> GraphStatistics {
        let Counters { requests, executions, rows, rejected, .. } = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GraphStatistics {
            requests: read(requests),
            executions: read(executions),
            rows: read(rows),
            rejected: read(rejected),
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn executable(&self) -> &dyn ExecutableGraph {
        &*self.executable
    }

    pub(crate) fn run_times(&self) -> &RunTimes {
        &self.run_times
    }

    pub(crate) fn known_times(&self) -> &KnownTimes {
        &self.known_times
    }

    /// What a run for inputs of these extents is sure to take, more or less. None where that is not known, or depends on
    /// more than extents.
    pub(crate) fn sure_time(&self, extents: Extents) -> Option<Duration> {
        if self.time_follows_from_extents { self.known_times.expected(extents) } else { None }
    }
}

/// Whether there are tensors, and the first extent of each is free.
fn has_free_rows(tensors: &[TensorDescription]) -> bool {
    !tensors.is_empty() && tensors.iter().all(|tensor| tensor.shape.first() == Some(&-1))
}

impl fmt::Debug for Graph {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Graph")
            .field("digest", &self.digest)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}
