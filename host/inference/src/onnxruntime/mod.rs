//! The engine that is loaded where the machine has it: ONNX Runtime, a library in C++ that runs ONNX networks.
//!
//! `discovery` finds the shared library, `library` opens it once per process, `allocator` gives it memory and counts
//! what each run takes, `model` makes the file that it gets to see, `session` is a loaded network, `watchdog` stops runs
//! that are late, `tensors` converts values, `native` wraps the C interface.
//!
//! What bounds a run: its memory, by the allocator, which counts every tensor and every buffer that the library asks it
//! for; its time, by the watchdog, at the next operator. Not counted: what kernels take from the C++ heap for
//! themselves (lists of indices, packed matrices of some products), which is of the order of their tensors.

mod allocator;
pub mod discovery;
mod library;
mod message;
mod model;
mod native;
mod session;
mod tensors;
mod watchdog;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use modelhost_core::EngineName;

use crate::engine::{Engine, ExecutableGraph, LoadError};
use crate::tract::TractEngine;
use library::Library;
use session::Session;

/// The library recurses over nested graphs. Reserved address space, touched only as far as it is used.
const LOAD_STACK_BYTES: usize = 64 << 20;

/// The engine ONNX Runtime.
pub struct OnnxRuntimeEngine {
    library: Arc<Library>,
}

impl OnnxRuntimeEngine {
    /// Opens the shared library in this file. A process has one: another file is refused once one is open. With more
    /// than one thread for each run, all sessions share one pool of that many threads.
    ///
    /// # Errors
    /// Why the library cannot be used, in one sentence.
    pub fn open(file: &Path, intra_op_threads: usize) -> Result<OnnxRuntimeEngine, String> {
        Library::open(file, intra_op_threads).map(|library| OnnxRuntimeEngine { library })
    }

    /// The file of the library.
    pub fn file(&self) -> &PathBuf {
        self.library.file()
    }

    fn load_here(&self, onnx: &[u8]) -> Result<Arc<dyn ExecutableGraph>, LoadError> {
        let model = model::Model::new(onnx)?;
        // The library does not say which values an operator looks at.
        let proven = TractEngine::new().prove(onnx);
        Ok(Arc::new(Session::load(self.library.clone(), model, proven)?))
    }
}

impl Engine for OnnxRuntimeEngine {
    fn name(&self) -> EngineName {
        EngineName::OnnxRuntime
    }

    fn version(&self) -> String {
        self.library.version().to_owned()
    }

    fn library(&self) -> Option<&Path> {
        Some(self.library.file())
    }

    fn load(&self, onnx: &[u8]) -> Result<Arc<dyn ExecutableGraph>, LoadError> {
        thread::scope(|scope| {
            let loading = thread::Builder::new()
                .name("graph-load".into())
                .stack_size(LOAD_STACK_BYTES)
                .spawn_scoped(scope, || self.load_here(onnx))
                .map_err(LoadError::Read)?;
            let panicked =
                |_| LoadError::Unsupported { reason: "the engine onnxruntime failed unexpectedly".into() };
            loading.join().unwrap_or_else(|panic| Err(panicked(panic)))
        })
    }
}
