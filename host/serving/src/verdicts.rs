//! Which engines take a graph: what was found out under the limits of the compiling process, when a version was uploaded
//! or later, for an engine that was not there or had another version then. An engine is given no graph in this process
//! that it did not take there.

use std::collections::HashMap;

use modelhost_core::{Digest, EngineCandidate, EngineName};
use modelhost_inference::Engines;
use modelhost_registry::GraphArtifact;
use modelhost_runtime::ExaminedGraph;
use parking_lot::Mutex;

/// Whether an engine takes a graph, and why not.
pub(crate) type Verdict = Result<(), String>;

/// What was found out since this host was started.
#[derive(Default)]
pub(crate) struct Verdicts {
    found: Mutex<HashMap<(Digest, EngineName), Verdict>>,
}

impl Verdicts {
    /// Whether an engine of this host takes a graph. None: nobody has tried.
    pub(crate) fn of(&self, graph: &GraphArtifact, engine: EngineName, engines: &Engines) -> Option<Verdict> {
        let there = match engines.get(engine) {
            Ok(there) => there,
            Err(reason) => return Some(Err(reason.to_owned())),
        };
        let candidates = graph.engine_choice.iter().flat_map(|choice| &choice.candidates);
        let is_this = |candidate: &&EngineCandidate| {
            candidate.engine == engine
                && candidate.version.as_ref().is_none_or(|known| *known == there.version())
        };
        match { candidates }.find(is_this) {
            Some(candidate) => Some(candidate.error.clone().map_or(Ok(()), Err)),
            // What was accepted before there was a choice, or by an earlier host, was accepted by the built-in engine.
            None if engine == EngineName::Tract => Some(Ok(())),
            None => self.found.lock().get(&(graph.digest, engine)).cloned(),
        }
    }

    /// Remembers what an examination found.
    pub(crate) fn learn(&self, graphs: &[ExaminedGraph]) {
        let mut found = self.found.lock();
        for graph in graphs {
            for verdict in &graph.engines {
                found.insert((graph.digest, verdict.engine), verdict.outcome());
            }
        }
    }

    /// Remembers that an examination of these graphs failed as a whole.
    pub(crate) fn learn_failure(&self, graphs: &[GraphArtifact], engine: EngineName, reason: &str) {
        let mut found = self.found.lock();
        found.extend(graphs.iter().map(|graph| ((graph.digest, engine), Err(reason.to_owned()))));
    }
}
