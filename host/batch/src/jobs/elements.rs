//! Cells as the bytes of a tensor. Numbers are handed over where they lie, or, where rows between them are left out, in
//! as few pieces as there are; texts are copied once. Knows Arrow's layouts and the tensor's, no inputs and no calls.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Scalar, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{concat, is_not_null, take};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use bytes::Bytes;
use modelhost_core::Datatype;

/// Rows of a run from which on it is quicker to copy runs than rows.
const WORTHY_RUN: usize = 8;

/// Some rows of a column, which are in order: a slice of it where they lie side by side.
pub(crate) fn pick(column: &ArrayRef, rows: &[u32]) -> Result<ArrayRef, ArrowError> {
    let slice = |run: &Range<usize>| column.slice(run.start, run.len());
    match &runs(rows)[..] {
        [] => Ok(column.slice(0, 0)),
        [run] => Ok(slice(run)),
        runs if rows.len() >= WORTHY_RUN * runs.len() => {
            let slices: Vec<ArrayRef> = runs.iter().map(slice).collect();
            concat(&slices.iter().map(AsRef::as_ref).collect::<Vec<_>>())
        }
        _ => take(column, &UInt32Array::from(rows.to_vec()), None),
    }
}

/// Rows that lie side by side.
fn runs(rows: &[u32]) -> Vec<Range<usize>> {
    let follows = |before: &u32, after: &u32| before.checked_add(1) == Some(*after);
    let run = |run: &[u32]| {
        let first = run.first().map_or(0, |first| *first as usize);
        first..first + run.len()
    };
    rows.chunk_by(follows).map(run).collect()
}

/// Values with this one in place of nulls.
pub(crate) fn filled(values: &ArrayRef, filling: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let filling = arrow::compute::cast(filling, values.data_type())?;
    zip(&is_not_null(values)?, values, &Scalar::new(filling))
}

/// The elements of cells without nulls, in the layout of a tensor. Among texts there may be nulls where it is said what
/// they become.
///
/// # Errors
/// More than a tensor can hold.
pub(crate) fn elements(
    cells: &ArrayRef,
    datatype: Datatype,
    text_for_null: Option<&ArrayRef>,
) -> Result<Bytes, String> {
    match datatype.size() {
        None => strings(std::slice::from_ref(cells), text_for_null),
        Some(_) if datatype == Datatype::Bool => Ok(truths(cells.as_boolean()).into()),
        Some(size) => Ok(Bytes::from_owner(shared(cells, size)?)),
    }
}

/// A buffer of Arrow, as bytes.
struct Shared(arrow::buffer::Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn shared(cells: &ArrayRef, size: usize) -> Result<Shared, String> {
    let data = cells.to_data();
    let buffer = data.buffers().first().ok_or("a column of numbers has no buffer")?;
    Ok(Shared(buffer.slice_with_length(data.offset() * size, data.len() * size)))
}

fn truths(cells: &BooleanArray) -> Vec<u8> {
    cells.values().iter().map(u8::from).collect()
}

/// Columns of equal length, row by row.
///
/// # Errors
/// As [`elements`].
pub(crate) fn side_by_side(
    columns: &[ArrayRef],
    datatype: Datatype,
    text_for_null: Option<&ArrayRef>,
) -> Result<Bytes, String> {
    if datatype == Datatype::Bytes {
        return strings(columns, text_for_null);
    }
    let size = datatype.size().unwrap_or(1);
    let part = |column| elements(column, datatype, None);
    let parts = columns.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let rows = parts.first().map_or(0, |part| part.len() / size);
    let mut data = Vec::with_capacity(rows * size * parts.len());
    for row in 0..rows {
        parts.iter().for_each(|part| data.extend_from_slice(&part[row * size..(row + 1) * size]));
    }
    Ok(data.into())
}

/// Texts and byte strings with their lengths, row by row.
fn strings(columns: &[ArrayRef], text_for_null: Option<&ArrayRef>) -> Result<Bytes, String> {
    let for_null = text_for_null.map(Cells::new).transpose()?;
    let for_null = for_null.map_or(&[][..], |cells| cells.get(0));
    let rows = columns.first().map_or(0, |column| column.len());
    let columns = columns.iter().map(|column| Texts::new(column, for_null)).collect::<Result<Vec<_>, _>>()?;
    let length = |row: usize| columns.iter().map(|column| 4 + column.get(row).len()).sum::<usize>();
    let mut data = Vec::with_capacity((0..rows).map(length).sum());
    for row in 0..rows {
        for column in &columns {
            let bytes = column.get(row);
            let length = u32::try_from(bytes.len()).map_err(|_| "a text has more than 4 GiB")?;
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(bytes);
        }
    }
    Ok(data.into())
}

/// Texts and byte strings, and what stands for a null among them.
struct Texts<'a> {
    cells: Cells<'a>,
    nulls: Option<&'a NullBuffer>,
    for_null: &'a [u8],
}

