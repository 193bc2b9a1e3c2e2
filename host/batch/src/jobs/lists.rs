//! Columns of lists within lists as rectangular blocks of elements. Knows Arrow's layouts, not what the elements mean.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, ListArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

/// The type of the elements after so many levels of lists, and the declared length of each level where its type has
/// one. None where there are fewer levels.
pub(crate) fn levels(data_type: &DataType, depth: usize) -> Option<(&DataType, Vec<Option<u64>>)> {
    let mut lengths = Vec::with_capacity(depth);
    let mut inner = data_type;
    for _ in 0..depth {
        let (field, length) = match inner {
            DataType::List(field) | DataType::LargeList(field) => (field, None),
            DataType::FixedSizeList(field, length) => (field, u64::try_from(*length).ok()),
            _ => return None,
        };
        inner = field.data_type();
        lengths.push(length);
    }
    Some((inner, lengths))
}

/// Whether a type is one of lists that [`levels`] goes into.
pub(crate) fn is_list(data_type: &DataType) -> bool {
    levels(data_type, 1).is_some()
}

/// The elements after so many levels, all that the buffers hold.
pub(crate) fn leaves(array: &ArrayRef, depth: usize) -> ArrayRef {
    if depth == 0 { array.clone() } else { leaves(values(array), depth - 1) }
}

/// The same lists with other elements, of which there must be as many.
///
/// # Errors
/// Another number of elements, or nulls in between that the type forbids.
pub(crate) fn with_leaves(array: &ArrayRef, depth: usize, new: ArrayRef) -> Result<ArrayRef, ArrowError> {
    if depth == 0 {
        return Ok(new);
    }
    let inner = with_leaves(values(array), depth - 1, new)?;
    let field = Arc::new(Field::new("item", inner.data_type().clone(), true));
    Ok(match array.data_type() {
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            Arc::new(LargeListArray::try_new(field, list.offsets().clone(), inner, list.nulls().cloned())?)
        }
        DataType::FixedSizeList(_, length) => {
            Arc::new(FixedSizeListArray::try_new(field, *length, inner, array.nulls().cloned())?)
        }
        _ => {
            let list = array.as_list::<i32>();
            Arc::new(ListArray::try_new(field, list.offsets().clone(), inner, list.nulls().cloned())?)
        }
    })
}

fn values(array: &ArrayRef) -> &ArrayRef {
    match array.data_type() {
        DataType::LargeList(_) => array.as_list::<i64>().values(),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().values(),
        _ => array.as_list::<i32>().values(),
    }
}

/// Where the list of a row lies among the values.
fn range(array: &ArrayRef, row: usize) -> Range<usize> {
    match array.data_type() {
        DataType::LargeList(_) => {
            let offsets = array.as_list::<i64>().value_offsets();
            offsets[row] as usize..offsets[row + 1] as usize
        }
        DataType::FixedSizeList(_, length) => {
            let length = *length as usize;
            row * length..(row + 1) * length
        }
        _ => {
            let offsets = array.as_list::<i32>().value_offsets();
            offsets[row] as usize..offsets[row + 1] as usize
        }
    }
}

/// Where the elements of a row lie among the [`leaves`].
pub(crate) fn leaf_range(array: &ArrayRef, row: usize, depth: usize) -> Range<usize> {
    if depth == 0 {
        return row..row + 1;
    }
    let lists = range(array, row);
    if depth == 1 || lists.is_empty() {
        return if depth == 1 { lists } else { 0..0 };
    }
    let inner = values(array);
    leaf_range(inner, lists.start, depth - 1).start..leaf_range(inner, lists.end - 1, depth - 1).end
}

/// The extents of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Extents {
    /// A block.
    Of(Vec<u64>),
    /// A list that is null, at some level.
    Null,
    /// Lists of different lengths side by side.
    Ragged,
}

/// The extents of a row. Below an empty list there is nothing to be seen: the extents are 0.
pub(crate) fn extents(array: &ArrayRef, row: usize, depth: usize) -> Extents {
    if depth == 0 {
        return Extents::Of(Vec::new());
    }
    if array.is_null(row) {
        return Extents::Null;
    }
    let lists = range(array, row);
    let length = lists.len() as u64;
    let mut inner = None;
    if depth > 1 {
        for list in lists {
            match (extents(values(array), list, depth - 1), &inner) {
                (Extents::Of(extents), None) => inner = Some(extents),
                (Extents::Of(extents), Some(first)) if extents == *first => {}
                (Extents::Of(_), Some(_)) => return Extents::Ragged,
                (other, _) => return other,
            }
        }
    }
    let mut all = vec![length];
    all.extend(inner.unwrap_or_else(|| vec![0; depth - 1]));
    Extents::Of(all)
}

/// How many elements the list of a row has; none where it is null.
pub(crate) fn length(array: &ArrayRef, row: usize) -> u64 {
    if array.is_null(row) { 0 } else { range(array, row).len() as u64 }
}

