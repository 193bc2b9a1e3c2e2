//! What a batch job is asked to do, as it is sent, kept with a schedule and written into the job's record. Knows no
//! dataset and no model: whether these names fit together is for [`super::plan`] to find out.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use modelhost_core::{ErrorCode, ModelName, Parameter, TableName};
use modelhost_serving::{Error, ModelReference, VersionSelector};
use serde::{Deserialize, Serialize};

use crate::datasets::DataFormat;

/// Longer expressions than this are nobody's filter.
const MAX_EXPRESSION_BYTES: usize = 16 << 10;
/// So many rows tell whether far more of them fail than may.
const RATED_ROWS: u64 = 10_000;
/// More rows than this in one call are no quicker, and a sandbox has to hold them all.
const MAX_BATCH_SIZE: u32 = 65_536;

/// A batch job: a dataset through a model into a new dataset version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpecification {
    /// The input: `NAME`, `NAME@latest` or `NAME@NUMBER`.
    pub dataset: String,
    /// The model: `NAME` (what is deployed), `NAME@ALIAS` or `NAME@NUMBER`.
    pub model: String,
    /// A SQL expression: rows for which it is not true are left out, and counted.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Columns to read, or SQL expressions with a name, such as `lower(workclass) AS workclass`. None: all as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// What each input of the model is made of. One that is not named takes the column of its own name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, InputMapping>,
    /// Parameters that go with every call of the model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Parameter>,
    /// Names in the output for outputs of the model that are not to keep their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// Columns that are carried through to the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carry: Vec<String>,
    /// The column that identifies a row, in the output and in the errors. None: rows are told apart by their number,
    /// in a column `row`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where the predictions go.
    pub output: Output,
    /// Rows of one call of the model, where it takes several. Default 1,024.
    #[serde(default = "default_batch_size")]
    pub batch_size: NonZeroU32,
    /// Calls at one moment. None: two for each thread that there is for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<NonZeroU32>,
    /// What a row that fails means for the job. Default `fail`.
    #[serde(default)]
    pub on_error: ErrorPolicy,
    /// With `skip`: the share of the rows asked about that may fail before the job stops all the same, from 0 to 1.
    /// Default 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed_share: Option<f64>,
    /// Milliseconds that a call may take. None: what the host allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_timeout_ms: Option<NonZeroU64>,
    /// How much of the machine's cores its calls may take, in percent, where the host allows all jobs together as much.
    /// None: all of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_percent: Option<NonZeroU32>,
}

/// What an input of the model is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a column, a list of columns, or {\"column\": …, \"if_null\": …, \"pad\": …}"
)]
pub enum InputMapping {
    /// A column.
    Column(String),
    /// Columns side by side, each of which holds one element of a row.
    Columns(Vec<String>),
    /// A column, and what stands for what it lacks.
    Filled(FilledColumn),
}

/// A column, and what stands for what it lacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilledColumn {
    /// The column.
    pub column: String,
    /// The value in place of a null; a text such as "NaN" may stand for a number. None: a row with a null fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_null: Option<serde_json::Value>,
    /// Of a column of lists: the value that fills lists up to the longest of a call. None: only rows with lists of one
    /// length share a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad: Option<serde_json::Value>,
}

/// Where the predictions go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The dataset that gets a new version.
    pub dataset: String,
    /// Its format. Default Parquet.
    #[serde(default = "parquet")]
    pub format: DataFormat,
    /// The prediction table that the new version is published to when the job ends. None: to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableName>,
}

/// What a row that fails means for its job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorPolicy {
    /// The job fails.
    #[default]
    Fail,
    /// The row goes to the errors, and the job goes on.
    Skip,
}

/// What is to be different where the failed rows of a job are tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryChanges {
    /// Another model, or version of it, that answers in the same columns. None: the same reference, which may mean another
    /// version by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What each input is made of. None: as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<BTreeMap<String, InputMapping>>,
    /// Milliseconds that a call may take. None: as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_timeout_ms: Option<NonZeroU64>,
}

/// What is to be different where a job goes on that was paused or has failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResumeChanges {
    /// What a row that fails means from now on. None: as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<ErrorPolicy>,
    /// The share of the dataset's rows that may fail, those that have failed already among them. None: as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failed_share: Option<f64>,
}

