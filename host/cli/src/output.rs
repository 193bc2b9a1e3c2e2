//! Standard output. A reader that has seen enough (`modelhost models | head`) ends the output, not with an error.

use std::io::{self, Write as _};

use anyhow::Context as _;

use crate::failure::Failure;

/// Prints this text, ending in one newline.
///
/// # Errors
/// Where standard output cannot be written, unless its reader has gone.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("cannot write to standard output")?),
    }
}
