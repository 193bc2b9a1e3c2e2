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
pub(super) fn add_products(
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
pub(super) fn sum_of(a: &[f32], b: &[f32], of: impl Fn(f32, f32) -> f32) -> f32 {
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

/// The exponential function of each number, to within two units in the last place. Near the smallest normal number it ends:
/// it never gets to zero. Written without calls and branches, so that several numbers go side by side.
pub(super) fn exponentials(numbers: &mut [f32]) {
    numbers.iter_mut().for_each(|number| *number = exponential(*number));
}

#[inline(always)]
fn exponential(x: f32) -> f32 {
    // Adding this to a number and taking it away again rounds it; in between its last bits are the whole number.
    const ROUNDING: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Not `clamp`: NaN passes both ways.
    let x = if x > 88.722_8 { f32::INFINITY } else { x };
    let bounded = if x < -86.6 { -86.6 } else { x };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUNDING;
    let power = shifted - ROUNDING;
    let r = bounded - power * LN_2_HIGH - power * LN_2_LOW;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = (series * r + 1.0) * r + 1.0;
    let scale = f32::from_bits((shifted.to_bits().wrapping_sub(ROUNDING.to_bits()).wrapping_add(126)) << 23);
    if x == f32::INFINITY { x } else { series * 2.0 * scale }
}

/// The hyperbolic tangent of each number, to within 1e-7.
pub(super) fn hyperbolic_tangents(numbers: &mut [f32]) {
    for number in numbers {
        let x = *number;
        let square = x * x;
        // Near zero the other formula would lose digits.
        let near = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
        let far = 1.0 - 2.0 / (exponential(2.0 * x) + 1.0);
        *number = if square < 0.04 { near } else { far };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_and_tangents_are_those_of_the_library() {
        let mut numbers: Vec<f32> = (-90_000..90_000).map(|number| number as f32 / 1_000.0).collect();
        numbers.extend([f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 0.0, -0.0, 1e-20, 500.0, -500.0]);
        let (mut exponents, mut tangents) = (numbers.clone(), numbers.clone());
        exponentials(&mut exponents);
        hyperbolic_tangents(&mut tangents);
        for ((x, exponent), tangent) in numbers.iter().zip(exponents).zip(tangents) {
            let expected = x.exp();
            let is_near = (exponent - expected).abs() <= 3e-7 * expected + 2.5e-38;
            assert!(
                is_near || exponent == expected || (x.is_nan() && exponent.is_nan()),
                "{x}: {exponent} {expected}"
            );
            let expected = x.tanh();
            let is_near = (tangent - expected).abs() <= 2e-7;
            assert!(is_near || (x.is_nan() && tangent.is_nan()), "{x}: {tangent} {expected}");
        }
    }
}