/// The elements of all rows in a row, where no row is null.
pub(crate) fn flattened(array: &ArrayRef, depth: usize) -> ArrayRef {
    if depth == 0 {
        return array.clone();
    }
    let (Some(last), false) = (array.len().checked_sub(1), array.is_empty()) else {
        return leaves(array, depth).slice(0, 0);
    };
    let (first, last) = (range(array, 0), range(array, last));
    let inner = values(array).slice(first.start, last.end.saturating_sub(first.start));
    flattened(&inner, depth - 1)
}

/// One level of lists, each filled to this length with a null at every new place. Longer ones are cut.
///
/// # Errors
/// More elements than can be counted.
pub(crate) fn padded(array: &ArrayRef, length: u64) -> Result<ArrayRef, ArrowError> {
    let too_many = || ArrowError::InvalidArgumentError("a list is too long to be filled up".into());
    let length = usize::try_from(length).map_err(|_| too_many())?;
    let mut places: Vec<Option<u32>> = Vec::with_capacity(array.len().saturating_mul(length));
    for row in 0..array.len() {
        let list = if array.is_valid(row) { range(array, row) } else { 0..0 };
        for place in 0..length {
            let index = (place < list.len()).then(|| u32::try_from(list.start + place)).transpose();
            places.push(index.map_err(|_| too_many())?);
        }
    }
    let filled = take(values(array), &UInt32Array::from(places), None)?;
    let lengths = std::iter::repeat_n(length, array.len());
    let field = Arc::new(Field::new("item", filled.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(
        field,
        OffsetBuffer::from_lengths(lengths),
        filled,
        array.nulls().cloned(),
    )?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, ListBuilder, PrimitiveBuilder};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn lists(lists: &[Option<&[i32]>]) -> ArrayRef {
        let rows =
            lists.iter().map(|list| list.map(|list| list.iter().copied().map(Some).collect::<Vec<_>>()));
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows))
    }

    fn nested(rows: &[&[&[i32]]]) -> ArrayRef {
        let mut builder = ListBuilder::new(ListBuilder::new(PrimitiveBuilder::<Int32Type>::new()));
        for row in rows {
            for list in *row {
                builder.values().values().append_slice(list);
                builder.values().append(true);
            }
            builder.append(true);
        }
        Arc::new(builder.finish())
    }

    fn numbers(array: &ArrayRef) -> Vec<i32> {
        array.as_primitive::<Int32Type>().values().to_vec()
    }

    #[test]
    fn extents_are_those_of_a_block() {
        let array = lists(&[Some(&[1, 2]), None, Some(&[])]);
        let all: Vec<Extents> = (0..3).map(|row| extents(&array, row, 1)).collect();
        assert_eq!(all, [Extents::Of(vec![2]), Extents::Null, Extents::Of(vec![0])]);
        let array = nested(&[&[&[1, 2], &[3, 4], &[5, 6]], &[&[1], &[2, 3]], &[]]);
        let all: Vec<Extents> = (0..3).map(|row| extents(&array, row, 2)).collect();
        assert_eq!(all, [Extents::Of(vec![3, 2]), Extents::Ragged, Extents::Of(vec![0, 0])]);
    }

    #[test]
    fn slices_are_flattened_from_where_they_begin() {
        let array = nested(&[&[&[0]], &[&[1, 2], &[3, 4]], &[&[5, 6], &[7, 8]]]);
        assert_eq!(numbers(&flattened(&array.slice(1, 2), 2)), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(numbers(&flattened(&array.slice(1, 1), 2)), [1, 2, 3, 4]);
        assert!(flattened(&array.slice(1, 0), 2).is_empty());
        assert_eq!(leaf_range(&array, 2, 2), 5..9);
        assert_eq!(leaf_range(&array, 1, 0), 1..2);
        let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..3).map(|row| Some(vec![Some(row), Some(10 * row)])),
            2,
        );
        assert_eq!(numbers(&flattened(&(Arc::new(fixed) as ArrayRef).slice(1, 2), 1)), [1, 10, 2, 20]);
    }

    #[test]
    fn elements_can_be_replaced() {
        let array = lists(&[Some(&[1, 2]), None, Some(&[3])]);
        let new: ArrayRef = Arc::new(Int32Array::from(vec![7, 8, 9]));
        let replaced = with_leaves(&array, 1, new).unwrap();
        assert_eq!(numbers(&replaced.as_list::<i32>().value(2)), [9]);
        assert!(replaced.is_null(1));
        assert!(with_leaves(&array, 1, Arc::new(Int32Array::from(vec![7]))).is_err());
    }

    #[test]
    fn short_lists_are_filled_with_nulls() {
        let filled = padded(&lists(&[Some(&[1]), Some(&[2, 3]), Some(&[])]), 2).unwrap();
        let leaf = flattened(&filled, 1);
        let shown: Vec<Option<i32>> = leaf.as_primitive::<Int32Type>().iter().collect();
        assert_eq!(shown, [Some(1), None, Some(2), Some(3), None, None]);
    }
}
