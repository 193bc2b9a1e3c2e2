//! The columns of a dataset, as they are shown and recorded: names, Arrow types in Arrow's own notation, and whether
//! values may be missing.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

/// Most columns of a dataset.
pub(crate) const MAX_COLUMNS: usize = 4_096;
/// Longest name of a column.
const MAX_NAME_BYTES: usize = 1 << 10;
/// Longest type in Arrow's notation. A structure holds the names of its fields.
const MAX_TYPE_BYTES: usize = 64 << 10;
/// Deepest nesting of types. Who reads their notation, or compares them, calls itself for each level.
const MAX_TYPE_DEPTH: usize = 32;
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
        if self.columns.len() > MAX_COLUMNS {
            return Some(format!("it has {} columns: expected at most {MAX_COLUMNS}", self.columns.len()));
        }
        let mut names = HashSet::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            let Column { name, data_type, .. } = column;
            if name.is_empty() {
                return Some(format!("column {} has no name", index + 1));
            }
            if name.len() > MAX_NAME_BYTES {
                let number = index + 1;
                return Some(format!("the name of column {number} is longer than {MAX_NAME_BYTES} bytes"));
            }
            if name.starts_with(RESERVED) {
                return Some(format!(
                    "column {name:?} begins with {RESERVED:?}, which no name of a column may"
                ));
            }
            if !names.insert(name) {
                return Some(format!("column {name:?} comes twice"));
            }
            if is_deep(data_type, MAX_TYPE_DEPTH) {
                return Some(format!(
                    "the type of column {name:?} is nested more than {MAX_TYPE_DEPTH} deep"
                ));
            }
            if parse_type(&data_type.to_string()).as_ref() != Some(data_type) {
                return Some(format!("column {name:?} is of type {data_type}, which is not supported"));
            }
        }
        None
    }
}

/// Whether types are nested deeper than this.
fn is_deep(data_type: &DataType, most: usize) -> bool {
    let Some(rest) = most.checked_sub(1) else { return true };
    match data_type {
        DataType::List(field)
        | DataType::ListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::LargeList(field)
        | DataType::LargeListView(field)
        | DataType::Map(field, _) => is_deep(field.data_type(), rest),
        DataType::Struct(fields) => fields.iter().any(|field| is_deep(field.data_type(), rest)),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| is_deep(field.data_type(), rest)),
        DataType::Dictionary(_, values) => is_deep(values, rest),
        DataType::RunEndEncoded(_, values) => is_deep(values.data_type(), rest),
        _ => false,
    }
}

/// A type in Arrow's notation. None: it is none, or one that no column may have.
///
/// Arrow's own parser calls itself for each level of a text that may be hostile.
pub(crate) fn parse_type(text: &str) -> Option<DataType> {
    if text.len() > MAX_TYPE_BYTES || depth_of_notation(text) > MAX_TYPE_DEPTH {
        return None;
    }
    text.parse().ok()
}

/// How deep parentheses are nested, those in names of fields aside.
fn depth_of_notation(text: &str) -> usize {
    let (mut depth, mut deepest, mut is_name, mut is_escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_name => is_escaped = true,
            b'"' => is_name = !is_name,
            b'(' if !is_name => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' if !is_name => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
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
        super::parse_type(&text).ok_or_else(|| {
            let beginning: String = text.chars().take(100).collect();
            D::Error::custom(format!("{beginning:?} is no Arrow type such as Int64 or Utf8"))
        })
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
    fn types_are_not_nested_without_end() {
        let nested = |depth: usize| {
            (0..depth)
                .fold(DataType::Int64, |inner, _| DataType::List(Arc::new(Field::new("item", inner, true))))
        };
        assert_eq!(schema(vec![nested(MAX_TYPE_DEPTH - 1)]).problem(), None);
        let problem = schema(vec![nested(MAX_TYPE_DEPTH)]).problem().unwrap();
        assert!(problem.contains("nested more than 32 deep"), "{problem}");
        // Far beyond what the stack of a thread holds.
        for text in ["List(".repeat(1 << 20), "List(".repeat(10_000), "Struct(\"a(\": ".repeat(10_000)] {
            assert_eq!(parse_type(&text), None);
        }
        // Parentheses in names nest nothing.
        let odd = DataType::Struct(vec![Field::new("((".repeat(40), DataType::Int64, true)].into());
        assert_eq!(schema(vec![odd]).problem(), None);
    }

    #[test]
    fn columns_are_not_without_number() {
        assert_eq!(schema(vec![DataType::Int64; MAX_COLUMNS]).problem(), None);
        let problem = schema(vec![DataType::Int64; MAX_COLUMNS + 1]).problem().unwrap();
        assert_eq!(problem, "it has 4097 columns: expected at most 4096");
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
