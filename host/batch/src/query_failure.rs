//! What a query that failed means for whoever asked: DataFusion wraps what the readers of files, the object stores, the
//! disk and this crate say in errors of its own. One place tells them apart, so that the same failure has the same
//! status wherever it is met.

use std::error::Error as StdError;
use std::io;
use std::panic::AssertUnwindSafe;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use futures_util::FutureExt as _;
use modelhost_core::ErrorCode;
use parquet::errors::ParquetError;
use tokio::task::JoinError;

use crate::Error;
use crate::datasets::Changed;

/// Longest part of a sentence that comes from a library.
const MAX_QUOTED: usize = 300;

/// What is behind the failure of a query.
pub(crate) enum Cause {
    /// A source said it in this crate's own words.
    Said(Error),
    /// What is read is not what was recorded.
    Changed(String),
    /// The disk is full on which queries put what does not fit.
    StorageFull,
    /// There is not as much memory, or room for what does not fit, as queries may have.
    Exhausted,
    /// An object store, or the disk.
    Unreachable,
    /// Values that cannot be read, or not worked with.
    Data(String),
    /// Anything else.
    Other,
}

impl Cause {
    /// The first cause in the chain that says what is behind.
    pub(crate) fn of(error: &DataFusionError) -> Cause {
        let mut found = Cause::Other;
        let mut next: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = next {
            match Cause::of_one(error) {
                Cause::Other => {}
                // What it wraps may say more: a reader passes on what its store says.
                cause @ (Cause::Data(_) | Cause::Unreachable) => {
                    if matches!(found, Cause::Other | Cause::Data(_)) {
                        found = cause;
                    }
                }
                cause => return cause,
            }
            next = wrapped(error);
        }
        found
    }

    fn of_one(error: &(dyn StdError + 'static)) -> Cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            return Cause::Said(error.clone());
        }
        if let Some(changed) = error.downcast_ref::<Changed>() {
            return Cause::Changed(changed.to_string());
        }
        if let Some(DataFusionError::ResourcesExhausted(_)) = error.downcast_ref() {
            return Cause::Exhausted;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::StorageFull,
                _ if error.get_ref().is_some() => Cause::Other,
                _ => Cause::Unreachable,
            };
        }
        if error.downcast_ref::<JoinError>().is_some_and(JoinError::is_panic) {
            return Cause::Data("what reads its files panicked".to_owned());
        }
        if error.is::<object_store::Error>() {
            return Cause::Unreachable;
        }
        let is_data = error.is::<ParquetError>() || error.is::<ArrowError>();
        if is_data { Cause::Data(quoted(error)) } else { Cause::Other }
    }
}

/// What an error wraps. One of the system says what the error says that it wraps wraps, and not that one.
fn wrapped<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// The failure of a query over `what`, such as `dataset income@3`.
pub(crate) fn query_failure(what: &str, error: &DataFusionError) -> Error {
    let cannot = |code, reason: &str| Error::new(code, format!("{what} cannot be read: {reason}"));
    match Cause::of(error) {
        Cause::Said(error) => error,
        Cause::Changed(changed) => cannot(ErrorCode::Conflict, &changed),
        Cause::StorageFull => Error::storage_full(),
        Cause::Exhausted => exhausted(what),
        Cause::Unreachable => {
            tracing::warn!(what, %error, "the files of a dataset cannot be reached");
            cannot(
                ErrorCode::Unavailable,
                "the store of its files does not answer as it should; try again later",
            )
        }
        Cause::Data(reason) => cannot(ErrorCode::Unprocessable, &reason),
        Cause::Other => Error::internal(format!("{what} cannot be read: {error}")),
    }
}

/// Runs a query over `what`. Readers of files panic where a page is not what the footer says of it, which is the fault of
/// whoever made the file.
///
/// # Errors
/// What the query answers; [`ErrorCode::Unprocessable`] where it panics.
pub(crate) async fn reading<T>(
    what: &str,
    query: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let answer = AssertUnwindSafe(query).catch_unwind().await;
    answer.unwrap_or_else(|_| Err(damaged(what)))
}

/// What is read is not what its footer says of it.
pub(crate) fn damaged(what: &str) -> Error {
    tracing::warn!(what, "the reader of the files of a dataset panicked");
    Error::new(ErrorCode::Unprocessable, format!("{what} cannot be read: its files are damaged"))
}

/// More than queries may have, over all of them.
pub(crate) fn exhausted(what: &str) -> Error {
    let sentence = format!(
        "{what} needs more memory or room on the disk than batch.query_memory_bytes and batch.max_spill_bytes leave now"
    );
    Error::new(ErrorCode::Unavailable, sentence)
}

/// The beginning of what an error says, in one line.
pub(crate) fn quoted(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(MAX_QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;

    use super::*;

    fn code(error: DataFusionError) -> ErrorCode {
        query_failure("dataset d@1", &error.context("somewhere")).code
    }

    fn of_store(source: impl Into<Box<dyn StdError + Send + Sync>>) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: source.into() }
    }

    #[test]
    fn each_failure_has_a_status_of_its_own() {
        let parquet = || ParquetError::General("a page is cut off".into());
        let through = |error: object_store::Error| ParquetError::External(Box::new(error));
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let replaced = || Changed::Replaced { path: Path::from("a.parquet") };
        let said = Error::new(ErrorCode::NotFound, "it is gone");
        for (error, expected) in [
            (DataFusionError::from(parquet()), ErrorCode::Unprocessable),
            (ArrowError::CastError("no number".into()).into(), ErrorCode::Unprocessable),
            (ArrowError::ExternalError(Box::new(parquet())).into(), ErrorCode::Unprocessable),
            (through(of_store("secret-host refused")).into(), ErrorCode::Unavailable),
            (of_store("secret-host refused").into(), ErrorCode::Unavailable),
            (through(of_store(replaced())).into(), ErrorCode::Conflict),
            (of_store(replaced()).into(), ErrorCode::Conflict),
            (full().into(), ErrorCode::StorageFull),
            (ArrowError::IoError(String::new(), full()).into(), ErrorCode::StorageFull),
            (io::Error::other(DataFusionError::from(of_store(replaced()))).into(), ErrorCode::Conflict),
            (io::Error::other(ParquetError::from(full())).into(), ErrorCode::StorageFull),
            (io::Error::from(io::ErrorKind::ConnectionReset).into(), ErrorCode::Unavailable),
            (DataFusionError::ResourcesExhausted("memory".into()), ErrorCode::Unavailable),
            (DataFusionError::External(Box::new(said)), ErrorCode::NotFound),
            (DataFusionError::Internal("a bug".into()), ErrorCode::Internal),
        ] {
            let shown = error.to_string();
            assert_eq!(code(error), expected, "{shown}");
        }
        let hidden = query_failure("dataset d@1", &of_store("secret-host refused").into());
        assert!(!hidden.message.contains("secret"), "{hidden}");
    }
}
