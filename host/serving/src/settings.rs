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
    /// Versions that stay loaded though no deployment names them, so that a rollback or a request by number
    /// or alias finds them ready. Default 32.
    pub max_idle_versions: u64,
}

impl Default for ServingSettings {
    fn default() -> ServingSettings {
        ServingSettings {
            max_concurrent_requests_per_model: 64,
            max_queued_requests_per_model: 256,
            max_upload_bytes: 256 << 20,
            max_idle_versions: 32,
        }
    }
}
