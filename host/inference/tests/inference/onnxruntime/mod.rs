//! The engine ONNX Runtime, on graphs that the tests make themselves. The library is the one that MODELHOST_ONNXRUNTIME
//! names, or that is found in the usual places; `off` there leaves these tests out, which each of them says.

mod both_engines;
mod control_flow;
mod hostile;
mod limits;
mod loading;
mod values;

use std::sync::Arc;

use modelhost_core::Tensor;
use modelhost_inference::{Engine, ExecutableGraph, LoadError, OnnxRuntimeEngine, RunError};

use crate::onnxruntime_library::engine;
use crate::values::limits;

/// Runs the rest of a test with the engine, or leaves it out where that was asked for.
macro_rules! engine_or_return {
    () => {
        match $crate::onnxruntime_library::engine() {
            Some(engine) => engine,
            None => return,
        }
    };
}
pub(crate) use engine_or_return;

fn load(engine: &OnnxRuntimeEngine, onnx: &[u8]) -> Arc<dyn ExecutableGraph> {
    engine.load(onnx).unwrap_or_else(|error| panic!("{error}"))
}

fn load_error(engine: &OnnxRuntimeEngine, onnx: &[u8]) -> LoadError {
    match engine.load(onnx) {
        Ok(_) => panic!("the graph was loaded"),
        Err(error) => error,
    }
}

fn run(engine: &OnnxRuntimeEngine, onnx: &[u8], inputs: Vec<Tensor>) -> Result<Vec<Tensor>, RunError> {
    load(engine, onnx).run(inputs, &limits())
}
