//! Which columns a table file has: the few Arrow types that what reads it has to know, and the key in front. Every
//! other type that a dataset may have becomes one of these.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use modelhost_core::ErrorCode;

use crate::Error;

/// What a column cannot hold becomes an error, not a null.
const EXACT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// From the columns of a dataset to those of a table.
#[derive(Debug)]
pub(in super::super) struct Columns {
    schema: SchemaRef,
    /// Of each column of the table, its place in the dataset.
    sources: Vec<usize>,
}

impl Columns {
    /// The columns of a table that is made of a dataset with this schema.
    ///
    /// # Errors
    /// [`ErrorCode::Unprocessable`] where there is no such key, or a column cannot be stored.
    pub(in super::super) fn new(dataset: &Schema, key: &str) -> Result<Columns, Error> {
        let names =
            || dataset.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        let Some((place, field)) = dataset.column_with_name(key) else {
            return Err(refused(format!("key column {key:?} is not in the dataset: it has {}", names())));
        };
        let key_type = key_type(field.data_type()).ok_or_else(|| {
            refused(format!(
                "key column {key:?} has type {}: expected whole numbers or strings",
                field.data_type()
            ))
        })?;
        let mut fields = vec![Arc::new(Field::new(key, key_type, false))];
        let mut sources = vec![place];
        for (index, field) in dataset.fields().iter().enumerate().filter(|(index, _)| *index != place) {
            fields.push(stored_field(field).ok_or_else(|| {
                refused(format!(
                    "column {:?} has type {}, which a prediction table cannot hold",
                    field.name(),
                    field.data_type()
                ))
            })?);
            sources.push(index);
        }
        Ok(Columns { schema: Arc::new(Schema::new(fields)), sources })
    }

    /// The schema of the table file: first the key, without nulls, and then the rest.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether keys are whole numbers; else they are strings.
    pub(in super::super) fn has_integer_keys(&self) -> bool {
        self.schema.field(0).data_type() == &DataType::Int64
    }

    /// Rows of the dataset as rows of the table.
    ///
    /// # Errors
    /// [`ErrorCode::Unprocessable`] for a key that is null or too large for a table.
    pub(super) fn convert(&self, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        let key = self.schema.field(0).name();
        if rows.column(self.sources[0]).is_nullable() && rows.column(self.sources[0]).logical_null_count() > 0
        {
            return Err(refused(format!("key column {key:?} holds a null: every row needs a key")));
        }
        let convert = |(field, source): (&FieldRef, &usize)| {
            cast_with_options(rows.column(*source), field.data_type(), &EXACT).map_err(|error| {
                refused(format!("column {:?} cannot be stored in a table: {error}", field.name()))
            })
        };
        let columns =
            self.schema.fields().iter().zip(&self.sources).map(convert).collect::<Result<_, _>>()?;
        RecordBatch::try_new(self.schema.clone(), columns).map_err(Error::internal)
    }
}

fn refused(message: String) -> Error {
    Error::new(ErrorCode::Unprocessable, message)
}

/// Whole numbers of 64 bits, or strings.
fn key_type(dataset: &DataType) -> Option<DataType> {
    match dataset {
        integer if integer.is_integer() => Some(DataType::Int64),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Dictionary(_, values) => key_type(values),
        _ => None,
    }
}

fn stored_field(field: &FieldRef) -> Option<FieldRef> {
    let stored = stored_type(field.data_type())?;
    can_cast_types(field.data_type(), &stored).then(|| Arc::new(Field::new(field.name(), stored, true)))
}

fn stored_type(dataset: &DataType) -> Option<DataType> {
    use DataType as T;
    Some(match dataset {
        T::Null | T::Utf8 | T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        // The zone is how it is shown, not what it is; names of zones would need their database.
        T::Timestamp(unit, Some(_)) => T::Timestamp(*unit, Some("+00:00".into())),
        T::Boolean | T::Date32 | T::Date64 | T::Time32(_) | T::Time64(_) | T::Timestamp(_, None) => {
            dataset.clone()
        }
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => dataset.clone(),
        number if number.is_numeric() => number.clone(),
        T::Dictionary(_, values) => stored_type(values)?,
        T::RunEndEncoded(_, values) => stored_type(values.data_type())?,
        T::List(item)
        | T::LargeList(item)
        | T::ListView(item)
        | T::LargeListView(item)
        | T::FixedSizeList(item, _) => T::List(stored_field(item)?),
        T::Struct(fields) => T::Struct(fields.iter().map(stored_field).collect::<Option<_>>()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray as _, Int64Array, StringArray, UInt64Array};
    use arrow::datatypes::{Int64Type, TimeUnit};

    use super::*;

    fn columns(fields: Vec<Field>) -> Result<Columns, Error> {
        Columns::new(&Schema::new(fields), "id")
    }

    #[test]
    fn the_key_comes_first_and_is_a_number_or_a_string() {
        let score = Field::new("score", DataType::Float32, false);
        let keyed = columns(vec![score.clone(), Field::new("id", DataType::UInt8, true)]).unwrap();
        let names: Vec<&str> = keyed.schema().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["id", "score"]);
        assert_eq!(keyed.schema().field(0).data_type(), &DataType::Int64);
        let refused = |fields| columns(fields).unwrap_err().message;
        let sentence = refused(vec![score]);
        assert_eq!(sentence, "key column \"id\" is not in the dataset: it has score");
        let sentence = refused(vec![Field::new("id", DataType::Float64, false)]);
        assert_eq!(sentence, "key column \"id\" has type Float64: expected whole numbers or strings");
    }

    #[test]
    fn every_type_becomes_one_that_can_be_read_or_is_named() {
        let list = |item| DataType::LargeList(Arc::new(Field::new("item", item, true)));
        let stored = |data_type: DataType| stored_type(&data_type);
        assert_eq!(stored(DataType::Utf8View), Some(DataType::Utf8));
        let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8));
        assert_eq!(stored(dictionary), Some(DataType::Utf8));
        let text = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        assert_eq!(stored(list(DataType::LargeUtf8)), Some(text));
        let zoned = DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into()));
        let stored_zoned = DataType::Timestamp(TimeUnit::Second, Some("+00:00".into()));
        assert_eq!(stored(zoned), Some(stored_zoned));
        let duration = Field::new("wait", list(DataType::Duration(TimeUnit::Second)), true);
        let sentence = columns(vec![Field::new("id", DataType::Int8, false), duration]).unwrap_err().message;
        assert!(sentence.starts_with("column \"wait\" has type LargeList("), "{sentence}");
    }

    #[test]
    fn keys_that_no_row_can_have_are_refused() {
        let convert = |key: ArrayRef| {
            let rows = RecordBatch::try_from_iter([("id", key)]).unwrap();
            let columns = Columns::new(&rows.schema(), "id").unwrap();
            columns.convert(&rows).map(|rows| rows.column(0).clone()).map_err(|error| error.message)
        };
        let null = convert(Arc::new(StringArray::from(vec![Some("a"), None]))).unwrap_err();
        assert_eq!(null, "key column \"id\" holds a null: every row needs a key");
        let large = convert(Arc::new(UInt64Array::from(vec![u64::MAX]))).unwrap_err();
        assert!(large.contains("18446744073709551615"), "{large}");
        let kept = convert(Arc::new(Int64Array::from(vec![i64::MIN]))).unwrap();
        assert_eq!(kept.as_primitive::<Int64Type>().value(0), i64::MIN);
    }
}
