//! Shows how an upload goes on: bytes on their way, then the host at work. A bar on a terminal, plain lines
//! elsewhere, all on standard error.

use std::io::{self, Read};
use std::time::Duration;

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

/// The display of one upload; gone from the terminal when it is dropped.
pub struct UploadProgress {
    bar: ProgressBar,
    length: u64,
    afterwards: &'static str,
}

impl UploadProgress {
    /// Begins to show an upload of `length` bytes. `afterwards` says what the host does with them.
    pub fn start(name: &str, length: u64, afterwards: &'static str) -> UploadProgress {
        let bar = ProgressBar::new(length);
        bar.set_style(style("{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}"));
        bar.set_message(format!("sending {name}"));
        if bar.is_hidden() {
            eprintln!("sending {name} ({})", BinaryBytes(length));
        }
        UploadProgress { bar, length, afterwards }
    }

    /// The bytes, counted as they are read.
    pub fn watch<'a>(&'a self, bytes: &'a mut dyn Read) -> WatchedBytes<'a> {
        WatchedBytes { progress: self, bytes, sent: 0 }
    }

    fn all_is_sent(&self) {
        self.bar.set_style(style("{spinner} {msg} {elapsed}"));
        self.bar.set_message(self.afterwards);
        self.bar.enable_steady_tick(Duration::from_millis(120));
        if self.bar.is_hidden() {
            eprintln!("{}", self.afterwards);
        }
    }
}

impl Drop for UploadProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The bytes of an upload on their way.
pub struct WatchedBytes<'a> {
    progress: &'a UploadProgress,
    bytes: &'a mut dyn Read,
    sent: u64,
}

impl Read for WatchedBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.sent += count as u64;
        self.progress.bar.set_position(self.sent);
        if count > 0 && self.sent == self.progress.length {
            self.progress.all_is_sent();
        }
        Ok(count)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
