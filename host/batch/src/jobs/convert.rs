//! Cells of an Arrow column as elements of a tensor's datatype. What is of the right type already is not touched; what
//! can be said in that type is converted by the rules of the JSON endpoint (integers exactly, floating-point numbers
//! rounded once, no overflow); what cannot is told cell by cell. Knows no rows, no inputs and no models.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float16Array, Float32Array, Float64Array};
use arrow::compute::kernels::cmp::neq;
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;
use modelhost_core::Datatype;

/// Cells of one type.
pub(crate) struct Converted {
    /// What did not fit is null here.
    pub(crate) values: ArrayRef,
    /// The places of what did not fit, in order.
    pub(crate) misfits: Vec<usize>,
}

/// The Arrow type whose buffer is a tensor of this datatype, or which holds the same in the case of BOOL and BYTES. BF16
/// has none.
pub(crate) fn arrow_type(datatype: Datatype) -> Option<DataType> {
    Some(match datatype {
        Datatype::Bool => DataType::Boolean,
        Datatype::Uint8 => DataType::UInt8,
        Datatype::Uint16 => DataType::UInt16,
        Datatype::Uint32 => DataType::UInt32,
        Datatype::Uint64 => DataType::UInt64,
        Datatype::Int8 => DataType::Int8,
        Datatype::Int16 => DataType::Int16,
        Datatype::Int32 => DataType::Int32,
        Datatype::Int64 => DataType::Int64,
        Datatype::Fp16 => DataType::Float16,
        Datatype::Fp32 => DataType::Float32,
        Datatype::Fp64 => DataType::Float64,
        Datatype::Bytes => DataType::Utf8,
        Datatype::Bf16 => return None,
    })
}

