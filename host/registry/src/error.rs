//! Everything that can go wrong with the registry, and whose fault it is.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use modelhost_core::ErrorCode;

/// Why the registry did not do what it was asked to. Messages whose code is a client's fault name no paths.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The thing named does not exist.
    #[error("{what} does not exist")]
    NotFound {
        /// Such as `version 3 of model "income"`.
        what: String,
    },
    /// The state of the model forbids the change; a sentence.
    #[error("{0}")]
    Conflict(String),
    /// Somebody else changed the thing since the caller read it.
    #[error("it has been changed by somebody else: generation {expected} was expected, it is at {actual}")]
    PreconditionFailed {
        /// What the caller read.
        expected: u64,
        /// What it is now.
        actual: u64,
    },
    /// A division of traffic that cannot be deployed; a sentence.
    #[error("{0}")]
    InvalidTraffic(String),
    /// A version whose component or graph was not stored first, or a settings key that is no plain name.
    #[error("{0}")]
    Misuse(String),
    /// A change failed in a way that leaves open whether it is on the disk; only a restart can tell.
    #[error("the registry stopped accepting changes after a failed write: restart modelhost")]
    Stopped,
    /// Another process uses the data folder.
    #[error("the data folder {} is in use by another modelhost", path.display())]
    InUse {
        /// The data folder.
        path: PathBuf,
    },
    /// Written by a newer modelhost, in a form that this one does not know.
    #[error("{what} has format {found}, and this modelhost knows format {known} only: use a newer modelhost")]
    NewerFormat {
        /// Such as `the registry`.
        what: String,
        /// The number found.
        found: u64,
        /// The number known.
        known: u64,
    },
    /// Files that contradict themselves or each other; a sentence.
    #[error("{0}; stop modelhost and run `modelhost check --rebuild`")]
    Corrupt(String),
    /// The file system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// Such as `write`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The key-value store refused.
    #[error("cannot {doing} the registry's store")]
    Storage {
        /// Such as `read`.
        doing: &'static str,
        /// The reason.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl RegistryError {
    /// The kind of failure, for HTTP and metrics.
    pub fn code(&self) -> ErrorCode {
        match self {
            RegistryError::NotFound { .. } => ErrorCode::NotFound,
            RegistryError::Conflict(_) => ErrorCode::Conflict,
            RegistryError::PreconditionFailed { .. } => ErrorCode::PreconditionFailed,
            RegistryError::InvalidTraffic(_) => ErrorCode::InvalidArgument,
            RegistryError::Stopped | RegistryError::InUse { .. } => ErrorCode::Unavailable,
            RegistryError::Io { source, .. } if is_full(source) => ErrorCode::StorageFull,
            RegistryError::Storage { source, .. }
                if source.downcast_ref::<io::Error>().is_some_and(is_full) =>
            {
                ErrorCode::StorageFull
            }
            RegistryError::Misuse(_)
            | RegistryError::NewerFormat { .. }
            | RegistryError::Corrupt(_)
            | RegistryError::Io { .. }
            | RegistryError::Storage { .. } => ErrorCode::Internal,
        }
    }
}

/// Whether there is no room left, or none for this user.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Says what was done to which file when it failed.
pub(crate) trait IoContext<T> {
    /// `doing` completes the sentence "cannot … PATH".
    fn when(self, doing: &'static str, path: &Path) -> Result<T, RegistryError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn when(self, doing: &'static str, path: &Path) -> Result<T, RegistryError> {
        self.map_err(|source| RegistryError::Io { doing, path: path.to_owned(), source })
    }
}
