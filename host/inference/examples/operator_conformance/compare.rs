//! Whether outputs are what they should be, to the accuracy of their type.

use modelhost_core::{Datatype, Tensor, TensorDescription};

/// # Errors
/// The first difference.
pub fn compare(
    actual: &[Tensor],
    expected: &[Tensor],
    described: &[TensorDescription],
) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} outputs instead of {}", actual.len(), expected.len()));
    }
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        described[index].check("output", actual).map_err(|error| error.to_string())?;
        compare_tensor(actual, expected).map_err(|difference| format!("output {index}: {difference}"))?;
    }
    Ok(())
}

fn compare_tensor(actual: &Tensor, expected: &Tensor) -> Result<(), String> {
    if actual.datatype() != expected.datatype() {
        return Err(format!("{} instead of {}", actual.datatype(), expected.datatype()));
    }
    if actual.shape() != expected.shape() {
        return Err(format!("shape {:?} instead of {:?}", actual.shape(), expected.shape()));
    }
    let (absolute, relative) = match actual.datatype() {
        Datatype::Fp16 => (1e-3, 5e-3),
        Datatype::Fp32 => (1e-5, 1e-3),
        Datatype::Fp64 => (1e-7, 1e-5),
        _ if actual.data() == expected.data() => return Ok(()),
        datatype => return Err(format!("{datatype} {:?} instead of {:?}", start(actual), start(expected))),
    };
    for (index, (actual, expected)) in floats(actual).zip(floats(expected)).enumerate() {
        let is_same = actual == expected || (actual.is_nan() && expected.is_nan());
        // Against an infinite expectation every finite value would be within the relative tolerance.
        let is_close =
            expected.is_finite() && (actual - expected).abs() <= absolute + relative * expected.abs();
        if !is_same && !is_close {
            return Err(format!("element {index} is {actual} instead of {expected}"));
        }
    }
    Ok(())
}

fn start(tensor: &Tensor) -> &[u8] {
    &tensor.data()[..tensor.data().len().min(16)]
}

fn floats(tensor: &Tensor) -> Box<dyn Iterator<Item = f64> + '_> {
    let data = tensor.data();
    match tensor.datatype() {
        Datatype::Fp16 => {
            Box::new(data.as_chunks::<2>().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f64()))
        }
        Datatype::Fp32 => {
            Box::new(data.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))))
        }
        _ => Box::new(data.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes))),
    }
}
