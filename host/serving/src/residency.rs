//! Which versions have their plugin in memory: as many as fit a budget. Where they do not, the one that was not asked
//! for the longest goes first, deployed or not; its next request brings it back from its compiled code. One that is
//! answering requests stays until they are done.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use modelhost_inference::GraphCache;
use modelhost_runtime::Plugin;
use parking_lot::Mutex;

use crate::servable::Servable;

/// What a loaded plugin takes beside its code and its graphs: types, linked imports, records. Measured with three hundred
/// small plugins.
const BYTES_OF_A_PLUGIN: u64 = 96 << 10;

/// How often to look for what may go, at least.
const TIDYING: Duration = Duration::from_secs(1);

/// The plugins in memory.
pub(crate) struct Residency {
    limits: Limits,
    /// Those that were loaded and not evicted yet.
    loaded: Mutex<Vec<Weak<Servable>>>,
    tally: Arc<Tally>,
    graphs: Arc<GraphCache>,
    began: Instant,
}

/// How much may be in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of code and graphs.
    pub(crate) bytes: u64,
    /// Plugins, by what the operating system gives to a process.
    pub(crate) plugins: usize,
    /// Since the last request. None: for as long as there is room.
    pub(crate) idle: Option<Duration>,
}

/// What is in memory now, plugins included that were evicted and still answer a request.
#[derive(Default)]
struct Tally {
    bytes: AtomicU64,
    plugins: AtomicUsize,
}

/// A plugin in memory. Requests hold it while they run.
pub(crate) struct Resident {
    pub(crate) plugin: Arc<Plugin>,
    /// Of compiled code.
    pub(crate) code_bytes: u64,
    tally: Arc<Tally>,
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.tally.bytes.fetch_sub(self.code_bytes + BYTES_OF_A_PLUGIN, Relaxed);
        self.tally.plugins.fetch_sub(1, Relaxed);
        // Dropping a plugin blocks, and the last one to hold this may be on a thread that reads sockets.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let plugin = self.plugin.clone();
            runtime.spawn_blocking(move || drop(plugin));
        }
    }
}

impl Residency {
    pub(crate) fn new(limits: Limits, graphs: Arc<GraphCache>) -> Residency {
        Residency { limits, loaded: Mutex::default(), tally: Arc::default(), graphs, began: Instant::now() }
    }

    /// Counts a plugin that was loaded.
    pub(crate) fn count(&self, plugin: Plugin, code_bytes: u64) -> Resident {
        self.tally.bytes.fetch_add(code_bytes + BYTES_OF_A_PLUGIN, Relaxed);
        self.tally.plugins.fetch_add(1, Relaxed);
        Resident { plugin: Arc::new(plugin), code_bytes, tally: self.tally.clone() }
    }

    /// The time that the least recently used is found by.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether another plugin fits without anything having to go.
    pub(crate) fn has_room_for(&self, code_and_graph_bytes: u64) -> bool {
        self.plugins() < self.limits.plugins
            && self.bytes().saturating_add(code_and_graph_bytes + BYTES_OF_A_PLUGIN) <= self.limits.bytes
    }

    /// Bytes of all code and graphs in memory; a graph that several plugins run is counted once.
    pub(crate) fn bytes(&self) -> u64 {
        self.tally.bytes.load(Relaxed).saturating_add(self.graphs.resident_bytes())
    }

    /// Plugins in memory.
    pub(crate) fn plugins(&self) -> usize {
        self.tally.plugins.load(Relaxed)
    }

    /// Remembers a version that was loaded, and makes others go where there are too many. Dropping plugins blocks.
    pub(crate) fn admit(&self, servable: &Arc<Servable>) {
        let mut loaded = self.loaded.lock();
        loaded.retain(|other| other.upgrade().is_some_and(|other| other.is_loaded()));
        if !loaded.iter().any(|other| std::ptr::eq(other.as_ptr(), Arc::as_ptr(servable))) {
            loaded.push(Arc::downgrade(servable));
        }
        self.make_room(&loaded, Some(servable));
    }

    /// Lets those go that were not asked for the longest, where there are too many; not the newest one.
    fn make_room(&self, loaded: &[Weak<Servable>], newest: Option<&Arc<Servable>>) {
        let mut candidates: Vec<Arc<Servable>> = loaded.iter().filter_map(Weak::upgrade).collect();
        candidates.retain(|other| newest.is_none_or(|newest| !Arc::ptr_eq(other, newest)));
        candidates.sort_by_cached_key(|other| std::cmp::Reverse(other.last_used()));
        while self.is_over_budget() {
            let Some(oldest) = candidates.pop() else { return };
            if oldest.evict_if_idle() {
                tracing::debug!(model = %oldest.model, version = %oldest.version, "evicted: others need the room");
            }
        }
    }

    /// Evicts what there was no room for when it was loaded, because all others were busy, and what was not asked for in a
    /// while, where that is wanted.
    pub(crate) fn tidy(&self) {
        if self.is_over_budget() {
            let loaded = self.loaded.lock();
            let newest = loaded.iter().filter_map(Weak::upgrade).max_by_key(|servable| servable.last_used());
            self.make_room(&loaded, newest.as_ref());
        }
        let Some(idle) = self.limits.idle else { return };
        let idle = u64::try_from(idle.as_micros()).unwrap_or(u64::MAX);
        let now = self.now();
        let loaded: Vec<Arc<Servable>> = self.loaded.lock().iter().filter_map(Weak::upgrade).collect();
        for servable in loaded {
            if now.saturating_sub(servable.last_used()) >= idle && servable.evict_if_idle() {
                tracing::debug!(model = %servable.model, version = %servable.version, "evicted: nobody asked for it");
            }
        }
    }

    /// How often it is worth to look for what may go.
    pub(crate) fn tidying_interval(&self) -> Duration {
        let shortest = Duration::from_millis(100);
        self.limits.idle.map_or(TIDYING, |idle| (idle / 4).clamp(shortest, TIDYING))
    }

    fn is_over_budget(&self) -> bool {
        self.plugins() > self.limits.plugins || self.bytes() > self.limits.bytes
    }
}
