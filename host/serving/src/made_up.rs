//! Inputs for a graph of which nothing but its description is known: of the right types and shapes, and otherwise of no
//! meaning.

use modelhost_core::{Datatype, Tensor, TensorDescription};
use modelhost_runtime::NamedTensors;

/// A description may ask for any number of bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Inputs in which every free extent is 1. None where they would be large.
pub(crate) fn made_up_inputs(descriptions: &[TensorDescription]) -> Option<NamedTensors> {
    let mut left = MAX_BYTES;
    let named = descriptions.iter().map(|description| {
        let tensor = made_up(description, left)?;
        left = left.checked_sub(tensor.data().len() as u64)?;
        Some((description.name.clone(), tensor))
    });
    named.collect()
}

fn made_up(description: &TensorDescription, max_bytes: u64) -> Option<Tensor> {
    let shape: Vec<u64> =
        description.shape.iter().map(|extent| u64::try_from(*extent).unwrap_or(1)).collect();
    let count = shape.iter().try_fold(1_u64, |product, extent| product.checked_mul(*extent))?;
    // An element of BYTES is a length of four bytes and one character.
    let size = description.datatype.size().map_or(5, |size| size as u64);
    if count.checked_mul(size)? > max_bytes {
        return None;
    }
    let mut data = Vec::new();
    (0..count).for_each(|index| push(description.datatype, index, &mut data));
    Tensor::new(description.datatype, shape, data.into()).ok()
}

/// Numbers between 0 and 1, which are indices that exist where integers are indices.
fn push(datatype: Datatype, index: u64, data: &mut Vec<u8>) {
    let bit = (index % 2) as u8;
    let fraction = (index * 37 % 101) as f32 / 101.0;
    match datatype {
        Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => data.push(bit),
        Datatype::Uint16 | Datatype::Int16 => data.extend(u16::from(bit).to_le_bytes()),
        Datatype::Uint32 | Datatype::Int32 => data.extend(u32::from(bit).to_le_bytes()),
        Datatype::Uint64 | Datatype::Int64 => data.extend(u64::from(bit).to_le_bytes()),
        Datatype::Fp16 => data.extend(half::f16::from_f32(fraction).to_le_bytes()),
        Datatype::Bf16 => data.extend(half::bf16::from_f32(fraction).to_le_bytes()),
        Datatype::Fp32 => data.extend(fraction.to_le_bytes()),
        Datatype::Fp64 => data.extend(f64::from(fraction).to_le_bytes()),
        Datatype::Bytes => data.extend(b"\x01\0\0\0a"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datatype_can_be_made_up() {
        for datatype in Datatype::ALL {
            let description = TensorDescription { name: "x".into(), datatype, shape: vec![-1, 3] };
            let inputs = made_up_inputs(std::slice::from_ref(&description)).unwrap();
            assert_eq!(inputs[0].1.shape(), [1, 3]);
            assert!(description.check("input", &inputs[0].1).is_ok());
        }
    }

    #[test]
    fn what_is_declared_takes_no_memory() {
        let described = |shape: &[i64]| TensorDescription {
            name: "x".into(),
            datatype: Datatype::Fp64,
            shape: shape.to_vec(),
        };
        for shape in [&[i64::MAX][..], &[i64::MAX, i64::MAX], &[1 << 22], &[1 << 31, 1 << 31]] {
            assert!(made_up_inputs(&[described(shape)]).is_none(), "{shape:?}");
        }
        assert!(made_up_inputs(&[described(&[1 << 20]), described(&[1 << 20])]).is_some());
        assert!(made_up_inputs(&[described(&[1 << 20]), described(&[1 << 20]), described(&[1])]).is_none());
    }
}
