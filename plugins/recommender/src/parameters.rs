//! The items, sorted by name, and how many are offered unless the client says otherwise: constants that `build.rs`
//! makes of `preprocessing.json`. Knows nothing of baskets.

include!(concat!(env!("OUT_DIR"), "/parameters.rs"));
