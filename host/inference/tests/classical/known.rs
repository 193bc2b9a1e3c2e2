//! What is refused, and why.

/// Cases with an operator that this engine does not run.
pub const REFUSED: &[&str] = &[];
