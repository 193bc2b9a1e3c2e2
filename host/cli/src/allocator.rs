//! The allocator of the process. A request allocates many small things, some on one thread and freed on
//! another, which the system's allocator does slower; docs/performance.md has the figures.

use libmimalloc_sys::{mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, which the bindings have no name for.
const PURGE_DELAY: mi_option_t = 15;

/// Gives freed memory back to the system at once. By default the allocator waits for later allocations, so
/// that a host would keep what an attack took for as long as nobody else calls.
pub fn give_memory_back_at_once() {
    // SAFETY: the function only stores an integer in a table, at an index that it checks.
    unsafe { mi_option_set(PURGE_DELAY, 0) };
}
