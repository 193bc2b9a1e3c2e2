//! From a model's name to an answer: which versions are live, who may call them, how they get there and how
//! they are counted.
//!
//! This crate joins the registry (what exists) with the runtime (what runs). It knows nothing of HTTP, of
//! wasmtime or of sled.

mod admission;
mod error;
mod host;
mod live;
mod loader;
mod operate;
mod servable;
mod settings;
mod statistics;
mod upload;

pub use error::Error;
pub use host::ModelHost;
pub use live::VersionSelector;
pub use modelhost_inference::TensorBuffer;
pub use modelhost_runtime::{NamedTensors, Parameter};
pub use operate::Authorship;
pub use servable::Servable;
pub use settings::{ServingSettings, Settings};
pub use statistics::ModelStatistics;
pub use upload::{Upload, UploadOptions, UploadOutcome};
