//! The SQL of a job: which rows are wanted, and which columns are made of those that the dataset has. Expressions only:
//! no statements, no other tables, no files, and no functions but those that take as much as they are given.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, ExprSchemable as _};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use modelhost_core::ErrorCode;
use modelhost_serving::Error;
use parking_lot::Mutex;

use super::fault::FailedRow;
use super::reading::{RowStream, Rows};
use super::scoring::ROW_NUMBER;
use crate::query_failure::{Cause, exhausted, quoted};

/// Functions that neither make more than they are given nor read anything else, nor answer differently each time.
const FUNCTIONS: &[&str] = &[
    "abs",
    "arrow_cast",
    "ascii",
    "bit_length",
    "btrim",
    "ceil",
    "char_length",
    "character_length",
    "chr",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "date_bin",
    "date_part",
    "date_trunc",
    "datepart",
    "datetrunc",
    "ends_with",
    "exp",
    "floor",
    "from_unixtime",
    "get_field",
    "greatest",
    "ifnull",
    "initcap",
    "instr",
    "isnan",
    "iszero",
    "least",
    "left",
    "length",
    "levenshtein",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "make_date",
    "mod",
    "nanvl",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "position",
    "pow",
    "power",
    "regexp_count",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "replace",
    "reverse",
    "right",
    "round",
    "rtrim",
    "signum",
    "split_part",
    "sqrt",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "to_char",
    "to_date",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    "translate",
    "trim",
    "trunc",
    "upper",
];

/// Which rows, and which columns of them.
pub(crate) struct Query {
    context: SessionContext,
    filter: Option<Expr>,
    /// What is made of the columns that are there; none: nothing is.
    columns: Option<Vec<Expr>>,
    /// What there is to begin with.
    dataset: SchemaRef,
    /// What there is then.
    schema: SchemaRef,
}

impl Query {
    /// Reads the expressions over the columns of a dataset.
    ///
    /// # Errors
    /// A sentence, [`ErrorCode::InvalidArgument`]: what is no expression, or not over these columns, or no condition.
    pub(crate) fn new(
        session: &SessionContext,
        dataset: &SchemaRef,
        filter: Option<&str>,
        columns: Option<&[String]>,
        batch_size: usize,
    ) -> Result<Query, Error> {
        let state = state(session, batch_size);
        let context = SessionContext::new_with_state(state);
        let fields = DFSchema::try_from(dataset.as_ref().clone()).map_err(Error::internal)?;
        let filter = filter.map(|text| condition(&context, text, &fields)).transpose()?;
        let columns = columns.map(|texts| selected(&context, texts, &fields)).transpose()?;
        let schema = match &columns {
            None => dataset.clone(),
            Some(columns) => schema_of(columns, &fields)?,
        };
        Ok(Query { context, filter, columns, dataset: dataset.clone(), schema })
    }

    /// The columns that there are for a model.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns of the dataset that have to be read so that these can be made.
    pub(crate) fn needed(&self, wanted: &[String]) -> Vec<String> {
        let mut needed = BTreeSet::new();
        match &self.columns {
            None => needed.extend(wanted.iter().cloned()),
            Some(columns) => {
                let is_wanted = |column: &&Expr| wanted.contains(&name_of(column));
                let used = columns.iter().filter(is_wanted).flat_map(Expr::column_refs);
                needed.extend(used.map(|column| column.name.clone()));
            }
        }
        let used = self.filter.iter().flat_map(Expr::column_refs);
        needed.extend(used.map(|column| column.name.clone()));
        // In the order of the dataset.
        let names = self.dataset.fields().iter().map(|field| field.name());
        names.filter(|name| needed.contains(*name)).cloned().collect()
    }

    /// The columns of the dataset that a column is made of.
    pub(crate) fn sources(&self, name: &str) -> BTreeSet<String> {
        self.column(name).column_refs().iter().map(|column| column.name.clone()).collect()
    }