impl ResumeChanges {
    /// What the job is asked to do then.
    pub(super) fn of(self, before: JobSpecification) -> JobSpecification {
        let on_error = self.on_error.unwrap_or(before.on_error);
        let kept = before.max_failed_share.filter(|_| on_error == ErrorPolicy::Skip);
        JobSpecification { on_error, max_failed_share: self.max_failed_share.or(kept), ..before }
    }
}

fn parquet() -> DataFormat {
    DataFormat::Parquet
}

fn default_batch_size() -> NonZeroU32 {
    NonZeroU32::new(1_024).unwrap_or(NonZeroU32::MIN)
}

impl InputMapping {
    /// The columns, in order.
    pub fn columns(&self) -> &[String] {
        match self {
            InputMapping::Column(column) | InputMapping::Filled(FilledColumn { column, .. }) => {
                std::slice::from_ref(column)
            }
            InputMapping::Columns(columns) => columns,
        }
    }

    /// What stands for a null, and what fills short lists.
    pub fn fillings(&self) -> (Option<&serde_json::Value>, Option<&serde_json::Value>) {
        match self {
            InputMapping::Filled(filled) => (filled.if_null.as_ref(), filled.pad.as_ref()),
            _ => (None, None),
        }
    }
}

impl JobSpecification {
    /// A job of which nothing else is said.
    pub fn new(dataset: String, model: String, output: Output) -> JobSpecification {
        JobSpecification {
            dataset,
            model,
            filter: None,
            columns: None,
            inputs: BTreeMap::new(),
            parameters: BTreeMap::new(),
            outputs: BTreeMap::new(),
            carry: Vec::new(),
            key: None,
            output,
            batch_size: default_batch_size(),
            parallelism: None,
            on_error: ErrorPolicy::default(),
            max_failed_share: None,
            call_timeout_ms: None,
            share_percent: None,
        }
    }

    /// Checks what can be told without looking at dataset and model.
    ///
    /// # Errors
    /// One sentence, [`ErrorCode::InvalidArgument`].
    pub fn check(&self) -> Result<(), Error> {
        self.model_reference()?;
        if self.batch_size.get() > MAX_BATCH_SIZE {
            return Err(invalid(format!(
                "batch_size is {}: expected at most {MAX_BATCH_SIZE}",
                self.batch_size
            )));
        }
        if let Some(percent) = self.share_percent
            && percent.get() > 100
        {
            return Err(invalid(format!("share_percent is {percent}: expected 1 to 100")));
        }
        match (self.on_error, self.max_failed_share) {
            (_, None) => {}
            (ErrorPolicy::Fail, Some(_)) => {
                return Err(invalid("max_failed_share goes with \"on_error\": \"skip\" only"));
            }
            (ErrorPolicy::Skip, Some(share)) if !(0.0..=1.0).contains(&share) => {
                return Err(invalid(format!("max_failed_share is {share}: expected 0 to 1")));
            }
            (ErrorPolicy::Skip, Some(_)) => {}
        }
        let expressions = self.filter.iter().chain(self.columns.iter().flatten());
        if let Some(long) = expressions.map(String::len).find(|length| *length > MAX_EXPRESSION_BYTES) {
            return Err(invalid(format!(
                "an expression has {long} bytes: expected at most {MAX_EXPRESSION_BYTES}"
            )));
        }
        if self.columns.as_ref().is_some_and(Vec::is_empty) {
            return Err(invalid("columns is empty: leave it out to read all of them"));
        }
        Ok(())
    }

    /// The model's name, and which of its versions is meant.
    ///
    /// # Errors
    /// A name that no model or alias can have.
    pub fn model_reference(&self) -> Result<(ModelName, VersionSelector), Error> {
        let reference: Result<ModelReference, _> = self.model.parse();
        let ModelReference { model, version } =
            reference.map_err(|error| invalid(format!("model: {error}")))?;
        Ok((model, version))
    }

