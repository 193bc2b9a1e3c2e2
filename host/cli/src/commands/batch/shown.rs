//! Jobs for people.

use modelhost_batch::jobs::{DryRun, Job, JobView};
use serde::Deserialize;
use serde_json::Value;

use crate::table;

/// What `GET /v1/jobs` answers.
#[derive(Deserialize)]
pub struct Listing {
    /// The jobs, the oldest first.
    pub jobs: Vec<JobView>,
}

/// All jobs.
pub fn jobs(jobs: &[JobView]) -> String {
    let header = ["job", "state", "dataset", "model", "output", "rows", "failed", "created"];
    let row = |view: &JobView| {
        let done = view.rows.total - view.rows.incomplete;
        [
            view.id.to_string(),
            view.state.name().to_owned(),
            view.dataset.to_string(),
            model(view),
            output(view),
            format!("{done}/{}", view.rows.total),
            view.rows.failed.to_string(),
            view.created.to_string(),
        ]
    };
    table::rows(header, jobs.iter().map(row))
}

/// One job.
pub fn job(view: &JobView) -> String {
    let optional = |value: Option<String>| value.unwrap_or_default();
    let rows = &view.rows;
    let mut counts = format!("{} of {} succeeded, {} failed", rows.succeeded, rows.total, rows.failed);
    if rows.filtered > 0 {
        counts += &format!(", {} left out", rows.filtered);
    }
    if rows.incomplete > 0 {
        counts += &format!(", {} incomplete", rows.incomplete);
    }
    table::properties([
        ("job", view.id.to_string()),
        ("state", view.state.name().to_owned()),
        ("error", optional(view.error.clone())),
        ("dataset", view.dataset.to_string()),
        ("model", format!("{} ({})", model(view), view.model.digest)),
        ("output", output(view)),
        ("rows", counts),
        ("splits", format!("{} of {}", view.splits.done, view.splits.total)),
        ("rows a second", optional(view.pace.rows_per_second.map(|rate| format!("{rate:.0}")))),
        ("retry of", optional(view.retry_of.map(|job| job.to_string()))),
        ("created", view.created.to_string()),
        ("started", optional(view.started.map(|time| time.to_string()))),
        ("ended", optional(view.ended.map(|time| time.to_string()))),
        ("by", optional(view.by.clone())),
    ])
}

/// What a job would do.
pub fn dry_run(run: &DryRun) -> String {
    let inputs = run.inputs.iter().map(|input| {
        [input.name.clone(), format!("{}{:?}", input.datatype, input.shape), input.columns.join(", ")]
    });
    let columns: Vec<String> = run.schema.columns.iter().map(|column| column.name.clone()).collect();
    let cells = |row: &Value| columns.iter().map(|name| cell(row.get(name))).collect::<Vec<_>>();
    let mut text = table::properties([
        ("dataset", format!("{} ({} rows)", run.dataset, run.rows)),
        ("model", format!("{}@{} ({})", run.model.name, run.model.version, run.model.digest)),
        ("calls", if run.batched { "of several rows" } else { "of one row each" }.to_owned()),
    ]);
    text += &format!("\n\n{}", table::rows(["input", "takes", "columns"], inputs));
    let types = run.schema.columns.iter().map(|column| [column.name.clone(), column.data_type.to_string()]);
    text += &format!("\n\n{}", table::rows(["output", "type"], types));
    text += &format!("\n\n{}", table::columns(columns.clone(), run.predictions.iter().map(cells)));
    if !run.failed.is_empty() {
        let failed = run
            .failed
            .iter()
            .map(|row| [row.row.to_string(), cell(row.key.as_ref()), row.code.clone(), row.reason.clone()]);
        text += &format!("\n\n{}", table::rows(["failed row", "key", "code", "reason"], failed));
    }
    text
}

fn model(job: &Job) -> String {
    format!("{}@{}", job.model.name, job.model.version)
}

fn output(job: &Job) -> String {
    match &job.output {
        Some(version) => version.to_string(),
        None => job.specification.output.dataset.clone(),
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
