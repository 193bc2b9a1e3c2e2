//! A thread with a large stack for what recurses over the bytes of somebody else: nested graphs, and expressions of
//! symbolic dimensions.

use std::{panic, thread};

use modelhost_core::EngineName;

use crate::engine::LoadError;
use crate::run::panic_message;

/// Reserved address space, touched only as far as it is used.
const STACK_BYTES: usize = 64 << 20;

/// Does a part of the engine's loading there, and catches its panics.
///
/// # Errors
/// Those of the work; [`LoadError::Unsupported`] where it panics.
pub(crate) fn on_a_large_stack<T: Send>(
    engine: EngineName,
    work: impl FnOnce() -> Result<T, LoadError> + Send,
) -> Result<T, LoadError> {
    thread::scope(|scope| {
        let working = thread::Builder::new()
            .name("graph-load".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || panic::catch_unwind(panic::AssertUnwindSafe(work)))
            .map_err(LoadError::Read)?;
        // A panic is caught inside the thread; should one still come out, it has the same meaning.
        working.join().unwrap_or_else(Err).unwrap_or_else(|panic| {
            tracing::warn!("{engine} panicked while it loaded a graph: {}", panic_message(&*panic));
            Err(LoadError::Unsupported {
                reason: format!("the engine {engine} failed unexpectedly while it loaded the graph"),
            })
        })
    })
}
