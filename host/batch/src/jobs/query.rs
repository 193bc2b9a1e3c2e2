//! The SQL of a job, row by row: which rows are wanted, and which columns are made of those that the dataset has. The
//! expressions are DataFusion's. A row on which one fails is told, and no other with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, ExprSchemable as _};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use modelhost_core::ErrorCode;
use modelhost_serving::Error;
use parking_lot::Mutex;

use super::convert::key_of;
use super::expressions::{self, FUNCTIONS, Growth, first_line, mistake, name_of};
use super::fault::{FailedRow, Fault};
use super::reading::{RowStream, Rows};
use super::scoring::{ROW_NUMBER, row_number};
use super::sizes;

/// What expressions may make of rows at one moment, and of one row.
const MAX_MADE_BYTES: u64 = 128 << 20;

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
    batch_size: usize,
    /// The column that identifies a row.
    key: Option<String>,
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
    ) -> Result<Query, Error> {
        if dataset.field_with_name(ROW_NUMBER).is_ok() {
            let message =
                format!("the dataset has a column {ROW_NUMBER:?}, which is where rows have their numbers");
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        let context = SessionContext::new_with_state(state(session));
        let fields = DFSchema::try_from(dataset.as_ref().clone()).map_err(Error::internal)?;
        let filter = filter.map(|text| expressions::condition(&context, text, &fields)).transpose()?;
        let columns = columns.map(|texts| expressions::columns(&context, texts, &fields)).transpose()?;
        let schema = match &columns {
            None => dataset.clone(),
            Some(columns) => schema_of(columns, &fields)?,
        };
        Ok(Query { context, filter, columns, dataset: dataset.clone(), schema, batch_size: 1, key: None })
    }

    /// Names the column in which rows that fail have their keys, and how many rows a batch has, as far as there are so
    /// many.
    #[must_use]
    pub(crate) fn in_batches(self, batch_size: usize, key: Option<String>) -> Query {
        Query { batch_size, key, ..self }
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

    /// The wanted rows and columns of what is read, with the numbers of the rows. Rows that could not be read, or on which
    /// an expression fails, are put into `failed` before any row after them comes.
    ///
    /// # Errors
    /// Expressions that do not go with what is read.
    pub(crate) async fn run(
        &self,
        rows: RowStream,
        read: SchemaRef,
        wanted: &[String],
        failed: Arc<Mutex<Vec<FailedRow>>>,
    ) -> Result<BoxStream<'static, Result<RecordBatch, Error>>, Error> {
        let plan = self.compile(&read, wanted)?;
        let mut gathered = Gathered { batch_size: self.batch_size, ..Gathered::default() };
        // After the last rows comes what is still gathered.
        let all = rows.map_ok(Some).chain(stream::once(async { Ok(None) }));
        let batches = all.map(move |rows| {
            let made = match rows? {
                None => gathered.rest()?,
                Some(Rows { batch, failed: unreadable }) => {
                    let mut failed = failed.lock();
                    failed.extend(unreadable);
                    let made = plan.evaluate(batch, &mut failed);
                    if plan.filter.is_none() { made } else { gathered.add(made)? }
                }
            };
            Ok::<_, Error>(stream::iter(made).map(Ok))
        });
        Ok(batches.try_flatten().boxed())
    }

    /// The expressions over the columns that are read.
    fn compile(&self, read: &SchemaRef, wanted: &[String]) -> Result<Compiled, Error> {
        let fields = DFSchema::try_from(read.as_ref().clone()).map_err(Error::internal)?;
        let compile = |what: &str, expression: &Expr| {
            expressions::compile(&self.context, expression, &fields).map_err(|error| mistake(what, &error))
        };
        let number = Expr::Column(Column::from_name(ROW_NUMBER));
        let columns: Vec<Expr> = wanted.iter().map(|name| self.column(name)).chain([number]).collect();
        let made = columns.iter().filter(|column| !matches!(column, Expr::Column(_)));
        let worked_out: Vec<&Expr> = self.filter.iter().chain(made).collect();
        let used: BTreeSet<usize> = worked_out
            .iter()
            .flat_map(|expression| expression.column_refs())
            .filter_map(|column| read.index_of(&column.name).ok())
            .collect();
        let names = wanted.iter().map(String::as_str).chain([ROW_NUMBER]);
        let compiled =
            columns.iter().map(|column| compile("columns", column)).collect::<Result<Vec<_>, _>>()?;
        let field = |(name, column): (&str, &Arc<dyn PhysicalExpr>)| {
            Ok(Field::new(name, column.data_type(read)?, name != ROW_NUMBER))
        };
        let fields = names.zip(&compiled).map(field).collect::<Result<Vec<_>, DataFusionError>>();
        Ok(Compiled {
            filter: self.filter.as_ref().map(|filter| compile("where", filter)).transpose()?,
            columns: compiled,
            schema: Arc::new(Schema::new(fields.map_err(|error| mistake("columns", &error))?)),
            growth: worked_out
                .iter()
                .map(|expression| Growth::of(expression))
                .fold(Growth::default(), Growth::and),
            used: used.into_iter().collect(),
            key: self.source_of_key().and_then(|key| read.index_of(&key).ok()),
        })
    }

    /// The column of the dataset that is the key, where it is one and not made.
    fn source_of_key(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        let Some(columns) = &self.columns else { return Some(key.clone()) };
        match columns.iter().find(|column| name_of(column) == *key)?.clone().unalias() {
            Expr::Column(column) => Some(column.name),
            _ => None,
        }
    }

    fn column(&self, name: &str) -> Expr {
        let made = self.columns.iter().flatten().find(|column| name_of(column) == name);
        match made {
            None | Some(Expr::Column(_)) => Expr::Column(Column::from_name(name)),
            Some(other) => other.clone().unalias(),
        }
    }
}

