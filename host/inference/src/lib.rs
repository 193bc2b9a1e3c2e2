//! Engines that run networks, the cache of loaded graphs, and running a graph off the threads that serve requests.
//!
//! This crate knows tensors. It does not know requests, models, plugins or WebAssembly.
//!
//! ```text
//! bytes of an .onnx file ─ GraphCache ─ Engine::load ─▶ Arc<Graph> ─ Executor::compute ─▶ named output tensors
//! ```

mod cache;
mod caller;
mod compute_error;
mod engine;
mod engines;
mod executor;
mod extents;
mod graph;
mod known_times;
mod large_stack;
mod onnx;
pub mod onnxruntime;
mod options;
mod run;
mod run_times;
mod schedule;
mod settings;
mod stacking;
mod thread_priority;
pub mod tract;

pub use cache::GraphCache;
pub use caller::{CallerThreads, Company};
pub use compute_error::ComputeError;
pub use engine::{Engine, ExecutableGraph, LoadError, RunError, RunLimits};
pub use engines::{EngineStatus, Engines};
pub use executor::{Computed, Executor};
pub use graph::{Graph, GraphHold, GraphStatistics};
pub use onnx::external_data;
pub use onnxruntime::OnnxRuntimeEngine;
pub use options::{BatchingPolicy, ComputeOptions, Priority};
pub use settings::{BatchingSettings, InferenceSettings};
pub use thread_priority::BackgroundThreads;
pub use tract::{Proven, TensorBuffer, TractEngine};
