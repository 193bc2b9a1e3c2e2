//! Standard error, as the log writes to it. The line of a request waits a moment for those of others, and they are
//! written together: a busy host would spend a twentieth of its time on writing each by itself. Every other line is
//! written at once, behind those that wait. Knows nothing about what lines say.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use std::{mem, thread};

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long the line of a request may wait: what a killed process has not written is no older.
const PATIENCE: Duration = Duration::from_millis(10);
/// More than this is not held back.
const MOST_WAITING_BYTES: usize = 256 << 10;
/// The target of the lines of requests, and of no other event.
const OF_REQUESTS: &str = "modelhost::request";

/// Where the log goes. Copies write to the same place.
#[derive(Clone)]
pub struct LogWriter(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    lines: Mutex<Vec<u8>>,
    is_any: Condvar,
}

impl LogWriter {
    /// Starts the thread that writes what waits.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start() -> io::Result<LogWriter> {
        let waiting = Arc::new(Waiting::default());
        let served = Arc::clone(&waiting);
        thread::Builder::new().name("log".to_owned()).spawn(move || served.write_for_ever())?;
        Ok(LogWriter(waiting))
    }

    /// Writes what waits.
    pub fn flush(&self) {
        self.0.flush();
    }
}

impl Waiting {
    fn write_for_ever(&self) {
        loop {
            let mut lines = self.lines.lock();
            while lines.is_empty() {
                self.is_any.wait(&mut lines);
            }
            drop(lines);
            thread::sleep(PATIENCE);
            self.flush();
        }
    }

    fn flush(&self) {
        // Taken first, and held while lines are taken and written, so that they stay in their order.
        let mut output = io::stderr().lock();
        let lines = mem::take(&mut *self.lines.lock());
        // Nobody is left to tell about a log that cannot be written.
        let _ = output.write_all(&lines);
    }

    /// Adds a line; whether it has to be written at once.
    fn add(&self, line: &[u8], may_wait: bool) -> bool {
        let mut lines = self.lines.lock();
        if lines.is_empty() && may_wait {
            self.is_any.notify_one();
        }
        lines.extend_from_slice(line);
        !may_wait || lines.len() > MOST_WAITING_BYTES
    }
}

/// Writes one event.
pub struct EventWriter<'a> {
    waiting: &'a Waiting,
    may_wait: bool,
}

impl Write for EventWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.waiting.add(line, self.may_wait) {
            self.waiting.flush();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = EventWriter<'a>;

    fn make_writer(&'a self) -> EventWriter<'a> {
        EventWriter { waiting: &self.0, may_wait: false }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> EventWriter<'a> {
        let may_wait = event.target() == OF_REQUESTS && *event.level() >= Level::INFO;
        EventWriter { waiting: &self.0, may_wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wait_until_there_are_too_many_or_one_does_not() {
        let waiting = Waiting::default();
        assert!(!waiting.add(b"one\n", true));
        assert!(!waiting.add(b"two\n", true));
        assert!(waiting.add(b"three\n", false));
        assert_eq!(*waiting.lines.lock(), b"one\ntwo\nthree\n");
        assert!(waiting.add(&vec![b' '; MOST_WAITING_BYTES], true));
    }
}
