//! Products of a table of rows with a table of weights that stays the same.

use tract_onnx::prelude::tract_num_traits::Float;

use super::widest::{Loop, widest};

/// Sums that go side by side: a sum in order would wait for each addition.
const LANES: usize = 8;

/// Rows that go through the same weights together: each weight is loaded once for all of them.
const ROWS: usize = 6;

/// Weights in the order in which they are used.
#[derive(Clone, Debug)]
pub(in crate::tract) struct Weights<T> {
    /// Elements of a row.
    columns: usize,
    /// Sums that each row is made into.
    count: usize,
    /// For some sums at a time: what they begin with, then, for each column, a weight for each of them.
    tiles: Vec<Tile<T>>,
}

#[derive(Clone, Debug)]
struct Tile<T> {
    /// Sums that there are: the last ones of the last tile mean nothing.
    width: usize,
    first: [T; LANES],
    weights: Vec<[T; LANES]>,
}

impl<T: Float> Weights<T> {
    /// `weight` gives the weight of a column in one of `count` sums, `first` what a sum begins with.
    pub(in crate::tract) fn new(
        columns: usize,
        count: usize,
        weight: impl Fn(usize, usize) -> T,
        first: impl Fn(usize) -> T,
    ) -> Weights<T> {
        let lanes = |start: usize, of: &dyn Fn(usize) -> T| -> [T; LANES] {
            std::array::from_fn(|lane| if start + lane < count { of(start + lane) } else { T::zero() })
        };
        let tile = |start: usize| Tile {
            width: LANES.min(count - start),
            first: lanes(start, &first),
            weights: (0..columns).map(|column| lanes(start, &|sum| weight(column, sum))).collect(),
        };
        Weights { columns, count, tiles: (0..count).step_by(LANES).map(tile).collect() }
    }

    /// Elements of a row.
    pub(in crate::tract) fn columns(&self) -> usize {
        self.columns
    }

    /// Sums that each row is made into.
    pub(in crate::tract) fn count(&self) -> usize {
        self.count
    }

    /// Writes the sums of every row of `x`; `output` has as many elements as there are sums of all rows.
    pub(in crate::tract) fn multiply(&self, x: &[T], output: &mut [T]) {
        widest(Multiply { weights: self, x, output });
    }
}

struct Multiply<'a, T> {
    weights: &'a Weights<T>,
    x: &'a [T],
    output: &'a mut [T],
}

impl<T: Float> Loop for Multiply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Multiply { weights, x, output } = self;
        let Weights { columns, count, tiles } = weights;
        if output.is_empty() {
            return;
        }
        let rows = output.len() / count;
        let together = rows - rows % ROWS;
        for row in (0..together).step_by(ROWS) {
            let x = &x[row * columns..(row + ROWS) * columns];
            let output = &mut output[row * count..(row + ROWS) * count];
            tiles.iter().enumerate().for_each(|(place, tile)| {
                tile.multiply::<ROWS, FUSED>(x, *columns, &mut output[place * LANES..], *count);
            });
        }
        for row in together..rows {
            let x = &x[row * columns..(row + 1) * columns];
            let output = &mut output[row * count..(row + 1) * count];
            tiles.iter().enumerate().for_each(|(place, tile)| {
                tile.multiply::<1, FUSED>(x, *columns, &mut output[place * LANES..], *count);
            });
        }
    }
}

impl<T: Float> Tile<T> {
    /// `output` begins with the first sum of this tile, and goes on with the next row after `count` elements.
    #[inline(always)]
    fn multiply<const N: usize, const FUSED: bool>(
        &self,
        x: &[T],
        columns: usize,
        output: &mut [T],
        count: usize,
    ) {
        // Once, so that no step has to look.
        assert!(x.len() >= N * columns && self.weights.len() == columns, "a row is cut off");
        let mut sums = [self.first; N];
        for (column, weights) in self.weights.iter().enumerate() {
            // SAFETY: `column` is below `columns`, and there are N rows of as many elements.
            let value = |row: usize| unsafe { *x.get_unchecked(row * columns + column) };
            sums = std::array::from_fn(|row| added::<T, FUSED>(sums[row], value(row), weights));
        }
        self.write(&sums, output, count);
    }

    /// Not inlined: taking the sums one by one would take the loop above apart.
    #[inline(never)]
    fn write(&self, sums: &[[T; LANES]], output: &mut [T], count: usize) {
        for (sums, output) in sums.iter().zip(output.chunks_mut(count)) {
            match output.first_chunk_mut::<LANES>() {
                Some(output) if self.width == LANES => *output = *sums,
                _ => output[..self.width].copy_from_slice(&sums[..self.width]),
            }
        }
    }
}

/// Arrays that come and go as values stay in registers; those that are changed in place do not.
#[inline(always)]
fn added<T: Float, const FUSED: bool>(sums: [T; LANES], value: T, weights: &[T; LANES]) -> [T; LANES] {
    std::array::from_fn(|lane| match FUSED {
        true => value.mul_add(weights[lane], sums[lane]),
        false => sums[lane] + value * weights[lane],
    })
}

/// The sum of what becomes of each pair.
#[inline(always)]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn products_are_those_of_single_numbers(
            (rows, columns, count) in (0_usize..15, 0_usize..9, 1_usize..20), seed in 0_i64..1_000,
        ) {
            let number = |place: usize| ((place as i64 * 31 + seed) % 17 - 8) as f64;
            let x: Vec<f64> = (0..rows * columns).map(number).collect();
            let weights = Weights::new(columns, count, |column, sum| number(column * count + sum), number);
            let mut output = vec![f64::NAN; rows * count];
            weights.multiply(&x, &mut output);
            for row in 0..rows {
                for sum in 0..count {
                    let products = (0..columns).map(|column| x[row * columns + column] * number(column * count + sum));
                    prop_assert_eq!(output[row * count + sum], number(sum) + products.sum::<f64>());
                }
            }
        }
    }
}
