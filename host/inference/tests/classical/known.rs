//! What is refused, and why.

/// Cases with an operator that this engine does not run: shapes that depend on values, and functions of the model's own.
pub const REFUSED: &[&str] = &["impute-knn"];
