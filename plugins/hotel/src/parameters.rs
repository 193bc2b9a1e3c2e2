//! The columns and categories that the training script found, as constants that `build.rs` makes of
//! `preprocessing.json`. Knows nothing of how they are applied.

/// A column of names, one-hot encoded.
pub(crate) struct Categorical {
    pub(crate) name: &'static str,
    /// Sorted; in the order of the features.
    pub(crate) categories: &'static [&'static str],
}

include!(concat!(env!("OUT_DIR"), "/parameters.rs"));