    /// The wanted rows and columns of what is read, with the numbers of the rows. Rows that could not be read are put
    /// into `failed` as they are met.
    ///
    /// # Errors
    /// A plan that cannot be made.
    pub(crate) async fn run(
        &self,
        rows: RowStream,
        read: SchemaRef,
        wanted: &[String],
        failed: Arc<Mutex<Vec<FailedRow>>>,
    ) -> Result<BoxStream<'static, Result<arrow::array::RecordBatch, Error>>, Error> {
        let source = ReadOnce { schema: read.clone(), rows: Mutex::new(Some((rows, failed))) };
        let table = StreamingTable::try_new(read, vec![Arc::new(source)]).map_err(Error::internal)?;
        let mut frame = self.context.read_table(Arc::new(table)).map_err(Error::internal)?;
        if let Some(filter) = &self.filter {
            frame = frame.filter(filter.clone()).map_err(|error| mistake("where", &error))?;
        }
        let number = Expr::Column(Column::from_name(ROW_NUMBER));
        let columns = wanted.iter().map(|name| self.column(name)).chain([number]);
        let frame = frame.select(columns.collect::<Vec<_>>()).map_err(|error| mistake("columns", &error))?;
        let stream = frame.execute_stream().await.map_err(Error::internal)?;
        Ok(stream.map(|batch| batch.map_err(given_back)).boxed())
    }

    fn column(&self, name: &str) -> Expr {
        let made = self.columns.iter().flatten().find(|column| name_of(column) == name);
        match made {
            None | Some(Expr::Column(_)) => Expr::Column(Column::from_name(name)),
            Some(alias @ Expr::Alias(_)) => alias.clone(),
            // Its own name would have that of the table in it.
            Some(other) => other.clone().alias(name),
        }
    }
}

fn state(session: &SessionContext, batch_size: usize) -> SessionState {
    let mut config = SessionConfig::new()
        .with_information_schema(false)
        .with_target_partitions(1)
        .with_batch_size(batch_size.max(1));
    // Names are taken as they are written.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let functions = SessionStateDefaults::default_scalar_functions();
    let allowed = functions.into_iter().filter(|function| FUNCTIONS.contains(&function.name()));
    SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(session.runtime_env())
        .with_scalar_functions(allowed.collect())
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .build()
}

fn condition(context: &SessionContext, text: &str, fields: &DFSchema) -> Result<Expr, Error> {
    let filter = parsed(context, "where", text, fields)?;
    let data_type = filter.get_type(fields).map_err(|error| mistake("where", &error))?;
    if data_type != DataType::Boolean {
        return Err(invalid(format!("where is {data_type}: expected a condition")));
    }
    Ok(filter)
}

fn selected(context: &SessionContext, texts: &[String], fields: &DFSchema) -> Result<Vec<Expr>, Error> {
    texts.iter().map(|text| parsed(context, "columns", text, fields)).collect()
}

fn parsed(context: &SessionContext, what: &str, text: &str, fields: &DFSchema) -> Result<Expr, Error> {
    let expression = context.parse_sql_expr(text, fields).map_err(|error| mistake(what, &error))?;
    let mut refused = None;
    expression
        .apply(|part| {
            refused = match part {
                Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                    Some("a query within an expression")
                }
                Expr::Placeholder(_) => Some("a placeholder"),
                Expr::AggregateFunction(_) | Expr::WindowFunction(_) => Some("a function over several rows"),
                Expr::ScalarVariable(..) => Some("a variable"),
                _ => None,
            };
            Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
        .map_err(|error| mistake(what, &error))?;
    if let Some(refused) = refused {
        return Err(invalid(format!("{what} holds {refused}: expected an expression over the columns")));
    }
    // Whatever the types do not allow is found here and not at the first row.
    context.create_physical_expr(expression.clone(), fields).map_err(|error| mistake(what, &error))?;
    Ok(expression)
}

fn schema_of(columns: &[Expr], fields: &DFSchema) -> Result<SchemaRef, Error> {
    let mut made: Vec<Field> = Vec::with_capacity(columns.len());
    for column in columns {
        let name = name_of(column);
        if made.iter().any(|field| *field.name() == name) {
            return Err(invalid(format!("columns has {name:?} twice: give one another name with AS")));
        }
        let data_type = column.get_type(fields).map_err(|error| mistake("columns", &error))?;
        made.push(Field::new(name, data_type, true));
    }
    Ok(Arc::new(Schema::new(made)))
}

/// The name of a column without the name of a table before it.
fn name_of(column: &Expr) -> String {
    match column {
        Expr::Column(column) => column.name.clone(),
        Expr::Alias(alias) => alias.name.clone(),
        other => other.schema_name().to_string(),
    }
}

/// What DataFusion says about an expression, in one line.
fn mistake(what: &str, error: &DataFusionError) -> Error {
    let message = error.strip_backtrace();
    let first: String = message.lines().next().unwrap_or_default().chars().take(400).collect();
    invalid(format!("{what} cannot be used: {first}"))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::InvalidArgument, message)
}

/// An error of the source comes through DataFusion as it was; what DataFusion itself meets is about values.
fn given_back(error: DataFusionError) -> Error {
    match Cause::of(&error) {
        Cause::Said(error) => error,
        Cause::StorageFull => Error::storage_full(),
        Cause::Exhausted => exhausted("what where or columns work out"),
        _ => {
            let message = quoted(&error.strip_backtrace());
            Error::new(ErrorCode::Unprocessable, format!("where or columns cannot be worked out: {message}"))
        }
    }
}

