//! The engine, the cache and the executor together, on graphs that the tests make themselves.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod batching;
mod cache;
mod copies;
mod execution;
mod external_data;
mod gathering;
mod hostile;
mod independence;
mod interleaving;
mod loading;
mod onnx;
mod onnxruntime;
mod onnxruntime_library;
mod operators;
mod running;
mod scripted;
mod texts;
mod trees;
mod values;