/// Whether cells of this type may be elements of this datatype, as far as the type tells.
pub(crate) fn fits(from: &DataType, to: Datatype) -> bool {
    if let DataType::Dictionary(_, values) = from {
        return fits(values, to);
    }
    let is_number = from.is_numeric() && !matches!(from, DataType::Decimal256(..));
    match to {
        Datatype::Bytes => {
            is_text(from)
                || from.is_binary()
                || matches!(
                    from,
                    DataType::BinaryView
                        | DataType::FixedSizeBinary(_)
                        | DataType::Date32
                        | DataType::Date64
                        | DataType::Null
                )
        }
        Datatype::Bool => is_text(from) || matches!(from, DataType::Boolean | DataType::Null),
        Datatype::Bf16 => false,
        _ => is_number || is_text(from) || *from == DataType::Null,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Makes cells to elements.
///
/// # Errors
/// A type of which no cell can be one: see [`fits`].
pub(crate) fn convert(values: &ArrayRef, to: Datatype) -> Result<Converted, ArrowError> {
    let values = match values.data_type() {
        DataType::Dictionary(_, plain) => cast(values, plain)?,
        _ => values.clone(),
    };
    if to == Datatype::Bytes {
        return bytes(values);
    }
    let wanted = arrow_type(to)
        .ok_or_else(|| ArrowError::CastError(format!("no Arrow type holds elements of {to}")))?;
    if *values.data_type() == wanted {
        return Ok(Converted { values, misfits: Vec::new() });
    }
    let values =
        if *values.data_type() == DataType::Utf8View { cast(&values, &DataType::Utf8)? } else { values };
    let converted = cast(&values, &wanted)?;
    let converted = without_what_was_changed(&values, converted)?;
    let misfits = misfits(&values, &converted);
    Ok(Converted { values: converted, misfits })
}

/// Texts and byte strings of any layout stay as they are: they are copied once, when the tensor is made.
fn bytes(values: ArrayRef) -> Result<Converted, ArrowError> {
    let values = match values.data_type() {
        DataType::Date32 | DataType::Date64 | DataType::Null => cast(&values, &DataType::Utf8)?,
        other if fits(other, Datatype::Bytes) => values,
        other => return Err(ArrowError::CastError(format!("{other} is no text"))),
    };
    Ok(Converted { values, misfits: Vec::new() })
}

fn cast(values: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    // What does not fit becomes null.
    cast_with_options(values, to, &CastOptions { safe: true, ..CastOptions::default() })
}

/// Null where the conversion lost more than it may: a fraction cut off, or a number that became infinite.
fn without_what_was_changed(from: &ArrayRef, to: ArrayRef) -> Result<ArrayRef, ArrowError> {
    let is_changed = match (from.data_type(), to.data_type()) {
        (DataType::Float16 | DataType::Float32 | DataType::Float64, integer) if integer.is_integer() => {
            neq(&cast(&to, from.data_type())?, from)?
        }
        (DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..), integer)
            if integer.is_integer() =>
        {
            neq(&cast(&to, from.data_type())?, from)?
        }
        (_, DataType::Float16 | DataType::Float32 | DataType::Float64) => match became_infinite(from, &to) {
            Some(infinite) => infinite,
            None => return Ok(to),
        },
        _ => return Ok(to),
    };
    nullif(&to, &is_changed)
}

/// Where a finite number became infinite; none where none did.
fn became_infinite(from: &ArrayRef, to: &ArrayRef) -> Option<BooleanArray> {
    let is_infinite: Vec<bool> = match to.data_type() {
        DataType::Float16 => infinite(to.as_primitive::<Float16Type>()),
        DataType::Float32 => infinite32(to.as_primitive::<Float32Type>()),
        _ => infinite64(to.as_primitive::<Float64Type>()),
    };
    if !is_infinite.contains(&true) {
        return None;
    }
    let was_finite = |index: usize| match from.data_type() {
        DataType::Float64 => from.as_primitive::<Float64Type>().value(index).is_finite(),
        DataType::Float32 => from.as_primitive::<Float32Type>().value(index).is_finite(),
        DataType::Float16 => from.as_primitive::<Float16Type>().value(index).is_finite(),
        DataType::Utf8 => is_written_finite(from.as_string::<i32>().value(index)),
        DataType::LargeUtf8 => is_written_finite(from.as_string::<i64>().value(index)),
        _ => true,
    };
    let changed = is_infinite.into_iter().enumerate().map(|(index, infinite)| infinite && was_finite(index));
    Some(BooleanArray::from(changed.collect::<Vec<bool>>()))
}

fn infinite(values: &Float16Array) -> Vec<bool> {
    values.values().iter().map(|value| value.is_infinite()).collect()
}

fn infinite32(values: &Float32Array) -> Vec<bool> {
    values.values().iter().map(|value| value.is_infinite()).collect()
}

fn infinite64(values: &Float64Array) -> Vec<bool> {
    values.values().iter().map(|value| value.is_infinite()).collect()
}

fn is_written_finite(text: &str) -> bool {
    let unsigned = text.trim_start_matches(['+', '-']);
    !unsigned.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("inf"))
}

fn misfits(from: &ArrayRef, to: &ArrayRef) -> Vec<usize> {
    if to.null_count() == from.null_count() {
        return Vec::new();
    }
    (0..to.len()).filter(|index| to.is_null(*index) && from.is_valid(*index)).collect()
}

/// Texts as cells of a type; what cannot be read as such does not fit.
///
/// # Errors
/// A type that no text can be read as.
pub(crate) fn read_as(texts: &ArrayRef, to: &DataType) -> Result<Converted, ArrowError> {
    if texts.data_type() == to {
        return Ok(Converted { values: texts.clone(), misfits: Vec::new() });
    }
    let values = cast(texts, to)?;
    let misfits = misfits(texts, &values);
    Ok(Converted { values, misfits })
}

/// A key as JSON: whole numbers as such, everything else as text.
pub(crate) fn key_of(column: &ArrayRef, row: usize) -> Option<serde_json::Value> {
    if column.is_null(row) {
        return None;
    }
    let text = arrow::util::display::array_value_to_string(column, row).ok()?;
    if column.data_type().is_integer() {
        return text.parse::<serde_json::Number>().ok().map(serde_json::Value::Number);
    }
    Some(serde_json::Value::String(text))
}

/// One cell as a text for a message, shortened.
pub(crate) fn shown(values: &ArrayRef, index: usize) -> String {
    const CHARACTERS: usize = 64;
    let text = match arrow::util::display::array_value_to_string(values, index) {
        Ok(text) => text,
        Err(_) => return "a value".to_owned(),
    };
    let is_text = is_text(values.data_type());
    let short = match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    };
    if is_text { format!("{short:?}") } else { short }
}