    /// How many rows may have failed when so many were asked about, of at most so many in the end.
    pub(crate) fn failures_allowed(&self, asked: u64, most_asked: u64) -> u64 {
        let ErrorPolicy::Fail = self.on_error else {
            let share = self.max_failed_share.unwrap_or(0.1);
            let whole = (share * most_asked as f64) as u64;
            if asked < RATED_ROWS {
                return whole;
            }
            // What chance alone may add to the share of some of the rows is no reason to stop.
            let so_far = share * asked as f64;
            return whole.min((so_far + 4.0 * so_far.sqrt()) as u64);
        };
        0
    }
}

/// What a client can mend.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use modelhost_core::VersionNumber;

    use super::*;

    fn read(json: serde_json::Value) -> Result<JobSpecification, serde_json::Error> {
        serde_json::from_value(json)
    }

    fn smallest() -> serde_json::Value {
        serde_json::json!({ "dataset": "census", "model": "income", "output": { "dataset": "scores" } })
    }

    fn with(key: &str, value: serde_json::Value) -> JobSpecification {
        let mut json = smallest();
        json[key] = value;
        read(json).unwrap()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let specification = read(smallest()).unwrap();
        assert_eq!(specification.batch_size.get(), 1_024);
        assert_eq!(specification.output.format, DataFormat::Parquet);
        assert_eq!(specification.failures_allowed(1_000, 1_000), 0);
        specification.check().unwrap();
        let again = read(serde_json::to_value(&specification).unwrap()).unwrap();
        assert_eq!(again, specification);
    }

    #[test]
    fn models_are_named_with_a_version_or_an_alias() {
        let reference = |text: &str| with("model", text.into()).model_reference();
        assert_eq!(reference("income").unwrap().1, VersionSelector::Deployed);
        assert_eq!(reference("income@3").unwrap().1, VersionSelector::Number(VersionNumber(3)));
        assert_eq!(reference("income@best").unwrap().1, VersionSelector::Alias("best".parse().unwrap()));
        for wrong in ["", "in come", "income@", "income@0", "income@a@b"] {
            let error = reference(wrong).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{wrong}: {error}");
        }
    }

    #[test]
    fn mappings_are_columns_lists_or_objects() {
        let mapping =
            |json: serde_json::Value| with("inputs", serde_json::json!({ "x": json })).inputs["x"].clone();
        assert_eq!(mapping("a".into()).columns(), ["a"]);
        assert_eq!(mapping(serde_json::json!(["a", "b"])).columns(), ["a", "b"]);
        let filled = mapping(serde_json::json!({ "column": "a", "if_null": "NaN" }));
        assert_eq!((filled.columns(), filled.fillings().0), (&["a".to_owned()][..], Some(&"NaN".into())));
        let wrong = serde_json::json!({ "x": { "colum": "a" } });
        let mut json = smallest();
        json["inputs"] = wrong;
        assert!(read(json).unwrap_err().to_string().contains("expected a column, a list of columns"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence() {
        let refused = |key: &str, value: serde_json::Value| with(key, value).check().unwrap_err().message;
        assert_eq!(refused("batch_size", 100_000.into()), "batch_size is 100000: expected at most 65536");
        assert_eq!(refused("share_percent", 101.into()), "share_percent is 101: expected 1 to 100");
        assert!(refused("max_failed_share", 0.5.into()).contains("skip"));
        assert!(refused("columns", serde_json::json!([])).contains("leave it out"));
        assert!(refused("where", "x".repeat(20_000).into()).contains("20000 bytes"));
    }

    #[test]
    fn a_share_of_the_rows_asked_about_may_fail() {
        let mut specification = with("on_error", "skip".into());
        assert_eq!(specification.failures_allowed(0, 1_000), 100);
        assert_eq!(specification.failures_allowed(1_000, 1_000), 100);
        specification.max_failed_share = Some(0.015);
        assert_eq!(specification.failures_allowed(0, 1_000), 15);
        // Of a million rows all would have to fail before it is certain: it is clear before.
        assert_eq!(specification.failures_allowed(9_999, 1_000_000), 15_000);
        assert_eq!(specification.failures_allowed(10_000, 1_000_000), 150 + 48);
        assert_eq!(specification.failures_allowed(1_000_000, 1_000_000), 15_000);
        specification.max_failed_share = Some(1.0);
        assert_eq!(specification.failures_allowed(20_000, 20_000), 20_000);
    }
}
