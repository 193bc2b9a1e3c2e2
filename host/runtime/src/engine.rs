//! The wasmtime engine: which features of WebAssembly exist, how code is compiled, how sandboxes are
//! allocated, and the clock that makes endless loops yield. Knows nothing of plugins.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::settings::RuntimeSettings;

/// How often a running plugin gives way to others. Short enough that an endless loop beside a small model
/// is not noticed, long enough that the clock itself costs nothing.
const TICK: Duration = Duration::from_millis(2);

/// The stack of WebAssembly code. Deeper recursion traps.
const WASM_STACK_BYTES: usize = 512 << 10;

/// The stack of a call, which host functions share: a host function that overflows would end the process.
const FIBER_STACK_BYTES: usize = 2 << 20;

/// Everything that changes what compiled code looks like. The compiling process and the host both use it,
/// so that one can load what the other made.
fn compilation_config() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .wasm_backtrace_max_frames(NonZeroUsize::new(16))
        .generate_address_map(true)
        // Features that no plugin needs are surface that no attacker gets; threads and garbage collection
        // are not even built in.
        .wasm_memory64(false);
    config
}

/// An engine that only compiles.
///
/// # Errors
/// Where the machine cannot run it.
pub fn compiling_engine() -> wasmtime::Result<Engine> {
    Engine::new(&compilation_config())
}

/// An engine that runs plugins in pooled sandboxes, and starts its clock.
///
/// # Errors
/// Where the machine does not have the address space that the settings ask for.
pub fn serving_engine(settings: &RuntimeSettings, calls: usize) -> wasmtime::Result<Engine> {
    let mut config = compilation_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings, calls)));
    let engine = Engine::new(&config)?;
    start_clock(&engine)?;
    Ok(engine)
}

/// Names the engine version and the settings, so that compiled code is only loaded where it fits.
pub fn compilation_key(engine: &Engine) -> String {
    // Only compared within one build of modelhost: the hasher has to be the same there, not elsewhere.
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("wasmtime-48-{:016x}", hasher.finish())
}

fn pool(settings: &RuntimeSettings, calls: usize) -> PoolingAllocationConfig {
    let limits = &settings.limits;
    let calls = u32::try_from(calls).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(calls.saturating_mul(limits.core_instances))
        .total_memories(calls.saturating_mul(2))
        .total_tables(calls.saturating_mul(4))
        .total_stacks(calls)
        .max_memory_size(limits.memory_bytes)
        .max_core_instances_per_component(limits.core_instances)
        .max_memories_per_component(2)
        .max_tables_per_component(4)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .table_elements(limits.table_elements)
        .max_unused_warm_slots(settings.max_idle_sandboxes)
        .linear_memory_keep_resident(settings.keep_resident_bytes)
        .table_keep_resident(64 << 10);
    if swap_is_off() {
        // Finds the pages that a call wrote, and resets only those: the largest single saving. A page in
        // swap would be missed and seen by the next sandbox (wasmtime#14357), hence the condition.
        pool.pagemap_scan(Enabled::Auto);
    } else {
        tracing::info!("swap is on: sandboxes are reset without PAGEMAP_SCAN, which takes longer");
    }
    pool
}

fn swap_is_off() -> bool {
    // The file holds a heading, and a line for each swap area.
    std::fs::read_to_string("/proc/swaps").is_ok_and(|areas| areas.lines().count() <= 1)
}

fn start_clock(engine: &Engine) -> wasmtime::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("epoch-clock".to_owned()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(())
}
