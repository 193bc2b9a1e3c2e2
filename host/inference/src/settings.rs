//! What an operator may set about engines and batches, with defaults. Knows no files and no flags.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::options::BatchingPolicy;

/// Settings of the engines. Every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InferenceSettings {
    /// Threads that run graphs, so many for short runs and as many for long ones; 0 is one per core. Default 0.
    pub threads: usize,
    /// Where the shared library of ONNX Runtime is: a file, `auto` to look in the usual places, or `off`. Default
    /// `auto`.
    pub onnxruntime: String,
    /// Threads of one run on ONNX Runtime. More than one: all its sessions share one pool of that many threads.
    /// Default 1, which gives the most throughput when requests come at the same time.
    pub onnxruntime_intra_op_threads: usize,
    /// How calls of a graph are put together, where a model's configuration does not say it.
    pub dynamic_batching: BatchingSettings,
}

impl Default for InferenceSettings {
    fn default() -> InferenceSettings {
        InferenceSettings {
            threads: 0,
            onnxruntime: "auto".to_owned(),
            onnxruntime_intra_op_threads: 1,
            dynamic_batching: BatchingSettings::default(),
        }
    }
}

/// How calls that wait for a graph at the same moment are put together. Every field has a default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchingSettings {
    /// Rows of one execution; 1 runs every call alone. Default 32.
    pub max_batch_size: u32,
    /// Microseconds that a call waits for others to join it; 0: only those that wait already. Default 0.
    pub max_queue_delay_microseconds: u64,
    /// Calls that wait for one graph; more are refused as overloaded. Default 1,024.
    pub max_queue_size: u32,
}

impl Default for BatchingSettings {
    fn default() -> BatchingSettings {
        BatchingSettings { max_batch_size: 32, max_queue_delay_microseconds: 0, max_queue_size: 1_024 }
    }
}

impl From<BatchingSettings> for BatchingPolicy {
    fn from(settings: BatchingSettings) -> BatchingPolicy {
        BatchingPolicy {
            max_batch_size: settings.max_batch_size.max(1),
            max_queue_delay: Duration::from_micros(settings.max_queue_delay_microseconds),
            max_queue_size: settings.max_queue_size.max(1) as usize,
        }
    }
}
