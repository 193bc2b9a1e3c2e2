//! How the rows of a dataset version are cut: splits, which are planned once, and what is left of them after some parts
//! have been committed. Knows row numbers and bytes, not what is in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt64Type;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::{RowStream, Rows};
use crate::jobs::scoring::ROW_NUMBER;

/// Rows of a split: little enough to be done again after a crash, enough that its files cost nothing beside it.
pub(super) const SPLIT_ROWS: u64 = 65_536;
/// Bytes of a split, as far as they are known before.
pub(super) const SPLIT_BYTES: u64 = 64 << 20;

/// All splits of a dataset version, in the order of the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The splits.
    pub(crate) splits: Vec<Split>,
}

/// Rows of one file that lie side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Split {
    /// Which file.
    pub(crate) file: usize,
    /// The number of the first row in the dataset version.
    pub(crate) first_row: u64,
    /// How many rows.
    pub(crate) rows: u64,
    /// The number of the first row in the file.
    pub(crate) row_in_file: u64,
    /// Of a text: where the first row begins.
    #[serde(default)]
    pub(crate) first_byte: u64,
    /// Of a text: where the last row ends.
    #[serde(default)]
    pub(crate) end_byte: u64,
    /// The numbers of the rows that count, where not all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) only: Option<Arc<[u64]>>,
}

/// What is left to do of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The split.
    pub(crate) split: Split,
    /// The number of the first row that is left.
    pub(crate) first_row: u64,
    /// The number after the last row that is left.
    pub(crate) end_row: u64,
}

impl Plan {
    /// All rows.
    pub(crate) fn rows(&self) -> u64 {
        self.splits.last().map_or(0, |split| split.first_row + split.rows)
    }

    /// Rows that count.
    pub(crate) fn counted_rows(&self) -> u64 {
        self.splits.iter().map(|split| split.counted(split.first_row..split.first_row + split.rows)).sum()
    }

    /// What is left where the rows of `done` (from the first of a part to the number after its last) are done.
    pub(crate) fn left(&self, done: &BTreeMap<u64, u64>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for split in &self.splits {
            let end = split.first_row + split.rows;
            let mut next = split.first_row;
            for (first, after) in done.range(split.first_row..end) {
                if *first > next {
                    pieces.push(Piece { split: split.clone(), first_row: next, end_row: *first });
                }
                next = next.max(*after);
            }
            if next < end {
                pieces.push(Piece { split: split.clone(), first_row: next, end_row: end });
            }
        }
        pieces
    }

    /// Only the splits that hold one of these rows, which are in order, and of them only these rows.
    pub(crate) fn only(self, rows: &[u64]) -> Plan {
        let narrowed = self.splits.into_iter().filter_map(|split| {
            let from = rows.partition_point(|row| *row < split.first_row);
            let to = rows.partition_point(|row| *row < split.first_row + split.rows);
            let of_split = rows.get(from..to).filter(|of_split| !of_split.is_empty())?;
            Some(Split { only: Some(of_split.into()), ..split })
        });
        Plan { splits: narrowed.collect() }
    }
}

impl Split {
    /// How many of these rows count.
    pub(crate) fn counted(&self, rows: std::ops::Range<u64>) -> u64 {
        let Some(only) = &self.only else { return rows.end.saturating_sub(rows.start) };
        let before = |end: u64| only.partition_point(|row| *row < end) as u64;
        before(rows.end).saturating_sub(before(rows.start))
    }
}

impl Piece {
    /// Leaves out the rows that do not count.
    pub(super) fn only_rows(&self, stream: RowStream) -> RowStream {
        let Some(only) = self.split.only.clone() else { return stream };
        let counts = move |rows: Rows| {
            let Rows { batch, mut failed } = rows;
            let numbers = batch.column_by_name(ROW_NUMBER).map(|column| column.as_primitive::<UInt64Type>());
            let is_in = |row: &u64| only.binary_search(row).is_ok();
            let mask: BooleanArray =
                numbers.iter().flat_map(|numbers| numbers.values()).map(|row| Some(is_in(row))).collect();
            failed.retain(|row| is_in(&row.row));
            let batch = filter_record_batch(&batch, &mask).map_err(modelhost_serving::Error::internal)?;
            Ok(Rows { batch, failed })
        };
        stream.map(move |rows| counts(rows?)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rows: &[u64]) -> Plan {
        let mut plan = Plan::default();
        for rows in rows {
            let first_row = plan.rows();
            plan.splits.push(Split {
                file: 0,
                first_row,
                rows: *rows,
                row_in_file: first_row,
                first_byte: 0,
                end_byte: 0,
                only: None,
            });
        }
        plan
    }

    fn ranges(pieces: &[Piece]) -> Vec<(u64, u64)> {
        pieces.iter().map(|piece| (piece.first_row, piece.end_row)).collect()
    }

    #[test]
    fn what_is_done_is_not_left() {
        let plan = plan(&[10, 10, 5]);
        assert_eq!(ranges(&plan.left(&BTreeMap::new())), [(0, 10), (10, 20), (20, 25)]);
        let done = BTreeMap::from([(0, 4), (6, 8), (10, 20), (24, 25)]);
        assert_eq!(ranges(&plan.left(&done)), [(4, 6), (8, 10), (20, 24)]);
        assert!(plan.left(&BTreeMap::from([(0, 10), (10, 20), (20, 25)])).is_empty());
    }

    #[test]
    fn only_some_rows_count() {
        let plan = plan(&[10, 10, 5]).only(&[3, 9, 21]);
        assert_eq!(plan.splits.len(), 2);
        assert_eq!((plan.rows(), plan.counted_rows()), (25, 3));
        let pieces = plan.left(&BTreeMap::from([(0, 5)]));
        assert_eq!(ranges(&pieces), [(5, 10), (20, 25)]);
        let counted = |end_row| pieces[0].split.counted(5..end_row);
        assert_eq!((counted(9), counted(10)), (0, 1));
    }
}
