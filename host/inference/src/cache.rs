//! One loaded graph per digest, for as long as somebody uses it. Knows neither where the bytes come from nor what
//! the engine does with them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};

use modelhost_core::Digest;
use parking_lot::Mutex;

use crate::engine::{Engine, LoadError};
use crate::graph::Graph;

/// Loads each graph once and shares it. It holds no graph alive: a graph goes with its last user, so memory follows
/// what is in use.
pub struct GraphCache {
    engine: Arc<dyn Engine>,
    slots: Mutex<HashMap<Digest, Arc<Slot>>>,
}

/// Locked while its graph is loaded, so that those who ask for the same digest wait and no one else does.
type Slot = Mutex<Weak<Graph>>;

impl GraphCache {
    /// An empty cache of graphs of this engine.
    pub fn new(engine: Arc<dyn Engine>) -> GraphCache {
        GraphCache { engine, slots: Mutex::default() }
    }

    /// The graph of this digest. `read` is called only if it is not loaded; it must give the bytes of the digest.
    ///
    /// Blocks while the graph is read and optimised, by this caller or by another that came first. A failure is not
    /// kept: the next caller tries again.
    ///
    /// # Errors
    /// [`LoadError`] of the engine; [`LoadError::Read`] where `read` fails.
    pub fn get_or_load(
        &self,
        digest: &Digest,
        read: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> Result<Arc<Graph>, LoadError> {
        let slot = self.slot(digest);
        let mut graph = slot.lock();
        if let Some(graph) = graph.upgrade() {
            return Ok(graph);
        }
        let bytes = read()?;
        let loaded = Arc::new(Graph::new(*digest, self.engine.load(&bytes)?));
        *graph = Arc::downgrade(&loaded);
        Ok(loaded)
    }

    /// The number of graphs that somebody uses at this moment.
    pub fn len(&self) -> usize {
        let mut slots = self.slots.lock();
        forget_unused(&mut slots);
        slots.len()
    }

    /// Whether nobody uses any graph.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, digest: &Digest) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(digest) {
            return slot.clone();
        }
        // Loading is slow and rare, so the sweep costs nothing that anyone notices.
        forget_unused(&mut slots);
        slots.entry(*digest).or_default().clone()
    }
}

/// Drops the slots whose graph is gone and that nobody is about to fill.
fn forget_unused(slots: &mut HashMap<Digest, Arc<Slot>>) {
    // Slots are cloned under the lock of the map, which is held here: a slot with one owner has no user, and
    // locking it does not wait.
    slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.lock().strong_count() > 0);
}
