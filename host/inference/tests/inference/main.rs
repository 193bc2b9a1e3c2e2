//! The engine, the cache and the executor together, on graphs that the tests make themselves.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod cache;
mod copies;
mod execution;
mod hostile;
mod loading;
mod onnx;
mod operators;
mod running;
mod values;
