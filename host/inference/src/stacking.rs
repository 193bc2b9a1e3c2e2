//! Rows of several calls in one tensor, and back: along the first dimension, in order. Knows tensors and nothing else.

use std::ops::Range;

use bytes::Bytes;
use modelhost_core::{Datatype, InvalidTensor, Tensor};

/// The rows that these inputs bring to a shared run; none where they cannot share one: no inputs, a scalar among them,
/// different first extents, or no rows.
pub(crate) fn rows(inputs: &[Tensor]) -> Option<u64> {
    let mut extents = inputs.iter().map(|input| input.shape().first().copied());
    let first = extents.next()??;
    (first > 0 && extents.all(|extent| extent == Some(first))).then_some(first)
}

/// Whether the inputs of two calls differ in nothing but values and the number of rows.
pub(crate) fn fit(left: &[Tensor], right: &[Tensor]) -> bool {
    let alike = |left: &Tensor, right: &Tensor| {
        left.datatype() == right.datatype()
            && left.shape().get(1..).is_some_and(|row| right.shape().get(1..) == Some(row))
    };
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| alike(left, right))
}

/// One tensor for each input, with the rows of all calls in their order. Copies every element once.
///
/// # Errors
/// Tensors that do not [`fit`], or more rows than a tensor can have.
pub(crate) fn stack(calls: &[&[Tensor]]) -> Result<Vec<Tensor>, InvalidTensor> {
    let inputs = calls.first().map_or(0, |inputs| inputs.len());
    (0..inputs)
        .map(|index| {
            let parts: Vec<&Tensor> = calls.iter().filter_map(|inputs| inputs.get(index)).collect();
            concatenated(&parts)
        })
        .collect()
}

fn concatenated(parts: &[&Tensor]) -> Result<Tensor, InvalidTensor> {
    let Some(first) = parts.first() else { return Tensor::new(Datatype::Uint8, vec![0], Bytes::new()) };
    let mut shape = first.shape().to_vec();
    let rows = parts.iter().filter_map(|part| part.shape().first());
    let rows = rows.fold(0_u64, |sum, rows| sum.saturating_add(*rows));
    if let Some(extent) = shape.first_mut() {
        *extent = rows;
    }
    let mut data = Vec::with_capacity(parts.iter().map(|part| part.data().len()).sum());
    parts.iter().for_each(|part| data.extend_from_slice(part.data()));
    Tensor::new(first.datatype(), shape, data.into())
}

/// The outputs of each call, where `rows` says how many rows each brought. Shares the elements, copies none.
///
/// None where an output does not have exactly that many rows.
pub(crate) fn split(outputs: &[Tensor], rows: &[u64]) -> Option<Vec<Vec<Tensor>>> {
    let mut calls: Vec<Vec<Tensor>> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for output in outputs {
        let ranges = byte_ranges(output, rows)?;
        for ((call, range), rows) in calls.iter_mut().zip(ranges).zip(rows) {
            let mut shape = output.shape().to_vec();
            *shape.first_mut()? = *rows;
            call.push(Tensor::new(output.datatype(), shape, output.data().slice(range)).ok()?);
        }
    }
    Some(calls)
}

/// Where the rows of each call lie in the data of an output.
fn byte_ranges(output: &Tensor, rows: &[u64]) -> Option<Vec<Range<usize>>> {
    let total = rows.iter().try_fold(0_u64, |sum, rows| sum.checked_add(*rows))?;
    if total == 0 || output.shape().first() != Some(&total) {
        return None;
    }
    let ends: Vec<usize> = match output.datatype().size() {
        Some(_) => {
            let row_bytes = output.data().len() / usize::try_from(total).ok()?;
            running_sum(rows).map(|row| row.checked_mul(row_bytes)).collect::<Option<_>>()?
        }
        None => byte_string_ends(output, total, rows)?,
    };
    let starts = std::iter::once(0).chain(ends.iter().copied());
    Some(starts.zip(ends.iter().copied()).map(|(start, end)| start..end).collect())
}

/// The same for elements that have lengths of their own.
fn byte_string_ends(output: &Tensor, total: u64, rows: &[u64]) -> Option<Vec<usize>> {
    let per_row = output.elements() / usize::try_from(total).ok()?;
    let mut offsets = vec![0];
    for element in output.bytes_elements() {
        offsets.push(offsets.last()? + 4 + element.len());
    }
    running_sum(rows).map(|row| offsets.get(row.checked_mul(per_row)?).copied()).collect()
}

fn running_sum(rows: &[u64]) -> impl Iterator<Item = usize> {
    rows.iter().scan(0_usize, |sum, rows| {
        *sum = sum.saturating_add(usize::try_from(*rows).unwrap_or(usize::MAX));
        Some(*sum)
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn words(rows: u64, width: u64, first: u8) -> Tensor {
        let data: Vec<u8> = (0..rows * width * 4).map(|index| first.wrapping_add(index as u8)).collect();
        Tensor::new(Datatype::Fp32, vec![rows, width], data.into()).unwrap()
    }

    fn texts(rows: u64, first: u8) -> Tensor {
        let texts: Vec<Vec<u8>> = (0..rows * 2).map(|index| vec![first; index as usize % 5]).collect();
        Tensor::from_bytes_elements(vec![rows, 2], &texts).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_stacked_comes_apart_again(sizes in vec(1_u64..6, 1..8), width in 0_u64..4) {
            let calls: Vec<Vec<Tensor>> = sizes.iter().zip(0_u8..)
                .map(|(rows, index)| vec![words(*rows, width, index * 16), texts(*rows, index)])
                .collect();
            let views: Vec<&[Tensor]> = calls.iter().map(Vec::as_slice).collect();
            let stacked = stack(&views).unwrap();
            prop_assert_eq!(stacked[0].shape(), [sizes.iter().sum(), width]);
            prop_assert_eq!(split(&stacked, &sizes).unwrap(), calls);
        }
    }

    #[test]
    fn outputs_of_another_length_are_not_split() {
        assert!(split(&[words(3, 1, 0)], &[1, 1]).is_none());
        assert!(split(&[Tensor::new(Datatype::Uint8, vec![], vec![1].into()).unwrap()], &[1]).is_none());
        assert!(split(&[words(0, 1, 0)], &[]).is_none());
    }

    #[test]
    fn rows_are_those_that_all_inputs_have() {
        assert_eq!(rows(&[words(2, 3, 0), texts(2, 0)]), Some(2));
        assert_eq!(rows(&[words(2, 3, 0), texts(1, 0)]), None);
        assert_eq!(rows(&[words(0, 3, 0)]), None);
        assert_eq!(rows(&[]), None);
    }

    #[test]
    fn only_rows_of_one_kind_fit() {
        assert!(fit(&[words(1, 3, 0)], &[words(4, 3, 9)]));
        assert!(!fit(&[words(1, 3, 0)], &[words(1, 2, 0)]));
        assert!(!fit(&[words(1, 2, 0)], &[texts(1, 0)]));
    }
}