impl<'a> Texts<'a> {
    fn new(column: &'a ArrayRef, for_null: &'a [u8]) -> Result<Texts<'a>, String> {
        Ok(Texts { cells: Cells::new(column)?, nulls: column.nulls(), for_null })
    }

    fn get(&self, row: usize) -> &'a [u8] {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) { self.for_null } else { self.cells.get(row) }
    }
}

/// Texts and byte strings in any of Arrow's layouts.
#[derive(Clone, Copy)]
enum Cells<'a> {
    Text(&'a arrow::array::StringArray),
    LargeText(&'a arrow::array::LargeStringArray),
    TextView(&'a arrow::array::StringViewArray),
    Binary(&'a arrow::array::BinaryArray),
    LargeBinary(&'a arrow::array::LargeBinaryArray),
    BinaryView(&'a arrow::array::BinaryViewArray),
    FixedSizeBinary(&'a arrow::array::FixedSizeBinaryArray),
}

impl<'a> Cells<'a> {
    fn new(array: &'a ArrayRef) -> Result<Cells<'a>, String> {
        Ok(match array.data_type() {
            DataType::Utf8 => Cells::Text(array.as_string()),
            DataType::LargeUtf8 => Cells::LargeText(array.as_string()),
            DataType::Utf8View => Cells::TextView(array.as_string_view()),
            DataType::Binary => Cells::Binary(array.as_binary()),
            DataType::LargeBinary => Cells::LargeBinary(array.as_binary()),
            DataType::BinaryView => Cells::BinaryView(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => Cells::FixedSizeBinary(array.as_fixed_size_binary()),
            other => return Err(format!("{other} is no text")),
        })
    }

    fn get(self, row: usize) -> &'a [u8] {
        match self {
            Cells::Text(array) => array.value(row).as_bytes(),
            Cells::LargeText(array) => array.value(row).as_bytes(),
            Cells::TextView(array) => array.value(row).as_bytes(),
            Cells::Binary(array) => array.value(row),
            Cells::LargeBinary(array) => array.value(row),
            Cells::BinaryView(array) => array.value(row),
            Cells::FixedSizeBinary(array) => array.value(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn rows_are_picked_as_a_slice_in_runs_or_one_by_one() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let picked = |rows: Vec<u32>| pick(&column, &rows).unwrap();
        let numbers = |array: &ArrayRef| array.as_primitive::<Int64Type>().values().to_vec();
        let address = |array: &ArrayRef| array.to_data().buffers()[0].as_ptr().addr();
        assert_eq!(address(&picked((10..90).collect())), address(&column) + 10 * 8);
        let without_one: Vec<u32> = (0..100).filter(|row| *row != 50).collect();
        let scattered: Vec<u32> = (0..100).step_by(3).collect();
        for rows in [vec![], vec![7], without_one, scattered, vec![u32::MAX - 1; 0]] {
            let expected: Vec<i64> = rows.iter().map(|row| i64::from(*row)).collect();
            assert_eq!(numbers(&picked(rows)), expected);
        }
    }

    #[test]
    fn texts_have_their_lengths_and_room_for_no_more() {
        let long = "x".repeat(10_000);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), None, Some(&*long)]));
        let unknown: ArrayRef = Arc::new(StringArray::from(vec!["?"]));
        let written = elements(&texts.slice(0, 2), Datatype::Bytes, Some(&unknown)).unwrap();
        assert_eq!(&written[..], b"\x02\0\0\0ab\x01\0\0\0?");
        let capacity = Vec::from(written).capacity();
        assert!(capacity < 100, "{capacity} bytes for eleven");
        let views: ArrayRef = Arc::new(StringViewArray::from(vec![Some("c"), Some("d"), None]));
        let written = side_by_side(&[texts, views], Datatype::Bytes, Some(&unknown)).unwrap();
        assert_eq!(&written[..16], b"\x02\0\0\0ab\x01\0\0\0c\x01\0\0\0?");
    }
}
