//! The one error of this crate: a kind, and a sentence that may be shown to a client.

use std::io::ErrorKind;
use std::time::Duration;

use modelhost_core::ErrorCode;
use modelhost_registry::RegistryError;
use modelhost_runtime::{CallError, CompileError, Refusal};

/// What went wrong. The message is one sentence without internal paths, safe to show to anybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind of failure.
    pub code: ErrorCode,
    /// One sentence.
    pub message: String,
    /// Of an overload: after how long it may be over.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// An error of this kind with this sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), retry_after: None }
    }

    /// Too many requests, which are expected to be dealt with after this time.
    pub(crate) fn overloaded(retry_after: Duration) -> Error {
        let message = "too many requests are waiting: try again later";
        Error { retry_after: Some(retry_after), ..Error::new(ErrorCode::Overloaded, message) }
    }

    /// A failure of the host itself: the details go to the log, not to the client.
    pub fn internal(details: impl std::fmt::Display) -> Error {
        tracing::error!(error = %details, "internal error");
        Error::new(ErrorCode::Internal, "modelhost failed; its log says more")
    }

    /// The disk of the data folder is full.
    pub fn storage_full() -> Error {
        Error::new(ErrorCode::StorageFull, "there is no room left in the data folder")
    }

    /// The same error, about this model.
    pub(crate) fn about(mut self, model: &dyn std::fmt::Display) -> Error {
        self.message = format!("model {model}: {}", self.message);
        self
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Error {
        match error.code() {
            ErrorCode::Internal => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                Error::internal(format!("{error}: {source}"))
            }
            // The sentence would name a path.
            ErrorCode::StorageFull => {
                tracing::error!(%error, "the data folder is full");
                Error::storage_full()
            }
            code => Error::new(code, error.to_string()),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::storage_full(),
            _ => Error::internal(error),
        }
    }
}

impl From<CompileError> for Error {
    fn from(error: CompileError) -> Error {
        match error {
            CompileError::Refused(report) => Error::new(report.code(), report.message),
            CompileError::Process(details) => Error::internal(details),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::new(refusal.code(), refusal.to_string())
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Error {
        if let CallError::Host { reason } = &error {
            return Error::internal(reason);
        }
        Error::new(error.code(), error.to_string())
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Error {
        Error::internal(error)
    }
}
