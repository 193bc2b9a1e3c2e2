//! Looking at a dataset: its first rows, and a profile of its columns, in bounded memory and for as long as somebody
//! waits for it.

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Column;
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::{approx_distinct, approx_percentile_cont, count, max, min};
use datafusion::prelude::{DataFrame, Expr, cast, lit};
use futures_util::StreamExt as _;
use modelhost_core::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::version::DatasetVersion;
use super::{Column as DatasetColumn, Datasets};
use crate::Error;
use crate::query_failure::{query_failure, reading};

/// Most rows of a preview.
pub const MAX_PREVIEW_ROWS: usize = 1_000;
/// Rows that are decoded at once for one: each may be long.
const PREVIEW_BATCH_ROWS: usize = 64;
/// Most bytes of a preview, and longest text of a profile, in characters.
const MAX_PREVIEW_BYTES: usize = 16 << 20;
const MAX_TEXT: usize = 200;
/// Shares of the values, in percent, below which the quantiles are.
const QUANTILES: [u8; 5] = [1, 25, 50, 75, 99];
const TOP_VALUES: usize = 10;
/// Columns with more values than this have no top values that say anything.
const MAX_DISTINCT_FOR_TOP: u64 = 10_000;

/// What is known about the values of the columns of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Rows of the version.
    pub rows: u64,
    /// Its columns, in their order.
    pub columns: Vec<ColumnProfile>,
}

/// What is known about the values of a column. What makes no sense for its type is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// The column.
    #[serde(flatten)]
    pub column: DatasetColumn,
    /// Whether the dataset's card says that it is sensitive.
    pub sensitive: bool,
    /// Values that are missing.
    pub nulls: u64,
    /// Different values, counted approximately, to within some percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
    /// The smallest value.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub min: Value,
    /// The largest value.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub max: Value,
    /// Values below which so many percent of the values are, approximately; of numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<Quantile>,
    /// The most frequent values, counted exactly, the most frequent one first. Left out where there are more than
    /// 10,000 different ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TopValue>,
}

/// A quantile of a column of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// Of the values are below, in percent.
    pub percent: u8,
    /// The value.
    pub value: Value,
}

/// A value that is frequent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopValue {
    /// The value.
    pub value: Value,
    /// How often it is there.
    pub count: u64,
}

impl Datasets {
    /// The first rows of a version, as a JSON array of objects.
    ///
    /// # Errors
    /// [`ErrorCode::TooLarge`] where these rows are larger than a preview may be; a version that cannot be read.
    pub async fn preview(&self, version: &DatasetVersion, rows: usize) -> Result<Box<RawValue>, Error> {
        let _hold = self.hold(version, "a preview")?;
        let _turn = self.previews.acquire().await.map_err(Error::internal)?;
        let rows = rows.min(MAX_PREVIEW_ROWS);
        let frame = self.frame(version, Some(rows.clamp(1, PREVIEW_BATCH_ROWS)))?.limit(0, Some(rows));
        let what = format!("dataset {}", version.reference());
        let asked = what.clone();
        let query = async move {
            let failed = |error: DataFusionError| query_failure(&what, &error);
            let mut stream = frame.map_err(failed)?.execute_stream().await.map_err(failed)?;
            let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(failed)?;
                // One after the other, so that not many of the longest are written before their size is looked at.
                for row in 0..batch.num_rows() {
                    writer.write(&batch.slice(row, 1)).map_err(|error| failed(error.into()))?;
                    check_size(writer.get_ref().len())?;
                }
            }
            writer.finish().map_err(Error::internal)?;
            let json = writer.into_inner();
            // A writer that has seen no rows writes nothing.
            let json = if json.is_empty() { b"[]".to_vec() } else { json };
            let json = String::from_utf8(json).map_err(Error::internal)?;
            RawValue::from_string(json).map_err(Error::internal)
        };
        self.work.run_while_awaited(async move { reading(&asked, query).await }).await
    }

    /// What the values of a version are like. Reads all of them, at least once.
    ///
    /// # Errors
    /// A version that cannot be read, or not within the memory that queries have.
    pub async fn profile(&self, version: &DatasetVersion) -> Result<Profile, Error> {
        let _hold = self.hold(version, "a profile")?;
        let _turn = self.profiles.acquire().await.map_err(Error::internal)?;
        let (frame, version) = (self.frame(version, None)?, version.clone());
        self.work
            .run_while_awaited(async move {
                let what = format!("dataset {}", version.reference());
                let query =
                    async { profile(&frame, &version).await.map_err(|error| query_failure(&what, &error)) };
                reading(&what, query).await
            })
            .await
    }

    /// A version as a table whose rows come in their order, and so many at once.
    fn frame(&self, version: &DatasetVersion, batch_rows: Option<usize>) -> Result<DataFrame, Error> {
        let session = self.session();
        {
            let state = session.state_ref();
            let mut state = state.write();
            let config = state.config_mut();
            let rows = batch_rows.unwrap_or(config.batch_size());
            *config = std::mem::take(config).with_target_partitions(1).with_batch_size(rows);
        }
        session.read_table(self.table_provider(version)?).map_err(Error::internal)
    }
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_PREVIEW_BYTES {
        let message = format!("these rows have more than {MAX_PREVIEW_BYTES} bytes: ask for fewer");
        return Err(Error::new(ErrorCode::TooLarge, message));
    }
    Ok(())
}

