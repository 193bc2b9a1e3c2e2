//! One record batch through the model: calls for the rows that fit, bisected where a call fails until exactly the rows
//! that are to blame have failed, and the answers in the order of the rows. Knows no files and no job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use modelhost_core::{ErrorCode, Parameter};
use modelhost_serving::{Error, Servable};

use super::calls::{Caller, Cause, Effort, Failure};
use super::convert::key_of;
use super::core_share::CoreShare;
use super::elements::pick;
use super::fault::{FailedRow, Fault};
use super::inputs::{Inputs, Prepared};
use super::outputs::Outputs;

/// The column of a batch in which its rows have their numbers. No dataset has it: SQL and people write names in other
/// ways.
pub(crate) const ROW_NUMBER: &str = "\u{1}row";

/// What turns rows into predictions.
pub(crate) struct Scorer {
    caller: Caller,
    inputs: Inputs,
    outputs: Outputs,
    key: Option<String>,
    carried: Vec<String>,
    schema: SchemaRef,
}

/// What became of the rows of a batch.
pub(crate) struct Scored {
    /// Those that succeeded, in the order of the batch.
    pub(crate) rows: RecordBatch,
    /// Those that failed, in the same order.
    pub(crate) failed: Vec<FailedRow>,
    /// How many of the first rows of the batch are one or the other: all, unless more failed than may.
    pub(crate) decided: usize,
    /// One of those that failed, where they are more than may.
    pub(crate) one_too_many: Option<FailedRow>,
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
        let caller = Caller::new(servable, parameters, timeout, cores, batch_size);
        Ok(Scorer { caller, inputs, outputs, key, carried, schema })
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
        self.caller.cores.calls()
    }

    /// Scores the rows of a batch, which has them numbered in [`ROW_NUMBER`]. So many may fail: where more do, it stops.
    ///
    /// # Errors
    /// What is no row's fault: the version does not load, the host fails.
    pub(crate) async fn score(&self, batch: &RecordBatch, may_fail: u64) -> Result<Scored, Error> {
        let (prepared, mut faults) = self.inputs.prepare(batch).map_err(unexpected)?;
        self.refuse_null_keys(batch, &mut faults);
        let allowance = Allowance::new(may_fail);
        allowance.take(faults.len() as u64);
        let groups = prepared.groups(&faults, self.caller.size.rows());
        let tried = groups.into_iter().map(|rows| self.score_group(&prepared, rows, &allowance));
        // One after the other they would keep what is scored from being committed.
        let tried = stream::iter(tried).buffer_unordered(self.parallelism());
        let all = tried.try_fold(Tried::default(), async |all, group| Ok(all.and(group))).await?;
        faults.extend(all.faults);
        let decided = all.untried.map_or(batch.num_rows(), |row| row as usize);
        self.collect(batch, all.answers, faults, decided).map_err(unexpected)
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
        allowance: &Allowance,
    ) -> Result<Tried, Error> {
        let whole = rows.len();
        let mut tried = Tried::default();
        // How long the whole call took in vain, and the smallest that failed for its size or time.
        let (mut lost, mut too_large) = (None, None);
        let mut left = vec![rows];
        while let Some(rows) = left.pop() {
            if allowance.is_used_up() {
                // What is left is after these.
                tried.untried = rows.first().copied();
                return Ok(tried);
            }
            let effort = match lost {
                _ if rows.len() == whole => Effort::WHOLE,
                None => Effort::PART,
                Some(lost) => self.caller.effort_after(lost, whole, rows.len()),
            };
            let mut answer = self.call(prepared, &rows, effort).await?;
            if let (1, Err(Failure { cause: Cause::Time(_), .. })) = (rows.len(), &answer) {
                // Before it counts, it has all the time that a call may take.
                answer = self.call(prepared, &rows, Effort::WHOLE).await?;
            }
            let failure = match answer {
                Ok(columns) => {
                    self.caller.size.was_right(rows.len());
                    tried.answers.add(rows, columns);
                    continue;
                }
                Err(failure) => failure,
            };
            if let [row] = rows[..] {
                allowance.take(1);
                tried.faults.insert(row as usize, failure.fault);
                continue;
            }
            match failure.cause {
                Cause::Rows => {}
                Cause::Size => too_large = Some(rows.len()),
                Cause::Time(took) if rows.len() == whole => (lost, too_large) = (Some(took), Some(whole)),
                // It had less time than it may take.
                Cause::Time(_) => {}
            }
            let (first, second) = rows.split_at(rows.len() / 2);
            // What is pushed last is called first.
            left.push(second.to_vec());
            left.push(first.to_vec());
        }
        if let Some(rows) = too_large.filter(|_| tried.faults.is_empty()) {
            // No row is to blame.
            self.caller.size.was_too_large(rows);
        }
        Ok(tried)
    }

    /// Calls the model for these rows. The outer error is no row's fault.
    async fn call(
        &self,
        prepared: &Prepared<'_>,
        rows: &[u32],
        effort: Effort,
    ) -> Result<Result<Vec<ArrayRef>, Failure>, Error> {
        let blame = |fault| Failure { fault, cause: Cause::Rows };
        let inputs = match prepared.tensors(rows) {
            Ok(inputs) => inputs,
            Err(reason) => return Ok(Err(blame(Fault::new(Fault::TYPE, reason)))),
        };
        let answer = match self.caller.call(inputs, rows.len(), effort).await? {
            Ok(answer) => answer,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(self.outputs.columns(&answer, rows.len()).map_err(blame))
    }

    /// The first rows of a batch with what became of them.
    fn collect(
        &self,
        batch: &RecordBatch,
        answers: Answers,
        mut faults: BTreeMap<usize, Fault>,
        decided: usize,
    ) -> Result<Scored, ArrowError> {
        let is_cut = decided < batch.num_rows();
        let example = faults.first_key_value().filter(|_| is_cut);
        let one_too_many = example.map(|(row, fault)| self.failed_row(batch, *row, fault.clone()));
        faults.split_off(&decided);
        let failed = faults.into_iter().map(|(row, fault)| self.failed_row(batch, row, fault)).collect();
        let rows = match answers.in_order()? {
            None => RecordBatch::new_empty(self.schema.clone()),
            Some((rows, outputs)) => {
                let kept = rows.partition_point(|row| (*row as usize) < decided);
                let outputs = outputs.iter().map(|column| column.slice(0, kept));
                self.predictions(batch, &rows[..kept], outputs)?
            }
        };
        Ok(Scored { rows, failed, decided, one_too_many })
    }

    /// Rows with their keys, what is carried through, and these outputs.
    fn predictions(
        &self,
        batch: &RecordBatch,
        rows: &[u32],
        outputs: impl Iterator<Item = ArrayRef>,
    ) -> Result<RecordBatch, ArrowError> {
        let name = self.key.as_deref().unwrap_or(ROW_NUMBER);
        let names = std::iter::once(name).chain(self.carried.iter().map(String::as_str));
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (name, field) in names.zip(self.schema.fields()) {
            let missing = || ArrowError::SchemaError(format!("column {name:?} is not there"));
            let picked = pick(batch.column_by_name(name).ok_or_else(missing)?, rows)?;
            // Texts may be read in another layout than that in which they are written.
            let is_written_so = picked.data_type() == field.data_type();
            columns.push(if is_written_so { picked } else { cast(&picked, field.data_type())? });
        }
        columns.extend(outputs);
        RecordBatch::try_new(self.schema.clone(), columns)
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

/// How many rows of a batch may still fail.
struct Allowance {
    left: AtomicU64,
    is_used_up: AtomicBool,
}

impl Allowance {
    fn new(rows: u64) -> Allowance {
        Allowance { left: AtomicU64::new(rows), is_used_up: AtomicBool::new(false) }
    }

    /// So many failed.
    fn take(&self, rows: u64) {
        let less = |left: u64| left.checked_sub(rows);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
            self.is_used_up.store(true, Ordering::Relaxed);
        }
    }

    /// Whether more failed than may.
    fn is_used_up(&self) -> bool {
        self.is_used_up.load(Ordering::Relaxed)
    }
}

/// What became of some rows of a batch.
#[derive(Default)]
struct Tried {
    answers: Answers,
    faults: BTreeMap<usize, Fault>,
    /// The first one that was not tried, because too many others have failed.
    untried: Option<u32>,
}

impl Tried {
    fn and(mut self, other: Tried) -> Tried {
        self.answers.rows.extend(other.answers.rows);
        self.answers.columns.extend(other.answers.columns);
        self.faults.extend(other.faults);
        let untried = self.untried.into_iter().chain(other.untried).min();
        Tried { untried, ..self }
    }
}

/// Rows in order, and their columns.
type Ordered = (Vec<u32>, Vec<ArrayRef>);

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
    fn in_order(self) -> Result<Option<Ordered>, ArrowError> {
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

    #[test]
    fn an_allowance_is_used_up_by_one_too_many() {
        let allowance = Allowance::new(2);
        allowance.take(0);
        allowance.take(2);
        assert!(!allowance.is_used_up());
        allowance.take(1);
        assert!(allowance.is_used_up());
        let none = Allowance::new(0);
        none.take(0);
        assert!(!none.is_used_up());
    }
}
