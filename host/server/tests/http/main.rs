//! The server on a real socket, with a host that has no models yet: what HTTP itself must get right.

#![allow(clippy::unwrap_used, reason = "in a test a panic is how a failure is told")]

mod client;
mod limits;
mod protocol;
mod shutdown;
