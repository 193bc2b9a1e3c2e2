//! One record batch through the model: calls for the rows that fit, bisected where a call fails until exactly the rows
//! that are to blame have failed, and the answers in the order of the rows. Knows no files and no job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use modelhost_core::{ErrorCode, Parameter};
use modelhost_serving::{BackgroundError, CallError, Error, NamedTensors, Servable};

use super::convert::key_of;
use super::core_share::CoreShare;
use super::fault::{FailedRow, Fault};
use super::inputs::{Inputs, Prepared, pick};
use super::outputs::Outputs;

/// The column of a batch in which its rows have their numbers. No dataset has it: SQL and people write names in other
/// ways.
pub(crate) const ROW_NUMBER: &str = "\u{1}row";

/// How often a call is tried again that failed for want of room or time of others.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What turns rows into predictions.
pub(crate) struct Scorer {
    servable: Arc<Servable>,
    inputs: Inputs,
    parameters: Vec<(String, Parameter)>,
    outputs: Outputs,
    key: Option<String>,
    carried: Vec<String>,
    schema: SchemaRef,
    timeout: Duration,
    cores: CoreShare,
    /// Rows of a call. Lowered where calls fail that succeed in halves.
    batch_size: AtomicUsize,
}

/// What became of the rows of a batch.
pub(crate) struct Scored {
    /// Those that succeeded, in the order of the batch.
    pub(crate) rows: RecordBatch,
    /// Those that failed, in the same order.
    pub(crate) failed: Vec<FailedRow>,
}

