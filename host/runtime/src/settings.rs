//! What an operator may set about sandboxes and compilation, with defaults. Knows no files and no flags.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of the sandbox, of one call, and of compilation. Every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSettings {
    /// Calls that may run at one moment, over all models; at least one. Default 128. Each reserves address space for its
    /// memories; more wait, and models take turns by their weights.
    pub max_concurrent_calls: u32,
    /// Bytes of memory and tensors that all calls hold together; those of one version at most half of it.
    /// What does not fit fails as unavailable. Default 4 GiB.
    pub sandbox_memory_bytes: usize,
    /// Threads that run plugins; 0 is three for each four cores, at least one, which leaves the others to
    /// those that read sockets: more threads than cores only wake each other. Default 0.
    pub plugin_threads: usize,
    /// How much of the machine's cores batch work may use, in percent: at least one core, and where it is less than 100, at
    /// least one core less than there are. Default 50.
    pub background_share_percent: u8,
    /// Bytes of each idle sandbox that stay mapped, which saves page faults at the price of resident
    /// memory (bytes × idle sandboxes). Default 2 MiB.
    pub keep_resident_bytes: usize,
    /// Idle sandboxes that keep their memory. Default 32.
    pub max_idle_sandboxes: u32,
    /// Whether a plugin may load a network from bytes at run time, instead of carrying it. Default false:
    /// such a network has not been through the checks of an upload.
    pub allow_graph_load: bool,
    /// Limits of one call.
    pub limits: CallLimits,
    /// Limits of the process that compiles an upload.
    pub compilation: CompilationLimits,
}

impl Default for RuntimeSettings {
    fn default() -> RuntimeSettings {
        RuntimeSettings {
            max_concurrent_calls: 128,
            sandbox_memory_bytes: 4 << 30,
            plugin_threads: 0,
            background_share_percent: 50,
            keep_resident_bytes: 2 << 20,
            max_idle_sandboxes: 32,
            allow_graph_load: false,
            limits: CallLimits::default(),
            compilation: CompilationLimits::default(),
        }
    }
}

/// What one call of a plugin may use. Going over a limit fails that call and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallLimits {
    /// Milliseconds from the start of a call to its answer. Default 30,000.
    pub wall_time_ms: u64,
    /// Bytes of all linear memories and tables together. Default 256 MiB.
    pub memory_bytes: usize,
    /// Elements of each table. Default 20,000.
    pub table_elements: usize,
    /// Core instances of one component. Default 16.
    pub core_instances: u32,
    /// Bytes of all tensors that a call holds at one moment. Default 256 MiB.
    pub tensor_bytes: usize,
    /// Bytes of all tensors that a network holds at one moment while it runs. Default 1 GiB.
    pub graph_memory_bytes: u64,
    /// Resource handles (tensors, graphs, contexts, streams) at one moment. Default 1,024.
    pub handles: usize,
    /// Bytes of all outputs of a response together. Default 64 MiB.
    pub output_bytes: usize,
    /// Responses of one call that streams them. Default 65,536.
    pub stream_responses: u32,
    /// Bytes of responses that are on their way to a client before the plugin waits for it; a single response may be
    /// larger. Default 1 MiB.
    pub stream_buffer_bytes: usize,
    /// Milliseconds that a client may keep a plugin waiting with one response. Then the call ends. Default 10,000.
    pub stream_wait_ms: u64,
    /// Bytes of log text. What goes over is dropped, and counted. Default 16 KiB.
    pub log_bytes: usize,
    /// Bytes of a network that is loaded at run time. Default 64 MiB.
    pub graph_load_bytes: usize,
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("background_share_percent is {0}: expected 1 to 100")]
pub struct InvalidRuntimeSetting(u8);

impl RuntimeSettings {
    /// How many threads run plugins.
    pub(crate) fn plugin_thread_count(&self) -> usize {
        match self.plugin_threads {
            0 => (cores() - (cores() / 4).max(1)).max(1),
            set => set,
        }
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// A sentence about the setting that cannot work.
    pub fn check(&self) -> Result<(), InvalidRuntimeSetting> {
        match self.background_share_percent {
            1..=100 => Ok(()),
            share => Err(InvalidRuntimeSetting(share)),
        }
    }
}

/// What is set, or else one for each core.
pub(crate) fn threads_or_cores(set: usize) -> usize {
    if set == 0 { cores() } else { set }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl CallLimits {
    /// The time from the start of a call to its answer.
    pub fn wall_time(&self) -> Duration {
        Duration::from_millis(self.wall_time_ms)
    }

    /// How long a client may keep a plugin waiting.
    pub fn stream_wait(&self) -> Duration {
        Duration::from_millis(self.stream_wait_ms)
    }
}

impl Default for CallLimits {
    fn default() -> CallLimits {
        CallLimits {
            wall_time_ms: 30_000,
            memory_bytes: 256 << 20,
            table_elements: 20_000,
            core_instances: 16,
            tensor_bytes: 256 << 20,
            graph_memory_bytes: 1 << 30,
            handles: 1_024,
            output_bytes: 64 << 20,
            stream_responses: 65_536,
            stream_buffer_bytes: 1 << 20,
            stream_wait_ms: 10_000,
            log_bytes: 16 << 10,
            graph_load_bytes: 64 << 20,
        }
    }
}

/// What the process that examines and compiles an upload may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompilationLimits {
    /// Bytes of address space. Default 4 GiB.
    pub memory_bytes: u64,
    /// Seconds, of the clock and of processor time alike. Default 120.
    pub seconds: u64,
    /// Compilations at one moment; more wait. Default 1.
    pub concurrent: usize,
}

impl Default for CompilationLimits {
    fn default() -> CompilationLimits {
        CompilationLimits { memory_bytes: 4 << 30, seconds: 120, concurrent: 1 }
    }
}
