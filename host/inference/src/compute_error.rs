//! Why a graph gave no outputs, as the one sees it who called it.

use modelhost_core::{ErrorCode, SignatureMismatch};

use crate::engine::RunError;

/// Why a graph gave no outputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// Names, datatypes or shapes that do not fit the graph.
    #[error("{reason}")]
    InvalidInput {
        /// What does not fit, and what was expected.
        reason: String,
    },
    /// The deadline passed while waiting for a thread or while running, or would have passed before the end of a run
    /// that was therefore not begun.
    #[error("inference did not end before its deadline")]
    DeadlineExceeded,
    /// As many calls wait for the graph as may wait.
    #[error("{waiting} calls wait for the graph already: try again later")]
    Overloaded {
        /// How many wait.
        waiting: usize,
    },
    /// The caller set [`crate::RunLimits::cancelled`].
    #[error("inference was cancelled")]
    Cancelled,
    /// The tensors of this run would take too much memory.
    #[error("{reason}")]
    TooLarge {
        /// The operator, the bytes it would take and the limit.
        reason: String,
    },
    /// The engine reported an error or panicked.
    #[error("{reason}")]
    Failed {
        /// What the engine said.
        reason: String,
    },
}

impl ComputeError {
    /// The kind of failure, seen by the one who called `compute`.
    pub fn code(&self) -> ErrorCode {
        match self {
            ComputeError::InvalidInput { .. } => ErrorCode::InvalidArgument,
            ComputeError::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            ComputeError::Overloaded { .. } => ErrorCode::Overloaded,
            ComputeError::Cancelled => ErrorCode::Unavailable,
            ComputeError::TooLarge { .. } => ErrorCode::TooLarge,
            ComputeError::Failed { .. } => ErrorCode::PluginFailed,
        }
    }
}

impl From<RunError> for ComputeError {
    fn from(error: RunError) -> ComputeError {
        let reason = error.to_string();
        match error {
            RunError::InvalidInput { .. } => ComputeError::InvalidInput { reason },
            RunError::DeadlineExceeded => ComputeError::DeadlineExceeded,
            RunError::Cancelled => ComputeError::Cancelled,
            RunError::TooLarge { .. } => ComputeError::TooLarge { reason },
            RunError::Failed { .. } => ComputeError::Failed { reason },
        }
    }
}

impl From<SignatureMismatch> for ComputeError {
    fn from(mismatch: SignatureMismatch) -> ComputeError {
        ComputeError::InvalidInput { reason: mismatch.to_string() }
    }
}
