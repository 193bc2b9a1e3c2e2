//! The result of a call that did not answer: whose fault, and what happened.

use std::time::Duration;

use modelhost_core::ErrorCode;
use modelhost_inference::Priority;

use crate::state::LimitExceeded;

/// Why a plugin gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The plugin says that the request cannot succeed as it is.
    #[error("{message}")]
    InvalidInput {
        /// The plugin's sentence.
        message: String,
    },
    /// The plugin says that it may succeed later.
    #[error("{message}")]
    Unavailable {
        /// The plugin's sentence.
        message: String,
    },
    /// The plugin says that it failed.
    #[error("the plugin failed: {message}")]
    Internal {
        /// The plugin's sentence.
        message: String,
    },
    /// The plugin went over one of its limits.
    #[error("the plugin was stopped: {0}")]
    LimitExceeded(LimitExceeded),
    /// The plugin trapped.
    #[error("the plugin trapped: {reason}")]
    Trapped {
        /// What kind of trap. No addresses and no paths.
        reason: String,
    },
    /// The outputs are not what the signature promises.
    #[error("the plugin broke its signature: {reason}")]
    ContractViolation {
        /// Which output and how.
        reason: String,
    },
    /// The time is over.
    #[error("the plugin did not answer within {milliseconds} ms")]
    DeadlineExceeded {
        /// The time that it had.
        milliseconds: u128,
    },
    /// The client took no response for too long.
    #[error("the client took no response for {milliseconds} ms")]
    ClientTooSlow {
        /// The time that it had.
        milliseconds: u128,
    },
    /// The client went away before it had all responses.
    #[error("the client went away")]
    ClientGone,
    /// All sandboxes are taken.
    #[error("all sandboxes are busy")]
    Overloaded,
    /// Too many calls wait for a graph that the plugin runs.
    #[error("too many calls wait for a graph of the plugin: try again later")]
    GraphOverloaded,
    /// The host failed.
    #[error("the host could not run the plugin")]
    Host {
        /// What happened, for the log only.
        reason: String,
    },
}

impl CallError {
    /// The kind of failure.
    pub fn code(&self) -> ErrorCode {
        match self {
            CallError::InvalidInput { .. } => ErrorCode::InvalidArgument,
            CallError::Unavailable { .. } | CallError::LimitExceeded(LimitExceeded::HostMemory) => {
                ErrorCode::Unavailable
            }
            CallError::Internal { .. }
            | CallError::LimitExceeded(_)
            | CallError::Trapped { .. }
            | CallError::ContractViolation { .. } => ErrorCode::PluginFailed,
            CallError::DeadlineExceeded { .. } | CallError::ClientTooSlow { .. } | CallError::ClientGone => {
                ErrorCode::DeadlineExceeded
            }
            CallError::Overloaded | CallError::GraphOverloaded => ErrorCode::Overloaded,
            CallError::Host { .. } => ErrorCode::Internal,
        }
    }
}

impl CallError {
    /// A stable name for what happened, finer than its code.
    pub const fn reason(&self) -> &'static str {
        match self {
            CallError::InvalidInput { .. } => "invalid_input",
            CallError::Unavailable { .. } => "unavailable",
            CallError::Internal { .. } => "plugin_error",
            CallError::LimitExceeded(_) => "limit_exceeded",
            CallError::Trapped { .. } => "trap",
            CallError::ContractViolation { .. } => "contract_violation",
            CallError::DeadlineExceeded { .. } => "timeout",
            CallError::ClientTooSlow { .. } => "client_too_slow",
            CallError::ClientGone => "client_gone",
            CallError::Overloaded | CallError::GraphOverloaded => "overloaded",
            CallError::Host { .. } => "host",
        }
    }
}

/// How one call is to be run.
#[derive(Clone, Copy, Debug)]
pub struct CallOptions {
    /// Shortens the limit that the host sets.
    pub timeout: Duration,
    /// Which calls of a graph go first.
    pub priority: Priority,
}
