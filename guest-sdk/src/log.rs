//! Lines in the host's log, which marks them with the model and the version. Outside the host they go to
//! standard error, so that a test shows them.

use std::fmt;

/// How much a line of the log matters.
///
/// ```
/// modelhost_guest::log(modelhost_guest::Level::Warn, format_args!("{} unknown words", 3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For following one request through the code.
    Trace,
    /// For finding a mistake.
    Debug,
    /// Worth knowing in ordinary operation.
    Info,
    /// The answer is given, but something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

/// Writes one line; usually through [`trace!`](crate::trace!), [`debug!`](crate::debug!), [`info!`](crate::info!),
/// [`warn!`](crate::warn!) or [`error!`](crate::error!). The host cuts long lines, and drops lines past the limit
/// of a call.
///
/// ```
/// use modelhost_guest::{Level, log};
///
/// let level = if cfg!(debug_assertions) { Level::Info } else { Level::Debug };
/// log(level, format_args!("{} rows", 2));
/// ```
pub fn log(level: Level, message: fmt::Arguments<'_>) {
    write(level, message);
}

#[cfg(target_arch = "wasm32")]
fn write(level: Level, message: fmt::Arguments<'_>) {
    use crate::bindings::modelhost::plugin::logging;

    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
    };
    match message.as_str() {
        Some(message) => logging::log(level, message),
        None => logging::log(level, &message.to_string()),
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, message: fmt::Arguments<'_>) {
    eprintln!("{level:?}: {message}");
}

/// Logs what follows one request through the code; takes what `format!` takes.
///
/// ```
/// modelhost_guest::trace!("token {} is {:?}", 3, "the");
/// ```
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => { $crate::log($crate::Level::Trace, ::core::format_args!($($message)+)) };
}

/// Logs what helps to find a mistake; takes what `format!` takes.
///
/// ```
/// modelhost_guest::debug!("{} of {} words are known", 7, 9);
/// ```
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log($crate::Level::Debug, ::core::format_args!($($message)+)) };
}

/// Logs what is worth knowing in ordinary operation; takes what `format!` takes.
///
/// ```
/// let rows = 12;
/// modelhost_guest::info!("answering {rows} rows");
/// ```
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log($crate::Level::Info, ::core::format_args!($($message)+)) };
}

/// Logs that something is not as it should be though the answer is given; takes what `format!` takes.
///
/// ```
/// modelhost_guest::warn!("occupation {:?} is new: counted as missing", "lighthouse keeper");
/// ```
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log($crate::Level::Warn, ::core::format_args!($($message)+)) };
}

/// Logs that something failed; takes what `format!` takes.
///
/// ```
/// modelhost_guest::error!("the vocabulary is empty");
/// ```
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log($crate::Level::Error, ::core::format_args!($($message)+)) };
}
