//! Functions of each of many numbers, written without calls and branches so that several numbers go side by side.

use tract_onnx::prelude::tract_num_traits::Float;

use super::widest::Loop;

/// Numbers with a fast exponential function.
pub(in crate::tract) trait Exponential: Float {
    /// The exponential function of each number.
    fn exponentials<const FUSED: bool>(numbers: &mut [Self]);
}

impl Exponential for f32 {
    #[inline(always)]
    fn exponentials<const FUSED: bool>(numbers: &mut [f32]) {
        numbers.iter_mut().for_each(|number| *number = exponential::<FUSED>(*number));
    }
}

impl Exponential for f64 {
    #[inline(always)]
    fn exponentials<const FUSED: bool>(numbers: &mut [f64]) {
        numbers.iter_mut().for_each(|number| *number = double_exponential::<FUSED>(*number));
    }
}

/// The exponential function, to within two units in the last place; nought below the smallest normal number.
#[inline(always)]
fn double_exponential<const FUSED: bool>(x: f64) -> f64 {
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    const LN_2_HIGH: f64 = 0.693_145_751_953_125;
    const LN_2_LOW: f64 = 1.428_606_820_309_417_2e-6;
    // Not `max`: NaN passes.
    let bounded = if x < -708.0 { -708.0 } else { x };
    let shifted = bounded * std::f64::consts::LOG2_E + ROUNDING;
    let power = shifted - ROUNDING;
    let r = bounded - power * LN_2_HIGH - power * LN_2_LOW;
    let mut series = 1.0 / 6_227_020_800.0;
    series = series * r + 1.0 / 479_001_600.0;
    series = series * r + 1.0 / 39_916_800.0;
    series = series * r + 1.0 / 3_628_800.0;
    series = series * r + 1.0 / 362_880.0;
    series = series * r + 1.0 / 40_320.0;
    series = series * r + 1.0 / 5_040.0;
    series = series * r + 1.0 / 720.0;
    series = series * r + 1.0 / 120.0;
    series = series * r + 1.0 / 24.0;
    series = series * r + 1.0 / 6.0;
    series = multiply_add::<f64, FUSED>(series, r, 0.5);
    series = multiply_add::<f64, FUSED>(multiply_add::<f64, FUSED>(series, r, 1.0), r, 1.0);
    let scale = f64::from_bits((shifted.to_bits().wrapping_sub(ROUNDING.to_bits()).wrapping_add(1023)) << 52);
    let result = if x > 709.0 { f64::INFINITY } else { series * scale };
    if x < -708.0 { 0.0 } else { result }
}

/// `a * b + c`, rounded once where that is one step of the processor.
#[inline(always)]
fn multiply_add<T: Float, const FUSED: bool>(a: T, b: T, c: T) -> T {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The exponential function of each number.
pub(in crate::tract) struct Exponentials<'a, T>(pub(in crate::tract) &'a mut [T]);

impl<T: Exponential> Loop for Exponentials<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        T::exponentials::<FUSED>(self.0);
    }
}

/// The exponential function, to within two units in the last place; nought below the smallest normal number.
#[inline(always)]
pub(in crate::tract) fn exponential<const FUSED: bool>(x: f32) -> f32 {
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
    let series = multiply_add::<f32, FUSED>(series, r, 0.5);
    let series = multiply_add::<f32, FUSED>(multiply_add::<f32, FUSED>(series, r, 1.0), r, 1.0);
    let scale = f32::from_bits((shifted.to_bits().wrapping_sub(ROUNDING.to_bits()).wrapping_add(126)) << 23);
    let result = if x == f32::INFINITY { x } else { series * 2.0 * scale };
    if x < -86.6 { 0.0 } else { result }
}

/// The hyperbolic tangent of each number, to within 4e-7.
pub(in crate::tract) struct HyperbolicTangents<'a>(pub(in crate::tract) &'a mut [f32]);

impl Loop for HyperbolicTangents<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        self.0.iter_mut().for_each(|number| *number = hyperbolic_tangent::<FUSED>(*number));
    }
}

/// A quotient of two polynomials in the square, fitted to the function up to 9, from where on it is 1 in FP32.
#[inline(always)]
fn hyperbolic_tangent<const FUSED: bool>(x: f32) -> f32 {
    const LAST: f32 = 9.0;
    // Not `clamp`: NaN passes.
    let x = if x > LAST { LAST } else { x };
    let x = if x < -LAST { -LAST } else { x };
    let square = x * x;
    let above = multiply_add::<f32, FUSED>(1.335_400_1e-8, square, 2.060_859_4e-5);
    let above = multiply_add::<f32, FUSED>(above, square, 3.495_558_4e-3);
    let above = multiply_add::<f32, FUSED>(above, square, 0.133_810_01);
    let above = multiply_add::<f32, FUSED>(above, square, 1.0);
    let below = multiply_add::<f32, FUSED>(7.776_283e-7, square, 3.285_585_5e-4);
    let below = multiply_add::<f32, FUSED>(below, square, 2.587_686_9e-2);
    let below = multiply_add::<f32, FUSED>(below, square, 0.467_143_18);
    let below = multiply_add::<f32, FUSED>(below, square, 1.0);
    x * above / below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tract::numeric::widest::widest;

    #[test]
    fn exponentials_and_tangents_are_those_of_the_library() {
        let mut numbers: Vec<f32> = (-90_000..90_000).map(|number| number as f32 / 1_000.0).collect();
        numbers.extend([f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 0.0, -0.0, 1e-20, 500.0, -500.0]);
        let (mut exponents, mut tangents) = (numbers.clone(), numbers.clone());
        widest(Exponentials(&mut exponents[..]));
        widest(HyperbolicTangents(&mut tangents));
        for ((x, exponent), tangent) in numbers.iter().zip(exponents).zip(tangents) {
            let expected = x.exp();
            let is_near = (exponent - expected).abs() <= 3e-7 * expected + 2.5e-38;
            assert!(
                is_near || exponent == expected || (x.is_nan() && exponent.is_nan()),
                "{x}: {exponent} {expected}"
            );
            let expected = x.tanh();
            let is_near = (tangent - expected).abs() <= 4e-7;
            assert!(is_near || (x.is_nan() && tangent.is_nan()), "{x}: {tangent} {expected}");
        }
    }

    #[test]
    fn exponentials_of_doubles_are_those_of_the_library() {
        let mut numbers: Vec<f64> = (-800_000..700_000).map(|number| f64::from(number) / 1_000.0).collect();
        numbers.extend([f64::NEG_INFINITY, f64::NAN, -0.0, 1e-20]);
        let mut exponents = numbers.clone();
        widest(Exponentials(&mut exponents[..]));
        for (x, exponent) in numbers.iter().zip(exponents) {
            let expected = x.exp();
            let is_near = (exponent - expected).abs() <= 6e-16 * expected + 4e-308;
            assert!(is_near || (x.is_nan() && exponent.is_nan()), "{x}: {exponent} {expected}");
        }
    }
}
