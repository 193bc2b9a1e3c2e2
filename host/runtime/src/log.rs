//! What a plugin writes, by the contract's `log` or to its standard output and error, as lines of the host's
//! log. A call may write only so much; control characters never reach a terminal.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// How severe a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Finer than debugging.
    Trace,
    /// For debugging.
    Debug,
    /// Worth knowing.
    Info,
    /// Worth looking into.
    Warn,
    /// A failure.
    Error,
}

/// The log of one call. Clones write to the same log.
#[derive(Clone)]
pub struct CallLog(Arc<Shared>);

struct Shared {
    /// Model and version, such as `income/3`.
    origin: Arc<str>,
    budget: Mutex<Budget>,
}

struct Budget {
    bytes_left: usize,
    lines_dropped: u64,
}

impl CallLog {
    /// A log whose lines are marked with `origin`, of at most `limit` bytes.
    pub fn new(origin: Arc<str>, limit: usize) -> CallLog {
        CallLog(Arc::new(Shared {
            origin,
            budget: Mutex::new(Budget { bytes_left: limit, lines_dropped: 0 }),
        }))
    }

    /// Writes a message, each of its lines as one line; what goes over the limit is dropped.
    pub fn write(&self, level: LogLevel, message: &str) {
        for line in message.lines() {
            if let Some(allowed) = self.charge(line) {
                emit(level, &self.0.origin, &printable(allowed));
            }
        }
    }

    /// A stream for the plugin's standard output.
    pub fn stdout(&self) -> LogStream {
        LogStream { log: self.clone(), level: LogLevel::Info }
    }

    /// A stream for the plugin's standard error.
    pub fn stderr(&self) -> LogStream {
        LogStream { log: self.clone(), level: LogLevel::Warn }
    }

    /// The part of a line that the budget still covers.
    fn charge<'a>(&self, line: &'a str) -> Option<&'a str> {
        let mut budget = self.0.budget.lock();
        if budget.bytes_left == 0 {
            budget.lines_dropped += 1;
            return None;
        }
        let end = line.floor_char_boundary(budget.bytes_left);
        // An empty line costs too, or there could be endlessly many.
        budget.bytes_left = budget.bytes_left.saturating_sub(line.len().max(1));
        Some(&line[..end])
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let dropped = self.budget.get_mut().lines_dropped;
        if dropped > 0 {
            tracing::warn!(target: "plugin", plugin = &*self.origin, lines = dropped, "log limit of the call exceeded: lines dropped");
        }
    }
}

fn emit(level: LogLevel, origin: &str, line: &str) {
    match level {
        LogLevel::Trace => tracing::trace!(target: "plugin", plugin = origin, "{line}"),
        LogLevel::Debug => tracing::debug!(target: "plugin", plugin = origin, "{line}"),
        LogLevel::Info => tracing::info!(target: "plugin", plugin = origin, "{line}"),
        LogLevel::Warn => tracing::warn!(target: "plugin", plugin = origin, "{line}"),
        LogLevel::Error => tracing::error!(target: "plugin", plugin = origin, "{line}"),
    }
}

fn printable(line: &str) -> String {
    line.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// A standard stream of a plugin.
#[derive(Clone)]
pub struct LogStream {
    log: CallLog,
    level: LogLevel,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only used by later versions of WASI, which are not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(LineWriter { log: self.log.clone(), level: self.level, unfinished: Vec::new() })
    }
}

/// Longer lines are cut into pieces of this many bytes.
const MAX_LINE_BYTES: usize = 4096;

/// Collects what a plugin writes until a line is whole.
struct LineWriter {
    log: CallLog,
    level: LogLevel,
    unfinished: Vec<u8>,
}

impl LineWriter {
    fn write_out(&mut self) {
        if !self.unfinished.is_empty() {
            self.log.write(self.level, &String::from_utf8_lossy(&self.unfinished));
            self.unfinished.clear();
        }
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.write_out();
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LineWriter {
    async fn ready(&mut self) {}
}

impl OutputStream for LineWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.unfinished.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.unfinished.len() >= MAX_LINE_BYTES {
                self.write_out();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_LINE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_writes_only_so_much() {
        let log = CallLog::new("m/1".into(), 10);
        assert_eq!(log.charge("12345"), Some("12345"));
        assert_eq!(log.charge("é67890"), Some("é678"));
        assert_eq!(log.charge("x"), None);
        assert_eq!(log.0.budget.lock().lines_dropped, 1);
    }

    #[test]
    fn control_characters_are_blanked() {
        assert_eq!(printable("a\u{1b}[31mb"), "a [31mb");
    }
}
