//! Predictions over whole datasets: what is stored, the jobs that read and write it, what is looked up afterwards, and
//! the schedules that start jobs.
//!
//! This crate joins the registry (records), the serving crate (models that answer) and DataFusion (tables). Only it
//! knows DataFusion and Arrow; it knows nothing of HTTP, of wasmtime or of sled.
//!
//! Everything it does for long runs on a tokio runtime of its own, so that no table is read by a thread that reads
//! sockets.

mod batch;
pub mod datasets;
pub mod jobs;
mod leftovers;
mod query_failure;
pub mod schedules;
mod settings;
mod store_options;
pub mod tables;
mod work;

pub use batch::Batch;
/// What goes wrong here is told as everywhere above the registry.
pub use modelhost_serving::Error;
pub use settings::{BatchSettings, InvalidBatchSetting, StoreOptions};
