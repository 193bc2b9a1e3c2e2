//! The key column of some rows: comparing and searching in it.

use std::cmp::Ordering;

use arrow::array::{Array, AsArray as _, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use modelhost_core::TableKey;

/// The keys of some rows, which are sorted.
pub(super) enum KeyColumn<'a> {
    Integers(&'a Int64Array),
    Texts(&'a StringArray),
}

impl<'a> KeyColumn<'a> {
    /// None where the column has another type.
    pub(super) fn new(column: &'a dyn Array) -> Option<KeyColumn<'a>> {
        let integers = column.as_primitive_opt::<Int64Type>().map(KeyColumn::Integers);
        integers.or_else(|| column.as_string_opt::<i32>().map(KeyColumn::Texts))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            KeyColumn::Integers(keys) => keys.len(),
            KeyColumn::Texts(keys) => keys.len(),
        }
    }

    pub(super) fn key(&self, row: usize) -> TableKey {
        match self {
            KeyColumn::Integers(keys) => TableKey::Integer(keys.value(row)),
            KeyColumn::Texts(keys) => TableKey::Text(keys.value(row).to_owned()),
        }
    }

    /// The row of a key. A key of another kind is in no row.
    pub(super) fn find(&self, key: &TableKey) -> Option<usize> {
        let row = match (self, key) {
            (KeyColumn::Integers(keys), TableKey::Integer(key)) => {
                keys.values().partition_point(|smaller| smaller < key)
            }
            (KeyColumn::Texts(keys), TableKey::Text(key)) => {
                partition_point(keys.len(), |row| keys.value(row) < key.as_str())
            }
            _ => return None,
        };
        (row < self.len() && self.compare(row, key) == Ordering::Equal).then_some(row)
    }

    /// The first row whose key is not larger than that of the row before. The order is that of bytes.
    pub(super) fn first_unordered(&self) -> Option<usize> {
        (1..self.len()).find(|row| match self {
            KeyColumn::Integers(keys) => keys.value(row - 1) >= keys.value(*row),
            KeyColumn::Texts(keys) => keys.value(row - 1) >= keys.value(*row),
        })
    }

    fn compare(&self, row: usize, key: &TableKey) -> Ordering {
        match (self, key) {
            (KeyColumn::Integers(keys), TableKey::Integer(key)) => keys.value(row).cmp(key),
            (KeyColumn::Texts(keys), TableKey::Text(key)) => keys.value(row).cmp(key.as_str()),
            (KeyColumn::Integers(_), TableKey::Text(_)) => Ordering::Less,
            (KeyColumn::Texts(_), TableKey::Integer(_)) => Ordering::Greater,
        }
    }
}

/// The first of `length` places for which something is no longer the case.
fn partition_point(length: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (0, length);
    while from < to {
        let middle = from + (to - from) / 2;
        if is_before(middle) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    from
}
