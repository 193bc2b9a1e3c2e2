//! One loaded graph per digest and engine, for as long as somebody uses it. Knows neither where the bytes come from nor what
//! the engine does with them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};

use modelhost_core::{Digest, EngineName};
use parking_lot::Mutex;

use crate::engine::LoadError;
use crate::engines::Engines;
use crate::graph::Graph;

/// Loads each graph once and shares it. It holds no graph alive: a graph goes with its last user, so memory follows
/// what is in use.
pub struct GraphCache {
    engines: Engines,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
}

type Key = (Digest, EngineName);

/// Locked while its graph is loaded, so that those who ask for the same graph wait and no one else does.
type Slot = Mutex<Weak<Graph>>;

impl GraphCache {
    /// An empty cache of graphs of these engines.
    pub fn new(engines: Engines) -> GraphCache {
        GraphCache { engines, slots: Mutex::default() }
    }

    /// The engines whose graphs are here.
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// The graph of this digest on this engine. `read` is called only if it is not loaded; it must give the bytes of the digest.
    ///
    /// Blocks while the graph is read and optimised, by this caller or by another that came first. A failure is not
    /// kept: the next caller tries again.
    ///
    /// # Errors
    /// [`LoadError`] of the engine; [`LoadError::Read`] where `read` fails; [`LoadError::Engine`] where the engine is not
    /// there.
    pub fn get_or_load(
        &self,
        digest: &Digest,
        engine: EngineName,
        read: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> Result<Arc<Graph>, LoadError> {
        let slot = self.slot((*digest, engine));
        let mut graph = slot.lock();
        if let Some(graph) = graph.upgrade() {
            return Ok(graph);
        }
        let library = self.engines.get(engine);
        let library = library.map_err(|reason| LoadError::Engine { engine, reason: reason.to_owned() })?;
        let bytes = read()?;
        let loaded = Arc::new(Graph::new(*digest, engine, library.load(&bytes)?));
        *graph = Arc::downgrade(&loaded);
        Ok(loaded)
    }

    /// The number of graphs that somebody uses at this moment.
    pub fn len(&self) -> usize {
        let mut slots = self.slots.lock();
        forget_unused(&mut slots);
        slots.len()
    }

    /// Bytes that all loaded graphs keep in memory. One that is being loaded does not count yet.
    pub fn resident_bytes(&self) -> u64 {
        // Dropping the last owner of a graph takes a while: not under the lock of the map.
        let graphs: Vec<Arc<Graph>> =
            self.slots.lock().values().filter_map(|slot| slot.try_lock()?.upgrade()).collect();
        graphs.iter().map(|graph| graph.resident_bytes()).sum()
    }

    /// Whether nobody uses any graph.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, key: Key) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(&key) {
            return slot.clone();
        }
        // Loading is slow and rare, so the sweep costs nothing that anyone notices.
        forget_unused(&mut slots);
        slots.entry(key).or_default().clone()
    }
}

/// Drops the slots whose graph is gone and that nobody is about to fill.
fn forget_unused(slots: &mut HashMap<Key, Arc<Slot>>) {
    // Slots are cloned under the lock of the map, which is held here: a slot with one owner has no user, and
    // locking it does not wait.
    slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.lock().strong_count() > 0);
}
