//! How far the answers of two engines are apart. Engines add up in different orders, so floating-point numbers may
//! differ a little, as much as the list of trusted operators was made with; all else has to be the same.

use modelhost_core::{Datatype, Tensor};

/// What is tolerated of a datatype: absolute, and relative to the larger number.
#[derive(Clone, Copy)]
struct Tolerance {
    absolute: f64,
    relative: f64,
}

/// How far two tensors are apart at most, as a multiple of what is tolerated: up to 1 they are taken for equal.
///
/// # Errors
/// A sentence where they cannot be compared number by number, or have to be the same and are not.
pub(crate) fn difference(expected: &Tensor, actual: &Tensor) -> Result<f64, String> {
    let (datatype, other) = (expected.datatype(), actual.datatype());
    if datatype != other {
        return Err(format!("one answers {datatype}, the other {other}"));
    }
    if expected.shape() != actual.shape() {
        return Err(format!("one answers shape {:?}, the other {:?}", expected.shape(), actual.shape()));
    }
    match (tolerance(datatype), numbers(expected), numbers(actual)) {
        (Some(tolerance), Some(expected), Some(actual)) => {
            Ok(expected.iter().zip(&actual).map(|(a, b)| tolerance.multiple(*a, *b)).fold(0.0, f64::max))
        }
        _ if expected.data() == actual.data() => Ok(0.0),
        _ => Err(format!("elements of {datatype} differ")),
    }
}

impl Tolerance {
    fn multiple(self, a: f64, b: f64) -> f64 {
        if a == b || a.is_nan() && b.is_nan() {
            return 0.0;
        }
        let apart = (a - b).abs() / (self.absolute + self.relative * a.abs().max(b.abs()));
        // Of infinities, and where only one is a number.
        if apart.is_finite() { apart } else { f64::INFINITY }
    }
}

fn tolerance(datatype: Datatype) -> Option<Tolerance> {
    let (absolute, relative) = match datatype {
        Datatype::Fp32 => (1e-5, 1e-3),
        Datatype::Fp64 => (1e-7, 1e-5),
        Datatype::Fp16 => (1e-3, 5e-3),
        Datatype::Bf16 => (1e-2, 1e-2),
        _ => return None,
    };
    Some(Tolerance { absolute, relative })
}

fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    let data = tensor.data();
    Some(match tensor.datatype() {
        Datatype::Fp16 => each(data, |bytes| half::f16::from_le_bytes(bytes).to_f64()),
        Datatype::Bf16 => each(data, |bytes| half::bf16::from_le_bytes(bytes).to_f64()),
        Datatype::Fp32 => each(data, |bytes| f32::from_le_bytes(bytes).into()),
        Datatype::Fp64 => each(data, f64::from_le_bytes),
        _ => return None,
    })
}

fn each<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    data.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(Datatype::Fp32, vec![values.len() as u64], data.into()).unwrap()
    }

    fn integers(values: &[u8]) -> Tensor {
        Tensor::new(Datatype::Uint8, vec![values.len() as u64], values.to_vec().into()).unwrap()
    }

    #[test]
    fn floating_point_numbers_may_differ_a_little() {
        let apart = |a: &[f32], b: &[f32]| difference(&floats(a), &floats(b)).unwrap();
        assert_eq!(apart(&[1.0, f32::NAN, f32::INFINITY], &[1.0, f32::NAN, f32::INFINITY]), 0.0);
        assert!(apart(&[1.0, 1000.0], &[1.0005, 1000.5]) < 1.0);
        assert!(apart(&[1.0], &[1.01]) > 1.0);
        assert!(apart(&[0.0], &[9e-6]) < 1.0);
        assert_eq!(apart(&[f32::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(apart(&[f32::INFINITY], &[f32::NEG_INFINITY]), f64::INFINITY);
    }

    #[test]
    fn all_else_is_the_same_or_not() {
        assert_eq!(difference(&integers(&[1, 2]), &integers(&[1, 2])), Ok(0.0));
        assert!(difference(&integers(&[1, 2]), &integers(&[1, 3])).is_err());
        assert!(difference(&integers(&[1]), &floats(&[1.0])).unwrap_err().contains("UINT8"));
        assert!(difference(&floats(&[1.0]), &floats(&[1.0, 1.0])).unwrap_err().contains("shape"));
    }
}
