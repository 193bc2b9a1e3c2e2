//! What the end-to-end tests are written with: a real `modelhost` process with a folder of its own, a plain HTTP
//! client, and components and networks made to measure. Nothing of the host's own crates is used here, so that a
//! mistake in them cannot hide itself.

#![allow(
    clippy::unwrap_used,
    reason = "what a test stands on has to be there: its absence is the test's failure"
)]

pub mod artifacts;
pub mod component;
pub mod folder;
pub mod form;
pub mod guest;
pub mod host;
pub mod http;
pub mod inference;
pub mod object_store;
pub mod onnx;
pub mod process;
pub mod small_disk;
pub mod table;
