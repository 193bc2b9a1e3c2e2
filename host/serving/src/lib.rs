//! From a model's name to an answer: which versions are live, who may call them, how they get there and how
//! they are counted.
//!
//! This crate joins the registry (what exists) with the runtime (what runs). It knows nothing of HTTP, of
//! wasmtime or of sled.

mod admission;
mod background;
mod configuration;
mod configure;
mod difference;
mod engine_choice;
mod ensemble;
mod error;
mod estimate;
mod host;
mod live;
mod loader;
mod made_up;
mod operate;
mod operating_system;
mod reference;
mod repository;
mod request_traces;
mod residency;
mod samples;
mod servable;
mod settings;
mod statistics;
mod statistics_report;
mod stream;
mod tasks;
mod totals;
mod upload;
mod verdicts;
mod warm_up;

pub use background::{BackgroundError, VersionHold};
pub use configure::Scheduled;
pub use error::Error;
pub use host::ModelHost;
pub use live::VersionSelector;
pub use modelhost_inference::{BackgroundThreads, EngineStatus};
pub use modelhost_runtime::confinement;
pub use modelhost_runtime::{
    CallError, FoundColumn, FoundRows, LimitExceeded, LookupError, MAX_KEYS as MAX_LOOKUP_KEYS, NamedTensors,
    PredictionTables,
};
pub use operate::Authorship;
pub use reference::{InvalidReference, ModelReference};
pub use repository::{IndexEntry, VersionState};
pub use request_traces::{TraceChange, TraceLevel, TraceSettings};
pub use servable::{MemoryUsage, RequestOptions, Servable};
pub use settings::{ServingSettings, Settings};
pub use statistics::ModelStatistics;
pub use stream::Responses;
pub use tasks::Task;
pub use totals::{
    BatchStatistics, InferenceStatistics, MemoryOfKind, ResponseStatistics, Timed, VersionStatistics,
};
pub use upload::{Upload, UploadOptions, UploadOutcome};
