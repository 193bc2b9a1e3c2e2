//! What a call computed, kept so that the same can be computed again on another engine. Only calls that are made for
//! that are recorded; no request of a client is.

use modelhost_core::{Digest, Tensor};
use parking_lot::Mutex;

use crate::sandbox::NamedTensors;

/// More says nothing new about an engine.
const MAX_COMPUTATIONS: usize = 64;
/// The tensors are shared with the call, but outlive it.
const MAX_BYTES: usize = 64 << 20;

/// One run of a graph.
#[derive(Clone, Debug)]
pub struct Computation {
    /// The graph.
    pub graph: Digest,
    /// What it was given.
    pub inputs: NamedTensors,
}

/// Takes down the computations of calls, up to a limit.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Recording>);

#[derive(Debug, Default)]
struct Recording {
    computations: Vec<Computation>,
    bytes: usize,
}

impl Recorder {
    /// Takes down a computation, if there is room.
    pub(crate) fn record(&self, graph: &Digest, inputs: &[(String, Tensor)]) {
        let bytes: usize = inputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
        let mut recording = self.0.lock();
        let has_room = recording.computations.len() < MAX_COMPUTATIONS
            && recording.bytes.saturating_add(bytes) <= MAX_BYTES;
        if has_room {
            recording.bytes += bytes;
            recording.computations.push(Computation { graph: *graph, inputs: inputs.to_vec() });
        }
    }

    /// What was taken down since the last time.
    pub fn take(&self) -> Vec<Computation> {
        std::mem::take(&mut *self.0.lock()).computations
    }
}