async fn profile(frame: &DataFrame, version: &DatasetVersion) -> Result<Profile, DataFusionError> {
    let schema = &version.schema.columns;
    let measures: Vec<Vec<Measure>> = schema.iter().map(|column| measures_of(&column.data_type)).collect();
    let mut expressions = Vec::new();
    for (index, (column, measures)) in schema.iter().zip(&measures).enumerate() {
        for measure in measures {
            expressions.push(measure.expression(column).alias(measure.name(index)));
        }
    }
    let batches = frame.clone().aggregate(Vec::new(), expressions)?.collect().await?;
    let found = Found(batches.first());
    let mut columns = Vec::with_capacity(schema.len());
    for (index, (column, measures)) in schema.iter().zip(&measures).enumerate() {
        let mut profile = ColumnProfile {
            column: column.clone(),
            sensitive: version.card.sensitive_columns.contains(&column.name),
            nulls: version.rows.saturating_sub(found.count(&Measure::Count.name(index))),
            distinct: measures
                .contains(&Measure::Distinct)
                .then(|| found.count(&Measure::Distinct.name(index))),
            min: found.value(&Measure::Min.name(index))?,
            max: found.value(&Measure::Max.name(index))?,
            quantiles: Vec::new(),
            top: Vec::new(),
        };
        for percent in QUANTILES {
            let value = found.value(&Measure::Quantile(percent).name(index))?;
            profile.quantiles.extend((!value.is_null()).then_some(Quantile { percent, value }));
        }
        if profile.distinct.is_some_and(|distinct| distinct <= MAX_DISTINCT_FOR_TOP) {
            profile.top = top_values(frame, column).await?;
        }
        columns.push(profile);
    }
    Ok(Profile { rows: version.rows, columns })
}

async fn top_values(frame: &DataFrame, column: &DatasetColumn) -> Result<Vec<TopValue>, DataFusionError> {
    let value = reference(column);
    let counts = frame
        .clone()
        .filter(value.clone().is_not_null())?
        .aggregate(vec![value.clone().alias("value")], vec![count(lit(1)).alias("count")])?
        .sort(vec![
            Expr::Column(Column::new_unqualified("count")).sort(false, false),
            Expr::Column(Column::new_unqualified("value")).sort(true, false),
        ])?
        .limit(0, Some(TOP_VALUES))?
        .collect()
        .await?;
    let mut top = Vec::new();
    for batch in &counts {
        for row in 0..batch.num_rows() {
            let value = value_at(batch, "value", row)?;
            let count = value_at(batch, "count", row)?.as_u64().unwrap_or(0);
            top.push(TopValue { value, count });
        }
    }
    Ok(top)
}

