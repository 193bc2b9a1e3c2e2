//! Runs plugins: inspects and compiles what authors upload, and calls it in sandboxes with limits.
//!
//! This is the only crate that knows wasmtime. It knows nothing of models, deployments, requests or files
//! beyond those that it is given.

mod bindings;
mod call;
mod compiler;
pub mod confinement;
mod engine;
pub mod examine;
mod host;
mod inspect;
mod linked;
mod log;
mod memory_budget;
mod pack;
mod plugin;
mod predictions;
mod recorder;
mod refusal;
mod runtime;
mod sandbox;
mod scheduling;
mod services;
mod settings;
mod signature;
mod state;
mod streaming;
mod threads;

pub use call::{CallError, CallOptions};
pub use compiler::{CompileError, Compiler, SUBCOMMAND as EXAMINE_SUBCOMMAND};
pub use examine::{EngineVerdict, Examination, ExaminedGraph};
pub use inspect::{GRAPH_SECTION_PREFIX, SAMPLE_SECTION_PREFIX, TASK_SECTION_PREFIX};
pub use memory_budget::{MemoryBudget, MemoryShare};
pub use pack::{add_graph_section, add_sample_section};
pub use plugin::{Plugin, PluginMemory};
pub use predictions::{FoundColumn, FoundRows, Grants, LookupError, MAX_KEYS, PredictionTables};
pub use recorder::{Computation, Recorder};
pub use refusal::{Refusal, RefusalReport};
pub use runtime::Runtime;
pub use sandbox::{Answer, CallTimes, NamedTensors, Sandbox};
pub use scheduling::{Scheduling, Share};
pub use settings::{CallLimits, CompilationLimits, RuntimeSettings};
pub use state::{Graphs, LimitExceeded};
pub use streaming::{ResponseReceiver, ResponseSender, Streamed};
