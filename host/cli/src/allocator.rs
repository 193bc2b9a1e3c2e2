//! The allocator of the process. A request allocates many small things, some on one thread and freed on
//! another, which the system's allocator does slower; docs/performance.md has the figures.

use std::io;
use std::thread;
use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, which the bindings have no name for.
const PURGE_DELAY: mi_option_t = 15;

/// Milliseconds that freed memory is kept for the next to want it. Given back at once, each tensor of a batch would be
/// fresh pages from the system, which costs more than filling them.
const KEPT_MS: std::ffi::c_long = 10;

/// How often what was kept for long enough is given back.
const INTERVAL: Duration = Duration::from_millis(200);

/// Gives freed memory back to the system soon. By itself the allocator would wait for later allocations, so that a host
/// would keep what an attack took for as long as nobody else calls.
///
/// # Errors
/// Where the operating system gives no thread.
pub fn give_memory_back_soon() -> io::Result<()> {
    // SAFETY: the function only stores an integer in a table, at an index that it checks.
    unsafe { mi_option_set(PURGE_DELAY, KEPT_MS) };
    let give_back = || {
        loop {
            thread::sleep(INTERVAL);
            // SAFETY: it may be called on any thread at any time; it frees nothing that is in use.
            unsafe { mi_collect(false) };
        }
    };
    thread::Builder::new().name("memory".to_owned()).spawn(give_back).map(drop)
}
