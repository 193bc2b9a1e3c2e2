//! Distances of every row of one table from every row of another.

use tract_onnx::prelude::tract_num_traits::Float;

use super::widest::Loop;

/// Rows that go side by side: as many as fit some registers.
const ROWS: usize = 32;

/// What becomes of the difference in one column, before all columns are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tract) enum Measure {
    Square,
    Absolute,
}

/// Writes `[vectors, rows]`. Both tables have `columns` columns, which are not 0.
pub(in crate::tract) struct Distances<'a, T> {
    pub(in crate::tract) rows: &'a [T],
    pub(in crate::tract) vectors: &'a [T],
    pub(in crate::tract) columns: usize,
    pub(in crate::tract) measure: Measure,
    pub(in crate::tract) output: &'a mut [T],
}

impl<T: Float> Loop for Distances<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Distances { rows, vectors, columns, measure, output } = self;
        match measure {
            Measure::Square => sums(rows, vectors, columns, output, |difference| difference * difference),
            Measure::Absolute => sums(rows, vectors, columns, output, |difference| difference.abs()),
        }
    }
}

#[inline(always)]
fn sums<T: Float>(rows: &[T], vectors: &[T], columns: usize, output: &mut [T], of: impl Fn(T) -> T + Copy) {
    let count = rows.len() / columns;
    // A block of rows, each column together.
    let mut block = vec![[T::zero(); ROWS]; columns];
    for start in (0..count).step_by(ROWS) {
        let end = count.min(start + ROWS);
        for (place, row) in rows[start * columns..end * columns].chunks_exact(columns).enumerate() {
            block.iter_mut().zip(row).for_each(|(column, value)| column[place] = *value);
        }
        for (vector, output) in vectors.chunks_exact(columns).zip(output.chunks_exact_mut(count)) {
            let mut sums = [T::zero(); ROWS];
            for (column, value) in block.iter().zip(vector) {
                for place in 0..ROWS {
                    sums[place] = sums[place] + of(column[place] - *value);
                }
            }
            output[start..end].copy_from_slice(&sums[..end - start]);
        }
    }
}
