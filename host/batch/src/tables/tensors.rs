//! Rows of a table as tensors: a column at a time, numbers without copying them, lists as one more dimension. Knows
//! nothing of keys and of where the rows came from.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray as _, ListArray, RecordBatch, UInt32Array, make_array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{self as types, ArrowNativeType as _, DataType};
use bytes::Bytes;
use modelhost_core::{Datatype, Tensor};
use modelhost_serving::FoundColumn;

use crate::Error;

/// Why rows have no tensors.
#[derive(Debug)]
pub(super) enum Refused {
    /// With this column, it would be more than there may be.
    TooLarge { column: String },
    /// What should not be.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Failed(error)
    }
}

/// Columns as tensors, of at most this many bytes all together.
///
/// # Errors
/// [`Refused::TooLarge`], before anything of that size is made.
pub(super) fn columns(rows: &RecordBatch, most_bytes: usize) -> Result<Vec<FoundColumn>, Refused> {
    let mut flat = Flattening { left: most_bytes, columns: Vec::with_capacity(rows.num_columns()) };
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        flat.add(field.name().clone(), column.clone(), Outline::new(rows.num_rows()))?;
    }
    Ok(flat.columns)
}

struct Flattening {
    /// Bytes that those to come may have.
    left: usize,
    columns: Vec<FoundColumn>,
}

/// What is known of a column from outside inwards.
#[derive(Clone)]
struct Outline {
    shape: Vec<u64>,
    lengths: Option<Vec<u32>>,
    nulls: Option<Vec<bool>>,
}

impl Outline {
    fn new(rows: usize) -> Outline {
        Outline { shape: vec![rows as u64], lengths: None, nulls: None }
    }

    fn is_of_rows(&self) -> bool {
        self.shape.len() == 1
    }
}

impl Flattening {
    fn add(&mut self, name: String, column: ArrayRef, mut outline: Outline) -> Result<(), Refused> {
        match column.data_type() {
            DataType::Struct(fields) => {
                for (field, values) in fields.iter().zip(column.as_struct().columns()) {
                    let values = without(values, column.nulls())?;
                    self.add(format!("{name}.{}", field.name()), values, outline.clone())?;
                }
                Ok(())
            }
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                let padded = self.pad(&name, list)?;
                if outline.is_of_rows() {
                    outline.nulls = nulls(list);
                    outline.lengths = padded.lengths;
                }
                outline.shape.push(padded.width as u64);
                self.add(name, padded.values, outline)
            }
            _ => {
                if outline.is_of_rows() {
                    outline.nulls = nulls(&column);
                }
                let Outline { shape, lengths, nulls } = outline;
                let beside = lengths.as_ref().map_or(0, |lengths| size_of_val(lengths.as_slice()))
                    + nulls.as_ref().map_or(0, Vec::len);
                let bytes = size_of_rows(&column, 0, column.len()).saturating_add(beside);
                self.left = self.left.checked_sub(bytes).ok_or_else(|| too_large(&name))?;
                let values = tensor(&column, shape)?;
                self.columns.push(FoundColumn { name, values, lengths, nulls });
                Ok(())
            }
        }
    }

    fn pad(&self, name: &str, list: &ListArray) -> Result<Padded, Refused> {
        let length = |row: usize| if list.is_null(row) { 0 } else { list.value_length(row).as_usize() };
        let width = (0..list.len()).map(length).max().unwrap_or(0);
        let is_even = list.null_count() == 0 && (0..list.len()).all(|row| length(row) == width);
        if is_even {
            let values = list.values().slice(list.value_offsets()[0].as_usize(), list.len() * width);
            return Ok(Padded { values, width, lengths: None });
        }
        let elements = list.len().saturating_mul(width);
        if padded_size(list, elements) > self.left {
            return Err(too_large(name));
        }
        let mut places = Vec::with_capacity(elements);
        for row in 0..list.len() {
            let start = list.value_offsets()[row].as_usize();
            places.extend(
                (0..width).map(|element| (element < length(row)).then_some((start + element) as u32)),
            );
        }
        let values = take(list.values(), &UInt32Array::from(places), None).map_err(Error::internal)?;
        Ok(Padded { values, width, lengths: Some((0..list.len()).map(|row| length(row) as u32).collect()) })
    }
}

/// The lists of a column, all as long as the longest.
struct Padded {
    values: ArrayRef,
    width: usize,
    /// Where they differ.
    lengths: Option<Vec<u32>>,
}

fn too_large(column: &str) -> Refused {
    Refused::TooLarge { column: column.to_owned() }
}

/// Bytes of the elements of lists that were made as long as the longest, and of what is needed to make them so.
fn padded_size(list: &ListArray, elements: usize) -> usize {
    let offsets = list.value_offsets();
    let (start, end) = (offsets[0].as_usize(), offsets[list.len()].as_usize());
    let padding = elements.saturating_sub(end - start).saturating_mul(size_of_missing(&list.value_type()));
    let places = elements.saturating_mul(size_of::<Option<u32>>() + size_of::<u32>());
    size_of_rows(list.values(), start, end - start).saturating_add(padding).saturating_add(places)
}

/// Bytes of an element that is not there.
fn size_of_missing(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| size_of_missing(field.data_type())).sum(),
        DataType::Boolean => 1,
        number => number.primitive_width().unwrap_or(size_of::<u32>()),
    }
}

