//! A loaded graph together with what is known about it: its digest, its tensors and how long it takes.

use std::fmt;
use std::sync::Arc;

use modelhost_core::{Digest, EngineName, GraphDescription, TensorDescription};

use crate::engine::ExecutableGraph;
use crate::run_times::RunTimes;

/// A loaded graph, shared by everything that runs it.
pub struct Graph {
    digest: Digest,
    engine: EngineName,
    executable: Arc<dyn ExecutableGraph>,
    run_times: RunTimes,
    /// One more owner for each plugin that carries the graph.
    holders: Arc<()>,
}

/// Counts as one who keeps a graph, beside those who only run it.
pub struct GraphHold(#[expect(dead_code, reason = "held to be counted")] Arc<()>);

impl Graph {
    /// A graph of these bytes' digest, loaded by this engine. Graphs that should be shared come from
    /// [`crate::GraphCache`].
    pub fn new(digest: Digest, engine: EngineName, executable: Arc<dyn ExecutableGraph>) -> Graph {
        Graph { digest, engine, executable, run_times: RunTimes::default(), holders: Arc::default() }
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

    pub(crate) fn executable(&self) -> &dyn ExecutableGraph {
        &*self.executable
    }

    pub(crate) fn run_times(&self) -> &RunTimes {
        &self.run_times
    }
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
