//! `stats`: what models did since their host started, and what they hold.

use std::time::Duration;

use clap::Args;
use indicatif::BinaryBytes;
use jiff::Timestamp;
use modelhost_core::ModelName;
use modelhost_serving::{Timed, VersionStatistics};
use serde::Deserialize;

use super::Session;
use super::models::moment;
use crate::client::Answer;
use crate::failure::Failure;
use crate::table;

/// Of which model.
#[derive(Debug, Args)]
pub struct Stats {
    /// The model; by default all
    model: Option<ModelName>,
}

#[derive(Deserialize)]
struct Statistics {
    model_stats: Vec<VersionStatistics>,
}

/// Shows statistics.
///
/// # Errors
/// As for all requests.
pub fn run(arguments: &Stats, session: &Session) -> Result<(), Failure> {
    let path = match &arguments.model {
        Some(model) => format!("/v2/models/{model}/stats"),
        None => "/v2/models/stats".to_owned(),
    };
    session.show(&session.client.get(&path)?, describe)
}

fn describe(answer: &Answer) -> Result<String, Failure> {
    let Statistics { model_stats } = answer.read()?;
    if model_stats.is_empty() {
        return Ok("nothing was deployed or asked for since the host started".to_owned());
    }
    let header = [
        "model",
        "version",
        "answered",
        "failed",
        "rows/run",
        "queue",
        "before",
        "inference",
        "after",
        "at rest",
        "in use",
        "last",
    ];
    let legend = "Times are means of the requests that were answered: waiting, the plugin before its first inference, \
                  inference, and the plugin after it.";
    Ok(format!("{}\n\n{legend}", table::rows(header, model_stats.iter().map(row))))
}

fn row(version: &VersionStatistics) -> [String; 12] {
    let statistics = &version.inference_stats;
    let bytes = |of: fn(&modelhost_serving::MemoryOfKind) -> u64| match version.memory_usage.as_slice() {
        [] => String::new(),
        used => BinaryBytes(used.iter().map(of).sum()).to_string(),
    };
    [
        version.name.to_string(),
        version.version.clone(),
        statistics.success.count.to_string(),
        statistics.fail.count.to_string(),
        rows_of_a_run(version),
        mean(statistics.queue),
        mean(statistics.compute_input),
        mean(statistics.compute_infer),
        mean(statistics.compute_output),
        bytes(|used| used.at_rest_byte_size),
        bytes(|used| used.in_use_byte_size),
        last(version.last_inference),
    ]
}

/// How many inferences share an execution.
fn rows_of_a_run(version: &VersionStatistics) -> String {
    match version.execution_count {
        0 => String::new(),
        executions => format!("{:.1}", version.inference_count as f64 / executions as f64),
    }
}

fn mean(timed: Timed) -> String {
    timed
        .ns
        .checked_div(timed.count)
        .map_or_else(String::new, |ns| format!("{:.1?}", Duration::from_nanos(ns)))
}

fn last(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds).ok().filter(|milliseconds| *milliseconds > 0);
    time.and_then(|time| Timestamp::from_millisecond(time).ok()).map_or_else(String::new, moment)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statistics_become_means() {
        let timed = |count: u64, ns: u64| json!({ "count": count, "ns": ns });
        let text = json!({ "model_stats": [{
            "name": "income", "version": "3", "last_inference": 1_767_323_045_678_u64,
            "inference_count": 6, "execution_count": 4,
            "inference_stats": {
                "success": timed(4, 4_000), "fail": timed(1, 7), "queue": timed(4, 0), "compute_input": timed(4, 80_000),
                "compute_infer": timed(4, 6_000_000), "compute_output": timed(0, 0),
                "cache_hit": timed(0, 0), "cache_miss": timed(0, 0),
            },
            "response_stats": {}, "batch_stats": [],
            "memory_usage": [{ "type": "CPU", "id": 0, "byte_size": 3072, "at_rest_byte_size": 2048, "in_use_byte_size": 1024 }],
        }]})
        .to_string();
        let shown = describe(&Answer { is_created: false, text }).unwrap();
        let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        let expected = [
            "income",
            "3",
            "4",
            "1",
            "1.5",
            "0.0ns",
            "20.0µs",
            "1.5ms",
            "2.00",
            "KiB",
            "1.00",
            "KiB",
            "2026-01-02T03:04:05Z",
        ];
        assert_eq!(row, expected, "{shown}");
    }
}
