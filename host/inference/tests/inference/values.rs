//! Tensors and runs in one line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use modelhost_core::{Datatype, Tensor};
use modelhost_inference::{Engine, ExecutableGraph, LoadError, RunError, RunLimits, TractEngine};

pub fn floats(shape: &[u64], values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(Datatype::Fp32, shape.to_vec(), data.into()).unwrap()
}

pub fn integers(shape: &[u64], values: &[i64]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(Datatype::Int64, shape.to_vec(), data.into()).unwrap()
}

pub fn zeros(datatype: Datatype, shape: &[u64]) -> Tensor {
    let bytes = shape.iter().product::<u64>() as usize * datatype.size().unwrap();
    Tensor::new(datatype, shape.to_vec(), vec![0; bytes].into()).unwrap()
}

pub fn to_floats(tensor: &Tensor) -> Vec<f32> {
    assert_eq!(tensor.datatype(), Datatype::Fp32);
    tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

pub fn to_integers(tensor: &Tensor) -> Vec<i64> {
    assert_eq!(tensor.datatype(), Datatype::Int64);
    tensor.data().as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

pub fn limits() -> RunLimits {
    RunLimits::new(Instant::now() + Duration::from_secs(60), 1 << 30)
}

pub fn load(onnx: &[u8]) -> Result<Arc<dyn ExecutableGraph>, LoadError> {
    TractEngine::new().load(onnx)
}

pub fn run(onnx: &[u8], inputs: Vec<Tensor>) -> Result<Vec<Tensor>, RunError> {
    load(onnx).unwrap().run(inputs, &limits())
}

/// The sentence of the error that loading must give.
pub fn load_error(onnx: &[u8]) -> String {
    match load(onnx) {
        Ok(_) => panic!("the graph was loaded"),
        Err(error) => error.to_string(),
    }
}
