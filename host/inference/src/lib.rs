//! Engines that run networks, the cache of loaded graphs, and running a graph off the threads that serve requests.
//!
//! This crate knows tensors. It does not know requests, models, plugins or WebAssembly.
//!
//! ```text
//! bytes of an .onnx file ─ GraphCache ─ Engine::load ─▶ Arc<Graph> ─ Executor::compute ─▶ named output tensors
//! ```

mod cache;
mod engine;
mod executor;
mod graph;
mod run_times;
pub mod tract;
mod worker_pool;

pub use cache::GraphCache;
pub use engine::{Engine, ExecutableGraph, LoadError, RunError, RunLimits};
pub use executor::{ComputeError, Executor};
pub use graph::Graph;
pub use tract::TractEngine;