type Remaining = (RowStream, Arc<Mutex<Vec<FailedRow>>>);

/// Rows as the one partition of a table that can be read once.
struct ReadOnce {
    schema: SchemaRef,
    rows: Mutex<Option<Remaining>>,
}

impl fmt::Debug for ReadOnce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ReadOnce")
    }
}

impl PartitionStream for ReadOnce {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let stream = match self.rows.lock().take() {
            Some((rows, failed)) => rows
                .map(move |rows| {
                    let Rows { batch, failed: unreadable } = rows.map_err(external)?;
                    failed.lock().extend(unreadable);
                    Ok(batch)
                })
                .boxed(),
            None => futures_util::stream::once(async {
                Err(DataFusionError::Execution("rows cannot be read twice".into()))
            })
            .boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream))
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch, StringArray, UInt64Array};

    use super::*;

    fn dataset() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("age", DataType::Int64, true),
            Field::new("Work Class", DataType::Utf8, true),
        ]))
    }

    fn query(filter: Option<&str>, columns: Option<&[&str]>) -> Result<Query, Error> {
        let columns =
            columns.map(|columns| columns.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        Query::new(&SessionContext::new(), &dataset(), filter, columns.as_deref(), 100)
    }

    #[test]
    fn only_expressions_over_the_columns_are_taken() {
        for filter in [
            "age > 30",
            "age BETWEEN 1 AND 2 OR \"Work Class\" IN ('a', 'b')",
            "\"Work Class\" LIKE 'P%'",
            "lower(\"Work Class\") = 'private' AND age IS NOT NULL",
            "CASE WHEN age > 3 THEN true ELSE false END",
        ] {
            query(Some(filter), None).unwrap_or_else(|error| panic!("{filter}: {error}"));
        }
        for filter in [
            "",
            "age",
            "age >",
            "height > 3",
            "age > 3; DROP TABLE x",
            "SELECT 1",
            "age IN (SELECT 1)",
            "EXISTS (SELECT 1)",
            "age > (SELECT max(age) FROM x)",
            "count(*) > 1",
            "repeat('x', 1000000000) = 'x'",
            "random() > 0.5",
            "age > $1",
            "age = @@version",
            "age + 'x' > 3 AND",
            "other.age > 3",
        ] {
            let error = query(Some(filter), None).err().unwrap_or_else(|| panic!("{filter}"));
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{filter}: {error}");
            assert!(!error.message.contains('\n'), "{error}");
        }
    }

    #[test]
    fn columns_have_names_and_say_what_they_need() {
        let made = query(None, Some(&["age", "upper(\"Work Class\") AS class"])).unwrap();
        assert_eq!(made.schema().field_with_name("class").unwrap().data_type(), &DataType::Utf8);
        assert_eq!(made.needed(&["class".into()]), ["Work Class"]);
        let filtered = query(Some("age > 3"), None).unwrap();
        assert_eq!(filtered.needed(&["Work Class".into()]), ["age", "Work Class"]);
        assert!(query(None, Some(&["age", "age + 1 AS age"])).is_err());
    }

    #[tokio::test]
    async fn rows_keep_their_numbers() {
        let query = query(Some("age > 30"), Some(&["upper(\"Work Class\") AS class"])).unwrap();
        let dataset = dataset();
        let fields = dataset.fields().iter().cloned().chain([Arc::new(Field::new(
            ROW_NUMBER,
            DataType::UInt64,
            false,
        ))]);
        let read: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(
            read.clone(),
            vec![
                Arc::new(Int64Array::from(vec![Some(29), Some(31), None, Some(40)])),
                Arc::new(StringArray::from(vec!["a", "b", "c", "d"])),
                Arc::new(UInt64Array::from(vec![7, 8, 9, 10])),
            ],
        );
        let unreadable = FailedRow { row: 11, key: None, code: "type".into(), reason: "x".into() };
        let rows = Rows { batch: batch.unwrap(), failed: vec![unreadable.clone()] };
        let failed = Arc::new(Mutex::new(Vec::new()));
        let stream = futures_util::stream::iter([Ok(rows)]).boxed();
        let mut found = query.run(stream, read, &["class".into()], failed.clone()).await.unwrap();
        let batch = found.next().await.unwrap().unwrap();
        assert!(found.next().await.is_none());
        let shown = |column: usize, row| {
            arrow::util::display::array_value_to_string(batch.column(column), row).unwrap()
        };
        assert_eq!(
            (batch.num_rows(), shown(0, 0), shown(1, 0), shown(1, 1)),
            (2, "B".into(), "8".into(), "10".into())
        );
        assert_eq!(*failed.lock(), [unreadable]);
    }
}
