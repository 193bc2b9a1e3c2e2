//! Folds a tensor along axes that lie together: what is outside of them, along them, and inside of them.

use tract_onnx::prelude::TVec;

/// Numbers that are folded side by side where they lie side by side: one after the other, each would wait for the last.
const WIDTH: usize = 8;

/// A tensor as `[outer, length, inner]`, whose middle is folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tract) struct Lanes {
    /// The extents that are left: those that are folded have one element.
    shape: TVec<usize>,
    pub(in crate::tract) length: usize,
    pub(in crate::tract) inner: usize,
}

impl Lanes {
    /// None where the axes do not lie together, or there are none, or there is nothing to fold. `axes` are sorted.
    pub(in crate::tract) fn new(shape: &[usize], axes: &[usize]) -> Option<Lanes> {
        let (first, last) = (*axes.first()?, *axes.last()?);
        let lie_together = last < shape.len() && axes.iter().copied().eq(first..=last);
        if !lie_together || shape.contains(&0) {
            return None;
        }
        let length = shape[first..=last].iter().product();
        let inner = shape[last + 1..].iter().product();
        let mut left: TVec<usize> = shape.into();
        left[first..=last].fill(1);
        Some(Lanes { shape: left, length, inner })
    }

    /// The extents of the output.
    pub(in crate::tract) fn shape(&self) -> &[usize] {
        &self.shape
    }
}

/// Folds with an operation that may be done in any order, and which leaves a number alone that meets `neutral`.
#[inline(always)]
pub(in crate::tract) fn fold<T: Copy>(
    lanes: &Lanes,
    numbers: &[T],
    output: &mut [T],
    neutral: T,
    of: impl Fn(T, T) -> T + Copy,
) {
    let Lanes { length, inner, .. } = *lanes;
    if inner == 1 {
        for (output, lane) in output.iter_mut().zip(numbers.chunks_exact(length)) {
            *output = folded(lane, neutral, of);
        }
        return;
    }
    for (output, block) in output.chunks_exact_mut(inner).zip(numbers.chunks_exact(length * inner)) {
        output.copy_from_slice(&block[..inner]);
        for row in block[inner..].chunks_exact(inner) {
            output.iter_mut().zip(row).for_each(|(output, number)| *output = of(*output, *number));
        }
    }
}

#[inline(always)]
fn folded<T: Copy>(lane: &[T], neutral: T, of: impl Fn(T, T) -> T + Copy) -> T {
    let (wide, rest) = lane.as_chunks::<WIDTH>();
    let rest = rest.iter().copied().fold(neutral, of);
    if wide.is_empty() {
        return rest;
    }
    let mut side_by_side = [neutral; WIDTH];
    for chunk in wide {
        for place in 0..WIDTH {
            side_by_side[place] = of(side_by_side[place], chunk[place]);
        }
    }
    side_by_side.into_iter().fold(rest, of)
}
