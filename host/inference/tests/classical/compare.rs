//! Whether a tensor is what it should be.

use modelhost_core::{Datatype, Tensor};

/// Numbers may differ by this, and by this times the expected number: ONNX Runtime adds in another order.
const TOLERANCE: f64 = 1e-5;

pub fn compare(actual: &Tensor, expected: &Tensor) -> Result<(), String> {
    if actual.datatype() != expected.datatype() {
        return Err(format!("{} instead of {}", actual.datatype(), expected.datatype()));
    }
    if actual.shape() != expected.shape() {
        return Err(format!("shape {:?} instead of {:?}", actual.shape(), expected.shape()));
    }
    match actual.datatype() {
        Datatype::Fp32 | Datatype::Fp64 => compare_numbers(&numbers(actual), &numbers(expected)),
        Datatype::Bytes => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let mut pairs = actual.bytes_elements().zip(expected.bytes_elements());
            match pairs.find(|(actual, expected)| actual != expected) {
                Some((actual, expected)) => Err(format!("{:?} instead of {:?}", text(actual), text(expected))),
                None => Ok(()),
            }
        }
        _ if actual.data() == expected.data() => Ok(()),
        Datatype::Int64 => Err(format!("{:?} instead of {:?}", integers(actual), integers(expected))),
        _ => Err(format!("{:?} instead of {:?}", actual.data(), expected.data())),
    }
}

fn compare_numbers(actual: &[f64], expected: &[f64]) -> Result<(), String> {
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let is_same = actual == expected || (actual.is_nan() && expected.is_nan());
        let is_close = expected.is_finite() && (actual - expected).abs() <= TOLERANCE * (1.0 + expected.abs());
        if !is_same && !is_close {
            return Err(format!("element {index} is {actual} instead of {expected}"));
        }
    }
    Ok(())
}

fn integers(tensor: &Tensor) -> Vec<i64> {
    tensor.data().as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let data = tensor.data();
    match tensor.datatype() {
        Datatype::Fp32 => data.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
        _ => data.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
    }
}
