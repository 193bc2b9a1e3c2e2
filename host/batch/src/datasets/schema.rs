//! The columns of a dataset, as they are shown and recorded: names, Arrow types in Arrow's own notation, and whether
//! values may be missing.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

/// What names of columns begin with that jobs make for themselves.
pub(crate) const RESERVED: char = '\u{1}';

/// The columns of a dataset, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatasetSchema {
    /// The columns.
    pub columns: Vec<Column>,
}

/// A column of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, unique in its dataset.
    pub name: String,
    /// What its values are, as Arrow writes it: `Int64`, `Utf8`, `Timestamp(ns)`, `List(Float32)`.
    #[serde(rename = "type", with = "as_text")]
    pub data_type: DataType,
    /// Whether values may be missing.
    pub nullable: bool,
}

impl DatasetSchema {
    /// The columns of an Arrow schema. What else that says, its metadata, is not kept.
    pub fn of(schema: &Schema) -> DatasetSchema {
        let column = |field: &Arc<Field>| Column {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
        };
        DatasetSchema { columns: schema.fields().iter().map(column).collect() }
    }

    /// The same for Arrow.
    pub fn to_arrow(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.name, column.data_type.clone(), column.nullable);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Why these columns cannot be those of a dataset, in one sentence.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.columns.is_empty() {
            return Some("it has no columns".to_owned());
        }
        for (index, column) in self.columns.iter().enumerate() {
            let Column { name, data_type, .. } = column;
            if name.is_empty() {
                return Some(format!("column {} has no name", index + 1));
            }
            if name.starts_with(RESERVED) {
                return Some(format!(
                    "column {name:?} begins with {RESERVED:?}, which no name of a column may"
                ));
            }
            if self.columns.iter().skip(index + 1).any(|other| other.name == *name) {
                return Some(format!("column {name:?} comes twice"));
            }
            if data_type.to_string().parse::<DataType>().ok().as_ref() != Some(data_type) {
                return Some(format!("column {name:?} is of type {data_type}, which is not supported"));
            }
        }
        None
    }
}

mod as_text {
    use arrow::datatypes::DataType;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(data_type: &DataType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(data_type)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DataType, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no Arrow type such as Int64 or Utf8")))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    fn schema(types: Vec<DataType>) -> DatasetSchema {
        let field = |(index, data_type): (usize, DataType)| Field::new(format!("c{index}"), data_type, true);
        DatasetSchema::of(&Schema::new(types.into_iter().enumerate().map(field).collect::<Vec<_>>()))
    }

    #[test]
    fn types_survive_being_written() {
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let written = schema(vec![
            DataType::Int64,
            DataType::Utf8,
            DataType::Boolean,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            DataType::Timestamp(TimeUnit::Second, Some("Europe/Lisbon".into())),
            DataType::Decimal128(10, 2),
            DataType::List(item.clone()),
            DataType::FixedSizeList(item.clone(), 3),
            DataType::Struct(vec![item].into()),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        ]);
        assert_eq!(written.problem(), None);
        let json = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<DatasetSchema>(&json).unwrap(), written, "{json}");
        assert_eq!(DatasetSchema::of(&written.to_arrow()), written);
    }

    #[test]
    fn columns_need_names_of_their_own() {
        assert!(schema(vec![]).problem().is_some());
        let mut twice = schema(vec![DataType::Int64, DataType::Utf8]);
        twice.columns[1].name = "c0".to_owned();
        assert_eq!(twice.problem().as_deref(), Some("column \"c0\" comes twice"));
        twice.columns[1].name = "\u{1}row".to_owned();
        assert!(twice.problem().is_some_and(|problem| problem.contains("no name of a column may")));
        twice.columns[1].name = String::new();
        assert_eq!(twice.problem().as_deref(), Some("column 2 has no name"));
    }
}
