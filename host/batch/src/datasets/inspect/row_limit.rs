//! A reader that fails where a row is longer than rows may be, so that nothing that collects a row grows without end.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::MAX_ROW_BYTES;

/// What is read ahead of the row that is looked at.
const READ_AHEAD: u64 = 64 << 10;

/// Reads, and counts since the last row began.
pub(super) struct RowLimit<R> {
    inner: R,
    since_row: Rc<Cell<u64>>,
}

/// Tells a [`RowLimit`] that a row ended.
pub(super) struct RowEnds(Rc<Cell<u64>>);

impl<R: Read> RowLimit<R> {
    pub(super) fn new(inner: R) -> (RowLimit<R>, RowEnds) {
        let since_row = Rc::new(Cell::new(0));
        (RowLimit { inner, since_row: since_row.clone() }, RowEnds(since_row))
    }
}

impl RowEnds {
    pub(super) fn row_ended(&self) {
        self.0.set(0);
    }
}

impl<R: Read> Read for RowLimit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since_row.get() > MAX_ROW_BYTES + READ_AHEAD {
            let reason = format!("it is longer than {MAX_ROW_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let length = self.inner.read(buffer)?;
        self.since_row.set(self.since_row.get() + length as u64);
        Ok(length)
    }
}
