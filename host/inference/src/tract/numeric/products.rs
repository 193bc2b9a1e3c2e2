//! Products of a table of rows with a table of weights, both FP32.

use tract_onnx::prelude::TractResult;
use tract_onnx::prelude::tract_ndarray::linalg::general_mat_mul;
use tract_onnx::prelude::tract_ndarray::{ArrayView2, ArrayViewMut2};

/// Sums that go side by side: a sum in order would wait for each addition.
const LANES: usize = 8;

/// From this number of multiplications on, the general product is faster than one row after the other.
const LARGE: usize = 1 << 12;

/// Adds to each element of `output`, which is `[rows, weights]`, the product of a row of `x` and a row of `weights`, both
/// of which have `columns` elements.
pub(in crate::tract) fn add_products(
    x: &[f32],
    weights: &[f32],
    columns: usize,
    output: &mut [f32],
) -> TractResult<()> {
    if columns == 0 || output.is_empty() {
        return Ok(());
    }
    let (rows, count) = (x.len() / columns, weights.len() / columns);
    if rows > 1 && output.len().saturating_mul(columns) >= LARGE {
        let x = ArrayView2::from_shape((rows, columns), x)?;
        let weights = ArrayView2::from_shape((count, columns), weights)?;
        let mut output = ArrayViewMut2::from_shape((rows, count), output)?;
        general_mat_mul(1.0, &x, &weights.t(), 1.0, &mut output);
        return Ok(());
    }
    for (row, output) in x.chunks_exact(columns).zip(output.chunks_exact_mut(count)) {
        for (weights, output) in weights.chunks_exact(columns).zip(output) {
            *output += sum_of(row, weights, |x, weight| x * weight);
        }
    }
    Ok(())
}

/// The sum of what becomes of each pair.
pub(in crate::tract) fn sum_of(a: &[f32], b: &[f32], of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += of(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| of(*a, *b)).sum();
    sums.iter().sum::<f32>() + rest
}
