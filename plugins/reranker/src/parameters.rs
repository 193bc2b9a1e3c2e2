//! The items of the recommender, sorted by name, and how many are offered unless the client says otherwise.

include!(concat!(env!("OUT_DIR"), "/parameters.rs"));