fn state(session: &SessionContext) -> SessionState {
    let mut config = SessionConfig::new().with_information_schema(false).with_target_partitions(1);
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

fn schema_of(columns: &[Expr], fields: &DFSchema) -> Result<SchemaRef, Error> {
    let field = |column: &Expr| {
        let data_type: DataType = column.get_type(fields).map_err(|error| mistake("columns", &error))?;
        Ok(Field::new(name_of(column), data_type, true))
    };
    Ok(Arc::new(Schema::new(columns.iter().map(field).collect::<Result<Vec<_>, Error>>()?)))
}

/// Expressions over the columns of certain batches.
struct Compiled {
    filter: Option<Arc<dyn PhysicalExpr>>,
    columns: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    growth: Growth,
    /// The columns that expressions are worked out of.
    used: Vec<usize>,
    key: Option<usize>,
}

impl Compiled {
    /// The wanted rows of a batch. Where that fails, by halves, until exactly the rows that are to blame have failed.
    fn evaluate(&self, batch: RecordBatch, failed: &mut Vec<FailedRow>) -> Vec<RecordBatch> {
        let mut made = Vec::with_capacity(1);
        let mut left = vec![batch];
        while let Some(batch) = left.pop() {
            match self.evaluate_whole(&batch) {
                Ok(rows) if rows.num_rows() == 0 => {}
                Ok(rows) => made.push(rows),
                Err(reason) if batch.num_rows() <= 1 => failed.push(self.failed_row(&batch, reason)),
                Err(_) => {
                    let middle = batch.num_rows() / 2;
                    left.push(batch.slice(middle, batch.num_rows() - middle));
                    left.push(batch.slice(0, middle));
                }
            }
        }
        made
    }

    fn evaluate_whole(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        self.check_size(batch)?;
        let wanted = match &self.filter {
            None => batch.clone(),
            Some(filter) => rows_for_which(filter, batch).map_err(|error| told("where", &error))?,
        };
        let rows = wanted.num_rows();
        let column = |column: &Arc<dyn PhysicalExpr>| column.evaluate(&wanted)?.into_array(rows);
        let columns = self.columns.iter().map(column).collect::<Result<Vec<ArrayRef>, _>>();
        let columns = columns.map_err(|error| told("columns", &error))?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| error.to_string())
    }

    fn check_size(&self, batch: &RecordBatch) -> Result<(), String> {
        if self.growth == Growth::default() {
            return Ok(());
        }
        let bytes = self.used.iter().map(|column| sizes::bytes(batch.column(*column))).sum();
        if self.growth.bytes(batch.num_rows() as u64, bytes) <= MAX_MADE_BYTES {
            return Ok(());
        }
        Err(format!("where or columns may make more than {MAX_MADE_BYTES} bytes of it"))
    }

    fn failed_row(&self, row: &RecordBatch, reason: String) -> FailedRow {
        let key = self.key.and_then(|key| key_of(row.column(key), 0));
        FailedRow { row: row_number(row, 0), key, code: Fault::EXPRESSION.to_owned(), reason }
    }
}

fn rows_for_which(
    filter: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
) -> Result<RecordBatch, DataFusionError> {
    let is_wanted = filter.evaluate(batch)?.into_array(batch.num_rows())?;
    Ok(filter_record_batch(batch, as_boolean_array(&is_wanted)?)?)
}

fn told(what: &str, error: &DataFusionError) -> String {
    format!("{what} cannot be worked out: {}", first_line(error))
}

/// A few texts are not to keep the pages of all that they were chosen from.
fn compact(batch: RecordBatch) -> Result<RecordBatch, Error> {
    let compact = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column.clone(),
    };
    let columns = batch.columns().iter().map(compact).collect();
    RecordBatch::try_new(batch.schema(), columns).map_err(Error::internal)
}

/// Rows of several batches until they are as many as one has: a condition may leave few of each.
#[derive(Default)]
struct Gathered {
    batch_size: usize,
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: u64,
}

impl Gathered {
    /// Adds rows, and answers those that are enough.
    fn add(&mut self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, Error> {
        let mut enough = Vec::new();
        for batch in batches {
            self.rows += batch.num_rows();
            self.bytes += sizes::of_batch(&batch);
            // What is enough by itself is not copied.
            let is_enough = 2 * batch.num_rows() >= self.batch_size;
            self.batches.push(if is_enough { batch } else { compact(batch)? });
            // Half as many are worth a call of their own; more need not be copied for it.
            if 2 * self.rows >= self.batch_size || 2 * self.bytes >= sizes::BATCH_BYTES {
                enough.append(&mut self.rest()?);
            }
        }
        Ok(enough)
    }

    fn rest(&mut self) -> Result<Vec<RecordBatch>, Error> {
        (self.rows, self.bytes) = (0, 0);
        let mut batches = std::mem::take(&mut self.batches);
        match &batches[..] {
            [] | [_] => {}
            [first, ..] => {
                batches = vec![concat_batches(&first.schema(), &batches).map_err(Error::internal)?]
            }
        }
        Ok(batches)
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
