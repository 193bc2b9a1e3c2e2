//! How much memory sandboxes may hold together: those of one model, and those of the host. A model that
//! takes all it can get leaves room for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that calls share.
pub struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
    /// The most that was ever used.
    peak: AtomicUsize,
    /// What is taken here is taken there too.
    parent: Option<Arc<MemoryBudget>>,
}

impl MemoryBudget {
    /// The budget of a host.
    pub fn of_host(limit: usize) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget::new(limit, None))
    }

    /// The budget of one plugin: half of the host's, so that no single one can take everything.
    pub fn of_plugin(host: &Arc<MemoryBudget>) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget::new(host.limit / 2, Some(host.clone())))
    }

    /// The budget of a plugin's calls that nobody waits for: half of the plugin's.
    pub fn of_background(plugin: &Arc<MemoryBudget>) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget::new(plugin.limit / 2, Some(plugin.clone())))
    }

    fn new(limit: usize, parent: Option<Arc<MemoryBudget>>) -> MemoryBudget {
        MemoryBudget { limit, used: AtomicUsize::new(0), peak: AtomicUsize::new(0), parent }
    }

    /// Bytes that calls hold now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes that calls ever held together.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        let Ok(before) = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) else {
            return false;
        };
        if self.parent.as_ref().is_some_and(|parent| !parent.take(bytes)) {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        true
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(bytes);
        }
    }
}

/// What one call has taken of a budget. Given back when it is dropped.
pub struct MemoryShare {
    budget: Arc<MemoryBudget>,
    taken: usize,
}

impl MemoryShare {
    /// Nothing yet.
    pub fn new(budget: Arc<MemoryBudget>) -> MemoryShare {
        MemoryShare { budget, taken: 0 }
    }

    /// Makes the share as large as `bytes`, if the budget allows it. Shares only grow: what a call frees is
    /// what it will most likely want again.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.taken);
        if more == 0 {
            return true;
        }
        let granted = self.budget.take(more);
        if granted {
            self.taken = bytes;
        }
        granted
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.budget.give_back(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plugin_leaves_room_for_another() {
        let host = MemoryBudget::of_host(100);
        let (greedy, modest) = (MemoryBudget::of_plugin(&host), MemoryBudget::of_plugin(&host));
        let mut first = MemoryShare::new(greedy.clone());
        let mut second = MemoryShare::new(greedy);
        assert!(first.grow_to(40));
        assert!(!second.grow_to(11));
        assert!(second.grow_to(10));
        let mut other = MemoryShare::new(modest.clone());
        assert!(other.grow_to(50));
        assert!(!MemoryShare::new(modest).grow_to(1));
        drop((first, second, other));
        assert_eq!((host.used(), host.peak()), (0, 100));
    }
}
