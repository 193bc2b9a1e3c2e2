//! Checksums of parts of a file, taken while it is written.

use std::io::{self, Write};

use crc32fast::Hasher;

/// Passes bytes on, and knows the checksum of those since it was last asked.
pub(super) struct Checksummed<W> {
    inner: W,
    hasher: Hasher,
}

impl<W> Checksummed<W> {
    pub(super) fn new(inner: W) -> Checksummed<W> {
        Checksummed { inner, hasher: Hasher::new() }
    }

    /// The checksum of what was written since the last call.
    pub(super) fn take(&mut self) -> u32 {
        std::mem::take(&mut self.hasher).finalize()
    }
}

impl<W: Write> Write for Checksummed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