/// Something that is asked about a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// Of values that are there.
    Count,
    Distinct,
    Min,
    Max,
    Quantile(u8),
}

impl Measure {
    fn expression(self, column: &DatasetColumn) -> Expr {
        let value = reference(column);
        match self {
            Measure::Count => count(value),
            // Floats are counted as they are written.
            Measure::Distinct if values_of(&column.data_type).is_floating() => {
                approx_distinct(cast(value, DataType::Utf8))
            }
            Measure::Distinct => approx_distinct(value),
            Measure::Min => min(value),
            Measure::Max => max(value),
            Measure::Quantile(percent) => {
                let sorted = cast(value, DataType::Float64).sort(true, false);
                approx_percentile_cont(sorted, lit(f64::from(percent) / 100.0), None)
            }
        }
    }

    /// Of the result, for the column with this number.
    fn name(self, index: usize) -> String {
        match self {
            Measure::Count => format!("count {index}"),
            Measure::Distinct => format!("distinct {index}"),
            Measure::Min => format!("min {index}"),
            Measure::Max => format!("max {index}"),
            Measure::Quantile(percent) => format!("quantile {percent} {index}"),
        }
    }
}

/// The type of what a column's values stand for.
fn values_of(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values_of(values),
        other => other,
    }
}

/// What makes sense for values of this type.
fn measures_of(data_type: &DataType) -> Vec<Measure> {
    use Measure::{Count, Distinct, Max, Min, Quantile};
    match data_type {
        DataType::Dictionary(_, values) => measures_of(values),
        DataType::Boolean => vec![Count, Distinct],
        numeric if numeric.is_numeric() => {
            [Count, Distinct, Min, Max].into_iter().chain(QUANTILES.map(Quantile)).collect()
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => vec![Count, Distinct, Min, Max],
        temporal if temporal.is_temporal() => vec![Count, Distinct, Min, Max],
        _ => vec![Count],
    }
}

/// The values of a column. Those of a dictionary as what they stand for: not everything that is asked knows
/// dictionaries.
fn reference(column: &DatasetColumn) -> Expr {
    let reference = Expr::Column(Column::new_unqualified(&column.name));
    match &column.data_type {
        DataType::Dictionary(_, values) => cast(reference, values.as_ref().clone()),
        _ => reference,
    }
}

/// The one row of a result. A dataset without rows may give none.
struct Found<'a>(Option<&'a RecordBatch>);

impl Found<'_> {
    fn value(&self, name: &str) -> Result<Value, DataFusionError> {
        match self.0 {
            Some(batch) if batch.num_rows() > 0 && batch.column_by_name(name).is_some() => {
                value_at(batch, name, 0)
            }
            _ => Ok(Value::Null),
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.value(name).ok().and_then(|value| value.as_u64()).unwrap_or(0)
    }
}

/// A number as a number where JSON has it, everything else as Arrow writes it, within bounds.
fn value_at(batch: &RecordBatch, name: &str, row: usize) -> Result<Value, DataFusionError> {
    let Some(array) = batch.column_by_name(name).filter(|array| !array.is_null(row)) else {
        return Ok(Value::Null);
    };
    let text = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())?.value(row).to_string();
    let data_type = array.data_type();
    let value = match data_type {
        DataType::Boolean => text.parse().map(Value::Bool).ok(),
        numeric if numeric.is_integer() || numeric.is_floating() => text.parse().map(Value::Number).ok(),
        _ => None,
    };
    // A float that is no number in JSON, such as NaN or 1e400, stays a text.
    let number = |text: &str| text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number);
    Ok(value
        .or_else(|| data_type.is_floating().then(|| number(&text)).flatten())
        .unwrap_or_else(|| Value::String(text.chars().take(MAX_TEXT).collect())))
}