impl Scorer {
    /// A scorer of rows of this schema.
    ///
    /// # Errors
    /// Columns that are not there, or that would have the same name in the output.
    #[expect(clippy::too_many_arguments, reason = "each is another part of what was planned")]
    pub(crate) fn new(
        servable: Arc<Servable>,
        inputs: Inputs,
        parameters: Vec<(String, Parameter)>,
        outputs: Outputs,
        schema: &Schema,
        key: Option<String>,
        carried: Vec<String>,
        batch_size: usize,
        timeout: Duration,
        cores: CoreShare,
    ) -> Result<Scorer, Error> {
        let refuse = |message: String| Err(Error::new(ErrorCode::InvalidArgument, message));
        let mut fields = Vec::new();
        let is_key = |name: &String| key.as_ref() == Some(name);
        let carried: Vec<String> = carried.into_iter().filter(|name| !is_key(name)).collect();
        match &key {
            None => fields.push(Arc::new(Field::new("row", DataType::UInt64, false))),
            Some(key) => match schema.field_with_name(key) {
                Ok(field) => fields.push(Arc::new(field.clone())),
                Err(_) => return refuse(format!("the key column {key:?} is not there")),
            },
        }
        for name in &carried {
            match schema.field_with_name(name) {
                Ok(field) => fields.push(Arc::new(field.clone())),
                Err(_) => {
                    return refuse(format!("column {name:?}, which is to be carried through, is not there"));
                }
            }
        }
        fields.extend(outputs.fields());
        let mut names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let name = twice[0];
            return refuse(format!(
                "the output would have two columns {name:?}: give the model's output another name in \"outputs\""
            ));
        }
        let schema = Arc::new(Schema::new(fields));
        let batch_size = AtomicUsize::new(batch_size.max(1));
        Ok(Scorer { servable, inputs, parameters, outputs, key, carried, schema, timeout, cores, batch_size })
    }

    /// The columns of what succeeds.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Which columns the inputs are made of.
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The columns that rows must have, each once.
    pub(crate) fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = self.inputs.columns().map(str::to_owned).collect();
        for name in self.key.iter().chain(&self.carried) {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        columns
    }

    /// The columns of the input that are in the output.
    pub(crate) fn carried(&self) -> impl Iterator<Item = String> {
        self.key.iter().chain(&self.carried).cloned()
    }

    /// Calls at one moment.
    pub(crate) fn parallelism(&self) -> usize {
        self.cores.calls()
    }

    /// Scores the rows of a batch, which has them numbered in [`ROW_NUMBER`].
    ///
    /// # Errors
    /// What is no row's fault: the version does not load, the host fails.
    pub(crate) async fn score(&self, batch: &RecordBatch) -> Result<Scored, Error> {
        let (prepared, mut faults) = self.inputs.prepare(batch).map_err(unexpected)?;
        self.refuse_null_keys(batch, &mut faults);
        let mut answers = Answers::default();
        let size = self.batch_size.load(Ordering::Relaxed);
        for rows in prepared.groups(&faults, size) {
            self.score_group(&prepared, rows, &mut answers, &mut faults).await?;
        }
        self.collect(batch, answers, faults).map_err(unexpected)
    }

    fn refuse_null_keys(&self, batch: &RecordBatch, faults: &mut BTreeMap<usize, Fault>) {
        let Some(name) = &self.key else { return };
        let Some(column) = batch.column_by_name(name).filter(|column| column.null_count() > 0) else {
            return;
        };
        for row in (0..column.len()).filter(|row| column.is_null(*row)) {
            let fault = || Fault::new(Fault::NULL, format!("the key column {name:?} is null"));
            faults.entry(row).or_insert_with(fault);
        }
    }

    /// One call, or as many as it takes to find the rows that are to blame.
    async fn score_group(
        &self,
        prepared: &Prepared<'_>,
        rows: Vec<u32>,
        answers: &mut Answers,
        faults: &mut BTreeMap<usize, Fault>,
    ) -> Result<(), Error> {
        let whole = rows.len();
        let mut failed_as_a_whole = false;
        let mut rows_failed = 0;
        let mut left = vec![rows];
        while let Some(rows) = left.pop() {
            match self.call(prepared, &rows).await? {
                Ok(columns) => answers.add(rows, columns),
                Err(fault) if rows.len() == 1 => {
                    rows_failed += 1;
                    faults.insert(rows[0] as usize, fault);
                }
                Err(_) => {
                    failed_as_a_whole = true;
                    let (first, second) = rows.split_at(rows.len() / 2);
                    // What is pushed last is called first.
                    left.push(second.to_vec());
                    left.push(first.to_vec());
                }
            }
        }
        if failed_as_a_whole && rows_failed == 0 {
            // It was the size that was to blame.
            let smaller = (whole / 2).max(1);
            self.batch_size.fetch_min(smaller, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Calls the model for these rows. The outer error is no row's fault.
    async fn call(
        &self,
        prepared: &Prepared<'_>,
        rows: &[u32],
    ) -> Result<Result<Vec<ArrayRef>, Fault>, Error> {
        let inputs = match prepared.tensors(rows) {
            Ok(inputs) => inputs,
            Err(reason) => return Ok(Err(Fault::new(Fault::TYPE, reason))),
        };
        let answer = match self.answer(inputs).await? {
            Ok(answer) => answer,
            Err(fault) => return Ok(Err(fault)),
        };
        Ok(self.outputs.columns(&answer, rows.len()))
    }

    /// Tries again what fails for want of room.
    async fn answer(&self, inputs: NamedTensors) -> Result<Result<NamedTensors, Fault>, Error> {
        let mut attempts = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            let call =
                self.servable.infer_in_background(inputs.clone(), self.parameters.clone(), self.timeout);
            let error = match self.cores.call(call).await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(error) => error,
            };
            match Outcome::of(error) {
                Outcome::Row(fault) => return Ok(Err(fault)),
                Outcome::Host(error) => return Err(error),
                // Others have the room now; they will not have it for ever.
                Outcome::Later(None) => {}
                Outcome::Later(Some(fault)) if attempts >= ATTEMPTS => return Ok(Err(fault)),
                Outcome::Later(Some(_)) => attempts += 1,
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    fn collect(
        &self,
        batch: &RecordBatch,
        answers: Answers,
        faults: BTreeMap<usize, Fault>,
    ) -> Result<Scored, ArrowError> {
        let failed = faults.into_iter().map(|(row, fault)| self.failed_row(batch, row, fault)).collect();
        let Some((rows, outputs)) = answers.in_order()? else {
            return Ok(Scored { rows: RecordBatch::new_empty(self.schema.clone()), failed });
        };
        let name = self.key.as_deref().unwrap_or(ROW_NUMBER);
        let names = std::iter::once(name).chain(self.carried.iter().map(String::as_str));
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for name in names {
            let missing = || ArrowError::SchemaError(format!("column {name:?} is not there"));
            columns.push(pick(batch.column_by_name(name).ok_or_else(missing)?, &rows)?);
        }
        columns.extend(outputs);
        Ok(Scored { rows: RecordBatch::try_new(self.schema.clone(), columns)?, failed })
    }

    fn failed_row(&self, batch: &RecordBatch, row: usize, fault: Fault) -> FailedRow {
        let key = self.key.as_ref().and_then(|name| key_of(batch.column_by_name(name)?, row));
        FailedRow { row: row_number(batch, row), key, code: fault.code.to_owned(), reason: fault.reason }
    }
}

/// The number of a row in its dataset.
pub(crate) fn row_number(batch: &RecordBatch, row: usize) -> u64 {
    let column = batch.column_by_name(ROW_NUMBER).and_then(|column| column.as_primitive_opt::<UInt64Type>());
    column.map_or(0, |numbers| numbers.value(row))
}

/// Answers for some of the rows of a batch, in the order of the calls.
#[derive(Default)]
struct Answers {
    rows: Vec<u32>,
    columns: Vec<Vec<ArrayRef>>,
}

impl Answers {
    fn add(&mut self, rows: Vec<u32>, columns: Vec<ArrayRef>) {
        self.rows.extend(rows);
        self.columns.push(columns);
    }

    /// The rows and their columns, in the order of the rows. None where there are no rows.
    fn in_order(self) -> Result<Option<(Vec<u32>, Vec<ArrayRef>)>, ArrowError> {
        let Answers { mut rows, columns } = self;
        let Some(first) = columns.first() else { return Ok(None) };
        let joined = (0..first.len())
            .map(|output| {
                let parts: Vec<&dyn arrow::array::Array> =
                    columns.iter().map(|call| call[output].as_ref()).collect();
                if let [_] = parts[..] { Ok(columns[0][output].clone()) } else { concat(&parts) }
            })
            .collect::<Result<Vec<_>, _>>()?;
        if rows.is_sorted() {
            return Ok(Some((rows, joined)));
        }
        let mut order: Vec<u32> = (0..).take(rows.len()).collect();
        order.sort_unstable_by_key(|place| rows[*place as usize]);
        rows.sort_unstable();
        let order = UInt32Array::from(order);
        let sorted = joined.iter().map(|column| take(column, &order, None)).collect::<Result<_, _>>()?;
        Ok(Some((rows, sorted)))
    }
}

/// What a call that failed means.
enum Outcome {
    /// The rows are to blame, or one of them.
    Row(Fault),
    /// To be tried again: for ever, or until it counts as this fault.
    Later(Option<Fault>),
    /// The job cannot go on.
    Host(Error),
}

impl Outcome {
    fn of(error: BackgroundError) -> Outcome {
        match error {
            BackgroundError::Inputs(reason) => Outcome::Row(Fault::new(Fault::SHAPE, reason)),
            BackgroundError::Version(error) if error.code == ErrorCode::Overloaded => Outcome::Later(None),
            BackgroundError::Version(error) => Outcome::Host(error),
            BackgroundError::Call(call) => Outcome::of_call(call),
        }
    }

    fn of_call(call: CallError) -> Outcome {
        match call.code() {
            ErrorCode::Internal => Outcome::Host(call.into()),
            ErrorCode::Overloaded => Outcome::Later(None),
            ErrorCode::Unavailable => Outcome::Later(Some(Fault::new(call.reason(), call.to_string()))),
            _ => Outcome::Row(Fault::new(call.reason(), call.to_string())),
        }
    }
}

fn unexpected(error: ArrowError) -> Error {
    Error::internal(format!("a batch cannot be scored: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_rows() {
        let column = |values: &[u32]| vec![Arc::new(UInt32Array::from(values.to_vec())) as ArrayRef];
        let mut answers = Answers::default();
        answers.add(vec![1, 4], column(&[10, 40]));
        answers.add(vec![0, 3], column(&[0, 30]));
        let (rows, columns) = answers.in_order().unwrap().unwrap();
        assert_eq!(rows, [0, 1, 3, 4]);
        assert_eq!(columns[0].as_primitive::<arrow::datatypes::UInt32Type>().values(), &[0, 10, 30, 40]);
        assert!(Answers::default().in_order().unwrap().is_none());
    }
}