/// The values, with those of missing structs missing too.
fn without(values: &ArrayRef, missing: Option<&NullBuffer>) -> Result<ArrayRef, Error> {
    if missing.is_none_or(|missing| missing.null_count() == 0) {
        return Ok(values.clone());
    }
    let nulls = NullBuffer::union(values.nulls(), missing);
    let data = values.to_data().into_builder().nulls(nulls).build().map_err(Error::internal)?;
    Ok(make_array(data))
}

fn nulls(column: &dyn Array) -> Option<Vec<bool>> {
    let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0)?;
    Some(nulls.iter().map(|is_there| !is_there).collect())
}

/// Values that hold no others. Those that are missing are NaN, 0, false or empty.
pub(super) fn tensor(values: &ArrayRef, shape: Vec<u64>) -> Result<Tensor, Error> {
    let (datatype, data) = elements(values)?;
    Tensor::new(datatype, shape, data).map_err(Error::internal)
}

fn elements(values: &ArrayRef) -> Result<(Datatype, Bytes), Error> {
    use DataType as T;
    Ok(match values.data_type() {
        T::Boolean => {
            let flags = values.as_boolean().iter().map(|flag| u8::from(flag.unwrap_or(false)));
            (Datatype::Bool, flags.collect::<Vec<u8>>().into())
        }
        T::UInt8 => (Datatype::Uint8, numbers::<types::UInt8Type>(values, 0)),
        T::UInt16 => (Datatype::Uint16, numbers::<types::UInt16Type>(values, 0)),
        T::UInt32 => (Datatype::Uint32, numbers::<types::UInt32Type>(values, 0)),
        T::UInt64 => (Datatype::Uint64, numbers::<types::UInt64Type>(values, 0)),
        T::Int8 => (Datatype::Int8, numbers::<types::Int8Type>(values, 0)),
        T::Int16 => (Datatype::Int16, numbers::<types::Int16Type>(values, 0)),
        T::Int32 => (Datatype::Int32, numbers::<types::Int32Type>(values, 0)),
        T::Int64 => (Datatype::Int64, numbers::<types::Int64Type>(values, 0)),
        T::Float16 => (Datatype::Fp16, numbers::<types::Float16Type>(values, half::f16::NAN)),
        T::Float32 => (Datatype::Fp32, numbers::<types::Float32Type>(values, f32::NAN)),
        T::Float64 => (Datatype::Fp64, numbers::<types::Float64Type>(values, f64::NAN)),
        T::Utf8 => {
            let strings = values.as_string::<i32>();
            (Datatype::Bytes, prefixed(strings.iter().map(|text| text.map(str::as_bytes))))
        }
        T::Binary => (Datatype::Bytes, prefixed(values.as_binary::<i32>().iter())),
        // Times, dates and decimals: no datatype of a tensor is like theirs.
        _ => {
            let text =
                cast_with_options(values, &T::Utf8, &CastOptions::default()).map_err(Error::internal)?;
            (Datatype::Bytes, prefixed(text.as_string::<i32>().iter().map(|text| text.map(str::as_bytes))))
        }
    })
}

/// Where the numbers lie, as long as none is missing.
fn numbers<T: ArrowPrimitiveType>(values: &ArrayRef, missing: T::Native) -> Bytes {
    let numbers = values.as_primitive::<T>();
    let buffer = if numbers.null_count() == 0 {
        numbers.values().inner().clone()
    } else {
        numbers.iter().map(|number| number.unwrap_or(missing)).collect::<Vec<T::Native>>().into()
    };
    Bytes::from_owner(Owned(buffer))
}

struct Owned(Buffer);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// BYTES: each element behind its length.
fn prefixed<'a>(elements: impl Iterator<Item = Option<&'a [u8]>>) -> Bytes {
    let mut data = Vec::new();
    for element in elements {
        let bytes = element.unwrap_or_default();
        // Offsets of 32 bits bound each of them.
        data.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        data.extend_from_slice(bytes);
    }
    data.into()
}

/// About how many bytes some rows of a column take as tensors, without lists being padded.
pub(super) fn size_of_rows(column: &dyn Array, start: usize, rows: usize) -> usize {
    match column.data_type() {
        DataType::Struct(_) => {
            column.as_struct().columns().iter().map(|field| size_of_rows(field, start, rows)).sum()
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let (from, to) = (list.value_offsets()[start], list.value_offsets()[start + rows]);
            size_of_rows(list.values(), from.as_usize(), (to - from).as_usize())
        }
        DataType::Utf8 => {
            let offsets = column.as_string::<i32>().value_offsets();
            (offsets[start + rows] - offsets[start]).as_usize() + 4 * rows
        }
        DataType::Binary => {
            let offsets = column.as_binary::<i32>().value_offsets();
            (offsets[start + rows] - offsets[start]).as_usize() + 4 * rows
        }
        DataType::Boolean => rows,
        // What becomes text is at most a decimal of 76 digits.
        number => {
            rows * number
                .primitive_width()
                .filter(|_| number.is_integer() || number.is_floating())
                .unwrap_or(84)
        }
    }
}

#[cfg(test)]
#[path = "tensors_tests.rs"]
mod tests;
