//! What the training script settled, as constants that `build.rs` makes of `preprocessing.json`. Knows nothing of
//! how they are applied.

include!(concat!(env!("OUT_DIR"), "/parameters.rs"));
