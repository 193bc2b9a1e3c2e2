//! Engines that run networks, the cache of loaded graphs, and running a graph off the threads that serve requests.
//!
//! This crate knows tensors. It does not know requests, models, plugins or WebAssembly.
//!
//! ```text
//! bytes of an .onnx file ─ GraphCache ─ Engine::load ─▶ Arc<Graph> ─ Executor::compute ─▶ named output tensors
//! ```

mod cache;
mod engine;
mod engines;
mod executor;
mod graph;
mod run_times;
mod settings;
pub mod tract;
mod worker_pool;

pub use cache::GraphCache;
pub use engine::{Engine, ExecutableGraph, LoadError, RunError, RunLimits};
pub use engines::{EngineStatus, Engines};
pub use executor::{BatchingPolicy, ComputeError, ComputeOptions, Executor, Priority};
pub use graph::Graph;
pub use settings::{BatchingSettings, InferenceSettings};
pub use tract::{TensorBuffer, TractEngine};
