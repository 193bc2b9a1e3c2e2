//! The engine that is built in: tract, a library in Rust that runs ONNX networks on the processor.
//!
//! Loading goes forward through these steps, each in a module of its own: the file is decoded (`crate::onnx`),
//! `operators` refuses what is not known to run correctly, `load` analyses and optimises, `network` is the result, `run` runs it within
//! limits, `tensors` converts values.

mod buffer;
mod classical;
mod conditions;
mod constants;
mod elements;
mod faster;
mod independence;
mod load;
mod memory;
mod network;
mod numeric;
mod operators;
mod run;
mod symbols;
mod tensors;
mod texts;

use std::sync::Arc;
use std::{panic, thread};

use modelhost_core::EngineName;

use crate::engine::{Engine, ExecutableGraph, LoadError};
use crate::onnx;
use crate::run::panic_message;

pub use buffer::TensorBuffer;
pub use operators::{CLASSICAL_OPERATORS, STANDARD_OPERATORS};

/// The engine tract. Each run uses one thread: with many requests at once that gives the most throughput.
#[derive(Clone, Debug)]
pub struct TractEngine {
    max_constant_bytes: u64,
    check_operators: bool,
}

/// As pinned in the workspace's manifest; the library does not say it itself.
const VERSION: &str = "0.23.9";

/// tract recurses over nested subgraphs and over expressions of symbolic dimensions. Reserved address space, touched
/// only as far as it is used.
const LOAD_STACK_BYTES: usize = 64 << 20;

/// See [`TractEngine::max_constant_bytes`].
const DEFAULT_MAX_CONSTANT_BYTES: u64 = 1 << 30;

impl Default for TractEngine {
    fn default() -> TractEngine {
        TractEngine { max_constant_bytes: DEFAULT_MAX_CONSTANT_BYTES, check_operators: true }
    }
}

impl TractEngine {
    /// The engine with its default limits.
    pub fn new() -> TractEngine {
        TractEngine::default()
    }

    /// The most bytes that one tensor may take that is computed while a graph is loaded. Default 1 GiB. A few bytes of
    /// ONNX can ask for a constant of any size; a larger value lets an author take that much memory at each load.
    #[must_use]
    pub fn max_constant_bytes(self, bytes: u64) -> TractEngine {
        TractEngine { max_constant_bytes: bytes, ..self }
    }

    /// Loads graphs whatever operators they have. Only for finding out which operators are right: the results of
    /// others may be wrong.
    #[must_use]
    pub fn with_any_operator(self) -> TractEngine {
        TractEngine { check_operators: false, ..self }
    }

    /// Checks the operators of an ONNX file, with those of nested graphs, without loading it.
    ///
    /// # Errors
    /// [`LoadError::Operators`] with every operator that is refused, as [`load`](Engine::load) would give it;
    /// [`LoadError::Invalid`] where the bytes are no ONNX file.
    pub fn check_operators(&self, onnx: &[u8]) -> Result<(), LoadError> {
        operators::check(&onnx::decode(onnx)?)
    }

    /// The operators of an ONNX file that are refused, those of nested graphs included: `Name` or `domain.Name`,
    /// followed by the reason in brackets where other uses of that operator are accepted. Sorted, each once.
    ///
    /// # Errors
    /// [`LoadError`] where the bytes are no usable ONNX file.
    pub fn refused_operators(&self, onnx: &[u8]) -> Result<Vec<String>, LoadError> {
        Ok(operators::refused(&onnx::decode(onnx)?).into_iter().collect())
    }

    /// What can be proven of this network, whichever engine runs it. What cannot is false.
    ///
    /// Neither depends on whether this engine's results are right. Independence depends only on which values an operator
    /// looks at: so it is also proven for networks with operators that this engine refuses, as far as it is known which
    /// values those look at.
    pub fn prove(&self, onnx: &[u8]) -> Proven {
        let prove = || {
            let model = onnx::decode(onnx)?;
            let proven = load::prove(&model, self.max_constant_bytes);
            let (is_known, is_plain) =
                (operators::are_known_for_independence(&model), operators::check(&model).is_ok());
            Ok(Proven {
                rows_are_independent: is_known && proven.rows_are_independent,
                time_follows_from_extents: is_plain && proven.time_follows_from_extents,
            })
        };
        on_a_large_stack(prove).unwrap_or_default()
    }

    fn load_here(&self, onnx: &[u8]) -> Result<Arc<dyn ExecutableGraph>, LoadError> {
        let model = onnx::decode(onnx)?;
        if self.check_operators {
            operators::check(&model)?;
        }
        Ok(Arc::new(load::load(&model, self.max_constant_bytes)?))
    }
}

/// What is proven of a network; see [`ExecutableGraph`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proven {
    /// [`ExecutableGraph::rows_are_independent`].
    pub rows_are_independent: bool,
    /// [`ExecutableGraph::time_follows_from_extents`].
    pub time_follows_from_extents: bool,
}

impl Engine for TractEngine {
    fn name(&self) -> EngineName {
        EngineName::Tract
    }

    fn version(&self) -> String {
        VERSION.to_owned()
    }

    fn load(&self, onnx: &[u8]) -> Result<Arc<dyn ExecutableGraph>, LoadError> {
        on_a_large_stack(|| self.load_here(onnx))
    }
}

/// Does what recurses over the bytes of somebody else, and catches its panics.
fn on_a_large_stack<T: Send>(work: impl FnOnce() -> Result<T, LoadError> + Send) -> Result<T, LoadError> {
    thread::scope(|scope| {
        let working = thread::Builder::new()
            .name("graph-load".into())
            .stack_size(LOAD_STACK_BYTES)
            .spawn_scoped(scope, || panic::catch_unwind(panic::AssertUnwindSafe(work)))
            .map_err(LoadError::Read)?;
        // A panic is caught inside the thread; should one still come out, it has the same meaning.
        working.join().unwrap_or_else(Err).unwrap_or_else(|panic| Err(panicked(&*panic)))
    })
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> LoadError {
    tracing::warn!("tract panicked while it loaded a graph: {}", panic_message(panic));
    LoadError::Unsupported { reason: "the engine tract failed unexpectedly while it loaded the graph".into() }
}
