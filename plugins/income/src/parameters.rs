//! What the training script measured, as constants that `build.rs` makes of `preprocessing.json`. Knows nothing of
//! how they are applied.

/// A column of numbers.
pub(crate) struct Numeric {
    pub(crate) name: &'static str,
    /// Stands in for a missing number.
    pub(crate) median: f64,
    /// Whether ln(1 + x) comes before the scaling.
    pub(crate) log1p: bool,
    pub(crate) mean: f64,
    pub(crate) std: f64,
}

/// A column of names, one-hot encoded.
pub(crate) struct Categorical {
    pub(crate) name: &'static str,
    /// Stands in for a missing name.
    pub(crate) most_frequent: &'static str,
    /// Sorted; in the order of the features.
    pub(crate) categories: &'static [&'static str],
}

include!(concat!(env!("OUT_DIR"), "/parameters.rs"));
