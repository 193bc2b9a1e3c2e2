//! What an operator may set about serving, with defaults.

use std::path::PathBuf;

use modelhost_inference::InferenceSettings;
use modelhost_runtime::RuntimeSettings;
use serde::{Deserialize, Serialize};

/// Everything that a host needs to open.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder that holds everything.
    pub data_dir: PathBuf,
    /// The `modelhost` binary, which is started to compile uploads.
    pub executable: PathBuf,
    /// Queues and uploads.
    pub serving: ServingSettings,
    /// Engines and batches.
    pub inference: InferenceSettings,
    /// Sandboxes and compilation.
    pub runtime: RuntimeSettings,
}

/// Settings of queues, uploads and what stays loaded. Every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServingSettings {
    /// Requests of one model that run at one moment, where its configuration does not say it. Default 64.
    pub max_concurrent_requests_per_model: usize,
    /// Requests of one model that wait, where its configuration does not say it; more are refused as overloaded (429).
    /// Default 256.
    pub max_queued_requests_per_model: usize,
    /// Bytes of an uploaded component, with its graphs. Default 256 MiB.
    pub max_upload_bytes: u64,
    /// Bytes of compiled code and networks that stay in memory, deployed or not. Where more is asked for, what was not
    /// asked for the longest makes room, and comes back with its next request. Default 2 GiB.
    pub loaded_bytes: u64,
    /// Seconds without a request after which a version leaves memory though there is room; 0: it stays. Default 0.
    pub evict_idle_seconds: u64,
}

impl Default for ServingSettings {
    fn default() -> ServingSettings {
        ServingSettings {
            max_concurrent_requests_per_model: 64,
            max_queued_requests_per_model: 256,
            max_upload_bytes: 256 << 20,
            loaded_bytes: 2 << 30,
            evict_idle_seconds: 0,
        }
    }
}
