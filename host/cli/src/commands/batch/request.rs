//! What was typed about a job, as the specification that is sent.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use modelhost_batch::datasets::DataFormat;
use modelhost_batch::jobs::{ErrorPolicy, FilledColumn, InputMapping, JobSpecification, Output};
use modelhost_core::{Parameter, TableName};

use crate::failure::Failure;

/// A job: from a file, or typed.
#[derive(Debug, Args)]
pub struct JobArguments {
    /// The dataset to read: NAME, NAME@latest or NAME@NUMBER
    #[arg(required_unless_present = "file")]
    dataset: Option<String>,
    /// The model to ask: NAME, NAME@ALIAS or NAME@NUMBER
    #[arg(required_unless_present = "file")]
    model: Option<String>,
    /// The dataset that gets a new version with the predictions
    #[arg(required_unless_present = "file")]
    output: Option<String>,
    /// A file with the whole specification, as the API takes it (JSON)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dataset", "model", "output"])]
    file: Option<PathBuf>,
    /// Only rows for which this SQL expression is true
    #[arg(long = "where", value_name = "SQL")]
    filter: Option<String>,
    /// Read this column, or make it: "lower(workclass) AS workclass" (repeatable; default: all columns)
    #[arg(long = "column", value_name = "SQL")]
    columns: Vec<String>,
    /// What an input of the model is made of: INPUT=COLUMN, or INPUT=COLUMN,COLUMN,… side by side (repeatable)
    #[arg(long = "input", value_name = "INPUT=COLUMN", value_parser = pair)]
    inputs: Vec<(String, String)>,
    /// What an input gets where its column is null: INPUT=VALUE (repeatable; default: the row fails)
    #[arg(long = "if-null", value_name = "INPUT=VALUE", value_parser = pair)]
    if_null: Vec<(String, String)>,
    /// A parameter of each call of the model, such as k=20 (repeatable)
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// The prediction table to publish the output to when the job ends
    #[arg(long, value_name = "TABLE")]
    table: Option<TableName>,
    /// Another name in the output for an output of the model: OUTPUT=COLUMN (repeatable)
    #[arg(long = "rename", value_name = "OUTPUT=COLUMN", value_parser = pair)]
    outputs: Vec<(String, String)>,
    /// Carry this column through to the output (repeatable)
    #[arg(long = "carry", value_name = "COLUMN")]
    carry: Vec<String>,
    /// The column that identifies a row
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Format::Parquet)]
    format: Format,
    /// Rows of one call of the model [default: 1024]
    #[arg(long, value_name = "ROWS")]
    batch_size: Option<NonZeroU32>,
    /// Calls at one moment
    #[arg(long, value_name = "CALLS")]
    parallelism: Option<NonZeroU32>,
    /// Go on where rows fail, until more than this share of all rows has failed [default without the option: stop at the first]
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "0.1")]
    skip_errors: Option<f64>,
    /// Milliseconds that a call may take
    #[arg(long, value_name = "MS")]
    call_timeout_ms: Option<NonZeroU64>,
    /// How much of the machine the calls may take, in percent
    #[arg(long, value_name = "PERCENT")]
    share: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Parquet,
    Csv,
    Jsonl,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// What is no JSON is a text.
fn parameter((name, value): &(String, String)) -> (String, Parameter) {
    let value = serde_json::from_str(value).unwrap_or_else(|_| Parameter::Text(value.clone()));
    (name.clone(), value)
}

impl JobArguments {
    /// The specification.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else, and values for inputs that are not mapped by column.
    pub fn specification(&self) -> Result<JobSpecification, Failure> {
        if let Some(file) = &self.file {
            let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let read = serde_json::from_slice(&text);
            return Ok(read.with_context(|| format!("{} is not the specification of a job", file.display()))?);
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let format = match self.format {
            Format::Parquet => DataFormat::Parquet,
            Format::Csv => DataFormat::Csv,
            Format::Jsonl => DataFormat::Jsonl,
        };
        let mut specification = JobSpecification::new(
            text(&self.dataset),
            text(&self.model),
            Output { dataset: text(&self.output), table: self.table.clone(), format },
        );
        specification.filter = self.filter.clone();
        specification.columns = (!self.columns.is_empty()).then(|| self.columns.clone());
        specification.inputs = self.inputs()?;
        specification.parameters = self.parameters.iter().map(parameter).collect();
        specification.outputs = self.outputs.iter().cloned().collect();
        specification.carry = self.carry.clone();
        specification.key = self.key.clone();
        specification.batch_size = self.batch_size.unwrap_or(specification.batch_size);
        specification.parallelism = self.parallelism;
        if let Some(share) = self.skip_errors {
            specification.on_error = ErrorPolicy::Skip;
            specification.max_failed_share = Some(share);
        }
        specification.call_timeout_ms = self.call_timeout_ms;
        specification.share_percent = self.share;
        Ok(specification)
    }

    fn inputs(&self) -> Result<BTreeMap<String, InputMapping>, Failure> {
        let mapping = |columns: &String| match columns.split_once(',') {
            None => InputMapping::Column(columns.clone()),
            Some(_) => InputMapping::Columns(columns.split(',').map(str::to_owned).collect()),
        };
        let mut inputs: BTreeMap<String, InputMapping> =
            self.inputs.iter().map(|(input, columns)| (input.clone(), mapping(columns))).collect();
        for (input, value) in &self.if_null {
            let column = match inputs.get(input) {
                None => input.clone(),
                Some(InputMapping::Column(column)) => column.clone(),
                Some(_) => {
                    let message = format!("--if-null {input}={value} goes with an input of one column");
                    return Err(Failure::Usage(message));
                }
            };
            let if_null = Some(serde_json::Value::String(value.clone()));
            inputs.insert(input.clone(), InputMapping::Filled(FilledColumn { column, if_null, pad: None }));
        }
        Ok(inputs)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        job: JobArguments,
    }

    fn typed(line: &str) -> Result<JobSpecification, Failure> {
        let parsed = Line::try_parse_from(std::iter::once("x").chain(line.split(' ')));
        parsed.map_err(|error| Failure::Usage(error.to_string()))?.job.specification()
    }

    #[test]
    fn what_is_typed_is_what_the_api_takes() {
        let line = "census income@best scores --where age>30 --input age=years --input m=a,b --if-null age=NaN \
                    --rename label=verdict --carry id --key id --format csv --skip-errors 0.2 --share 50";
        let expected = serde_json::json!({
            "dataset": "census", "model": "income@best", "output": { "dataset": "scores", "format": "csv" },
            "where": "age>30", "key": "id", "carry": ["id"], "batch_size": 1024,
            "inputs": { "age": { "column": "years", "if_null": "NaN" }, "m": ["a", "b"] },
            "outputs": { "label": "verdict" }, "on_error": "skip", "max_failed_share": 0.2, "share_percent": 50,
        });
        assert_eq!(serde_json::to_value(typed(line).unwrap()).unwrap(), expected);
        let least = typed("census income scores").unwrap();
        assert_eq!(
            (least.on_error, least.columns, least.output.format),
            (ErrorPolicy::Fail, None, DataFormat::Parquet)
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in ["census income", "census income scores --input age", "a b c --input m=a,b --if-null m=0"]
        {
            assert!(matches!(typed(line), Err(Failure::Usage(_))), "{line}");
        }
    }
}
