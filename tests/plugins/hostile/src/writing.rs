//! Writing more than anybody wants to read.

use std::io::Write as _;

/// As many lines through the contract's log; without end where it is 0.
pub fn log(lines: usize) {
    let mut written = 0;
    while lines == 0 || written < lines {
        modelhost_guest::info!("flood {written} {}", "x".repeat(80));
        written += 1;
    }
}

/// As many lines on standard output.
pub fn print(lines: usize) {
    for line in 0..lines {
        println!("flood {line} {}", "x".repeat(80));
    }
}

/// As many MiB on standard error, without a single line's end.
pub fn print_without_end(mebibytes: usize) {
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..mebibytes {
        // Whoever reads it may have had enough.
        let _ = std::io::stderr().write_all(&piece);
    }
}
