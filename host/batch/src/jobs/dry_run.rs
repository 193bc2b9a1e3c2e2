//! A job that is tried: what it would read, ask and write, and what it makes of the first rows. Leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures_util::StreamExt as _;
use modelhost_serving::Error;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fault::FailedRow;
use super::planning::{Needed, Planned, Planner};
use super::reading::Piece;
use super::record::ResolvedModel;
use super::specification::JobSpecification;
use crate::datasets::{DatasetReference, DatasetSchema};

/// Rows that are scored.
const ROWS: usize = 10;
/// Rows that are looked at for them, where a condition leaves many out.
const ROWS_READ: u64 = 100_000;

/// What a job would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DryRun {
    /// The dataset version that it would read.
    pub dataset: DatasetReference,
    /// Rows of that.
    pub rows: u64,
    /// The model version that it would ask.
    pub model: ResolvedModel,
    /// What each input is made of.
    pub inputs: Vec<InputShown>,
    /// The columns of the output.
    pub schema: DatasetSchema,
    /// Whether rows share calls.
    pub batched: bool,
    /// The first rows of the output.
    pub predictions: Vec<Value>,
    /// Those of the first rows that failed.
    pub failed: Vec<FailedRow>,
}

/// What an input is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputShown {
    /// The input.
    pub name: String,
    /// Its datatype.
    pub datatype: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// The columns.
    pub columns: Vec<String>,
}

impl Planner {
    /// Tries a job.
    ///
    /// # Errors
    /// As planning a job; and what the first rows meet that none of them is to blame for.
    pub(crate) async fn dry_run(&self, specification: &JobSpecification) -> Result<DryRun, Error> {
        let (dataset, model) = self.resolve(specification).await?;
        let _holds =
            self.hold(Needed { dataset: &dataset, model: &model, earlier: None }, "a dry run").await?;
        let small = JobSpecification {
            batch_size: specification
                .batch_size
                .min(std::num::NonZeroU32::new(1_024).unwrap_or(std::num::NonZeroU32::MIN)),
            ..specification.clone()
        };
        let planned = self.plan(&small, dataset, model).await?;
        let (predictions, failed) = score_first(&planned).await?;
        let columns: BTreeMap<String, Vec<String>> = planned.scorer.inputs().describe();
        let shown = |input: &modelhost_core::TensorDescription| InputShown {
            name: input.name.clone(),
            datatype: input.datatype.to_string(),
            shape: input.shape.clone(),
            columns: columns.get(&input.name).cloned().unwrap_or_default(),
        };
        Ok(DryRun {
            dataset: planned.dataset.reference(),
            rows: planned.dataset.rows,
            model: planned.model.clone(),
            inputs: planned.signature.inputs.iter().map(shown).collect(),
            schema: DatasetSchema::of(planned.scorer.schema()),
            batched: planned.scorer.inputs().is_batched(),
            predictions,
            failed,
        })
    }
}

async fn score_first(planned: &Planned) -> Result<(Vec<Value>, Vec<FailedRow>), Error> {
    let Planned { source, query, scorer, .. } = planned;
    let plan = source.plan(Some(ROWS_READ)).await?;
    let (mut predictions, mut failed) = (Vec::new(), Vec::new());
    for split in plan.splits {
        let end_row = (split.first_row + split.rows).min(ROWS_READ);
        let piece = Piece { first_row: split.first_row, end_row, split };
        if piece.first_row >= end_row {
            break;
        }
        let unreadable = Arc::new(Mutex::new(Vec::new()));
        let rows = source.read(&piece).await?;
        let mut batches =
            query.run(rows, source.batch_schema(), &scorer.columns(), unreadable.clone()).await?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let left = ROWS.saturating_sub(predictions.len() + failed.len());
            let scored = scorer.score(&batch.slice(0, left.min(batch.num_rows())), u64::MAX).await?;
            predictions.extend(as_json(&scored.rows)?);
            failed.extend(scored.failed);
            failed.append(&mut unreadable.lock());
            if predictions.len() + failed.len() >= ROWS {
                failed.sort_by_key(|row| row.row);
                failed.truncate(ROWS);
                return Ok((predictions, failed));
            }
        }
        failed.append(&mut unreadable.lock());
    }
    Ok((predictions, failed))
}

fn as_json(rows: &RecordBatch) -> Result<Vec<Value>, Error> {
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write(rows).and_then(|()| writer.finish()).map_err(Error::internal)?;
    let text = writer.into_inner();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&text).map_err(Error::internal)
}
