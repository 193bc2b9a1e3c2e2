//! The engine, the cache and the executor together, on graphs that the tests make themselves.

mod cache;
mod execution;
mod hostile;
mod loading;
mod onnx;
mod operators;
mod running;
mod values;