/// One element of a datatype, of a JSON value; a text may stand for a number that JSON does not have.
pub(crate) fn element(value: &serde_json::Value, datatype: Datatype) -> Option<ArrayRef> {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) if datatype != Datatype::Bytes => number.to_string(),
        serde_json::Value::Bool(value) if datatype == Datatype::Bool => value.to_string(),
        _ => return None,
    };
    let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![text]));
    let converted = convert(&text, datatype).ok()?;
    converted.misfits.is_empty().then_some(converted.values)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn converted(values: impl Array + 'static, to: Datatype) -> Converted {
        convert(&(Arc::new(values) as ArrayRef), to).unwrap()
    }

    #[test]
    fn what_is_of_the_type_is_not_copied() {
        let values = Float32Array::from(vec![1.0, 2.0]);
        let before = values.values().inner().as_ptr();
        let after = converted(values, Datatype::Fp32).values;
        assert_eq!(after.as_primitive::<Float32Type>().values().inner().as_ptr(), before);
    }

    #[test]
    fn numbers_are_rounded_but_never_become_infinite_or_lose_a_fraction() {
        let floats =
            Float64Array::from(vec![Some(0.1), Some(1e300), None, Some(f64::INFINITY), Some(f64::NAN)]);
        let single = converted(floats, Datatype::Fp32);
        assert_eq!(single.misfits, [1]);
        let values = single.values.as_primitive::<Float32Type>();
        assert_eq!((values.value(0), values.value(3)), (0.1, f32::INFINITY));
        assert!(values.is_null(2) && values.value(4).is_nan());
        let whole = converted(Float64Array::from(vec![3.0, 3.5, 1e12, f64::NAN]), Datatype::Int32);
        assert_eq!(whole.misfits, [1, 2, 3]);
        assert_eq!(converted(Int64Array::from(vec![127, 128, -129]), Datatype::Int8).misfits, [1, 2]);
        assert_eq!(converted(Int64Array::from(vec![39]), Datatype::Fp32).misfits, Vec::<usize>::new());
    }

    #[test]
    fn texts_are_read_as_numbers() {
        let texts = || {
            StringArray::from(vec![Some("39"), Some("thirty"), None, Some(""), Some("1e50"), Some("-inf")])
        };
        assert_eq!(converted(texts(), Datatype::Fp32).misfits, [1, 3, 4]);
        assert_eq!(converted(texts(), Datatype::Int32).misfits, [1, 3, 4, 5]);
        let viewed = converted(StringViewArray::from(vec!["7"]), Datatype::Int32);
        assert_eq!(viewed.values.as_primitive::<Int32Type>().value(0), 7);
        assert_eq!(converted(StringArray::from(vec!["true", "yes", "maybe"]), Datatype::Bool).misfits, [2]);
    }

    #[test]
    fn days_are_written_as_in_iso_8601() {
        let days = converted(Date32Array::from(vec![17_362]), Datatype::Bytes).values;
        assert_eq!(days.as_string::<i32>().value(0), "2017-07-15");
    }

    #[test]
    fn types_that_never_fit_are_known_before() {
        assert!(fits(&DataType::Utf8, Datatype::Fp32) && fits(&DataType::Float64, Datatype::Int8));
        for (from, to) in [
            (DataType::Int64, Datatype::Bytes),
            (DataType::Boolean, Datatype::Fp32),
            (DataType::Float32, Datatype::Bf16),
            (DataType::Float32, Datatype::Bool),
        ] {
            assert!(!fits(&from, to), "{from} {to}");
            assert!(convert(&arrow::array::new_null_array(&from, 1), to).is_err() || to != Datatype::Bytes);
        }
    }

    #[test]
    fn elements_are_read_from_json() {
        let number = element(&serde_json::json!("NaN"), Datatype::Fp32).unwrap();
        assert!(number.as_primitive::<Float32Type>().value(0).is_nan());
        assert!(element(&serde_json::json!(1.5), Datatype::Int32).is_none());
        assert!(element(&serde_json::json!(""), Datatype::Bytes).is_some());
        assert!(element(&serde_json::json!(1), Datatype::Bytes).is_none());
    }
}
