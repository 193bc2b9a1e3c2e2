//! How many bytes the cells of a column are, written out: what a view or a dictionary says of one long text a thousand
//! times counts a thousand times. Knows Arrow's layouts, and nothing of rows or files.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::downcast_dictionary_array;

/// Bytes of the rows of a batch, unless one row has more.
pub(crate) const BATCH_BYTES: u64 = 32 << 20;

/// The bytes of the cells of a batch.
pub(crate) fn of_batch(batch: &RecordBatch) -> u64 {
    batch.columns().iter().map(bytes).sum()
}

/// A batch in slices of at most [`BATCH_BYTES`], or of one row.
pub(crate) fn cut(batch: RecordBatch) -> Vec<RecordBatch> {
    let mut slices = Vec::with_capacity(1);
    let mut left = vec![batch];
    while let Some(batch) = left.pop() {
        let rows = batch.num_rows();
        if rows <= 1 || of_batch(&batch) <= BATCH_BYTES {
            slices.push(batch);
        } else {
            left.push(batch.slice(rows / 2, rows - rows / 2));
            left.push(batch.slice(0, rows / 2));
        }
    }
    slices
}

/// The bytes that every cell of a type has, however little is in it.
pub(crate) fn least(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeList(field, length) => {
            least(field.data_type()).saturating_mul(u64::try_from(*length).unwrap_or(0))
        }
        DataType::Struct(fields) => fields.iter().map(|field| least(field.data_type())).sum(),
        DataType::FixedSizeBinary(length) => u64::try_from(*length).unwrap_or(0),
        DataType::Boolean => 1,
        other => other.primitive_width().unwrap_or(8) as u64,
    }
}

/// The bytes of the cells of a column.
pub(crate) fn bytes(array: &ArrayRef) -> u64 {
    let cells = array.len() as u64;
    match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()) + 4 * cells,
        DataType::LargeUtf8 => span(array.as_string::<i64>().value_offsets()) + 8 * cells,
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()) + 4 * cells,
        DataType::LargeBinary => span(array.as_binary::<i64>().value_offsets()) + 8 * cells,
        DataType::Utf8View => viewed(array.as_string_view().views()),
        DataType::BinaryView => viewed(array.as_binary_view().views()),
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            within(lists.values(), lists.value_offsets()) + 4 * cells
        }
        DataType::LargeList(_) => {
            let lists = array.as_list::<i64>();
            within(lists.values(), lists.value_offsets()) + 8 * cells
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries = std::sync::Arc::new(map.entries().clone()) as ArrayRef;
            within(&entries, map.value_offsets()) + 4 * cells
        }
        // Both are sliced as their parent is.
        DataType::FixedSizeList(..) => bytes(array.as_fixed_size_list().values()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(bytes).sum(),
        DataType::Dictionary(..) => {
            downcast_dictionary_array!(
                array => (largest(array.values()) + 4) * cells,
                _ => u64::MAX
            )
        }
        other => cells.saturating_mul(least(other)),
    }
}

fn span<T: Copy + Into<i64>>(offsets: &[T]) -> u64 {
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return 0 };
    u64::try_from((*last).into() - (*first).into()).unwrap_or(0)
}

/// The length of a view is its lower half.
fn viewed(views: &[u128]) -> u64 {
    views.iter().map(|view| u64::from(*view as u32) + 16).sum()
}

fn within<T: Copy + Into<i64>>(values: &ArrayRef, offsets: &[T]) -> u64 {
    let first = offsets.first().map_or(0, |first| usize::try_from((*first).into()).unwrap_or(0));
    let length = usize::try_from(span(offsets)).unwrap_or(0);
    bytes(&values.slice(first, length))
}

/// The bytes of the largest of these values, of which all cells may be.
fn largest(values: &ArrayRef) -> u64 {
    match values.data_type() {
        DataType::Utf8 => longest(values.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => longest(values.as_string::<i64>().value_offsets()),
        DataType::Binary => longest(values.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => longest(values.as_binary::<i64>().value_offsets()),
        _ => (0..values.len()).map(|index| bytes(&values.slice(index, 1))).max().unwrap_or(0),
    }
}

fn longest<T: Copy + Into<i64>>(offsets: &[T]) -> u64 {
    offsets.windows(2).map(span).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        DictionaryArray, FixedSizeListArray, Int64Array, ListArray, StringArray, StringViewArray,
    };
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    #[test]
    fn cells_count_as_if_they_were_written_out() {
        let long = "x".repeat(1_000);
        let shared = |array: &dyn Array| bytes(&array.slice(0, array.len()));
        let views = StringViewArray::from_iter_values(std::iter::repeat_n(&long, 100));
        assert_eq!(shared(&views), 100 * 1_016);
        assert_eq!(shared(&views.slice(0, 3)), 3 * 1_016);
        let keys = arrow::array::Int32Array::from(vec![0; 100]);
        let dictionary = DictionaryArray::new(keys, Arc::new(StringArray::from(vec![long.as_str(), "y"])));
        assert_eq!(shared(&dictionary), 100 * 1_004);
        let texts = StringArray::from(vec!["ab", "cde", ""]);
        assert_eq!(shared(&texts.slice(1, 2)), 3 + 8);
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1); 10]),
            None,
            Some(vec![Some(1); 5]),
        ]);
        assert_eq!(shared(&lists), 15 * 8 + 12);
        assert_eq!(shared(&lists.slice(1, 2)), 5 * 8 + 8);
        let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..3).map(|row| Some(vec![Some(row); 4])),
            4,
        );
        assert_eq!((shared(&fixed), shared(&fixed.slice(1, 1))), (48, 16));
        assert_eq!(least(fixed.data_type()), 16);
    }

    #[test]
    fn batches_are_cut_where_they_are_large() {
        let long = "x".repeat(1 << 20);
        let texts = StringViewArray::from_iter_values(std::iter::repeat_n(&long, 100));
        let numbers = Int64Array::from_iter_values(0..100);
        let columns = [("text", Arc::new(texts) as ArrayRef), ("number", Arc::new(numbers) as ArrayRef)];
        let slices = cut(RecordBatch::try_from_iter(columns).unwrap());
        assert!(slices.len() >= 4 && slices.iter().all(|slice| of_batch(slice) <= BATCH_BYTES));
        let numbers = slices.iter().flat_map(|slice| slice.column(1).as_primitive::<Int64Type>().values());
        assert!(numbers.copied().eq(0..100));
    }
}
