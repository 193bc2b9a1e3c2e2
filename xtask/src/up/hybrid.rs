//! Owns the order of the example that joins batch and online: the plugin's leave to read a table, the customers, the table,
//! the nightly job that fills it, and its first run.
//!
//! It must not know how any of this is done, only by which command. Each step is looked for by itself: an earlier `up` may
//! have been stopped between any two, and what an operator has changed since stays.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::client::Client;
use crate::steps;
use crate::workspace::Workspace;

const MODEL: &str = "reranker";
const TABLE: &str = "top-items";
const SCHEDULE: &str = "nightly-top-items";
const CUSTOMERS: &str = "examples/customers.jsonl";
const JOB: &str = "examples/top-items.json";

/// The first run takes some seconds.
const LONGEST_RUN: Duration = Duration::from_secs(300);

/// Does what is not done yet.
pub fn set_up(workspace: &Workspace, client: &Client) -> Result<()> {
    grant(client)?;
    let file = |path: &str| workspace.root.join(path).display().to_string();
    step(client, "/v1/datasets/customers", "the customers", |client| {
        client.run(&["datasets", "put", "customers", &file(CUSTOMERS)])
    })?;
    step(client, &table_path(), "the table of what to recommend to each customer", |client| {
        client.run(&["predictions", "set", TABLE, "--key", "user", "--dataset", TABLE])
    })?;
    step(client, &schedule_path(), "the job that fills it, every night at three", |client| {
        client.run(&["schedules", "add", SCHEDULE, "--cron", "0 3 * * *", "--job", &file(JOB)])
    })?;
    if has_lists(client)? {
        return Ok(());
    }
    steps::loud("tonight's lists, now", || run_now(client))
}

/// A line that looks a customer up, to be pasted into a shell.
pub fn curl(url: &str) -> String {
    format!("curl -s {url}/v1/predictions/{TABLE}/2015-018148")
}

fn step(client: &Client, path: &str, what: &str, work: impl FnOnce(&Client) -> Result<()>) -> Result<()> {
    if client.find(path)?.is_some() {
        steps::note(&format!("{what}: there already"));
        return Ok(());
    }
    steps::loud(what, || work(client))
}

/// Beside the tables that the plugin may read already.
fn grant(client: &Client) -> Result<()> {
    let configuration = client.find(&format!("/v1/models/{MODEL}/configuration"))?.unwrap_or_default();
    let mut tables: Vec<&str> = configuration["prediction_tables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if tables.contains(&TABLE) {
        return Ok(());
    }
    tables.push(TABLE);
    steps::loud(&format!("{MODEL} may read {TABLE}"), || {
        client.run(&["configure", MODEL, "--prediction-tables", &tables.join(",")])
    })
}

fn run_now(client: &Client) -> Result<()> {
    // One that an earlier `up` began goes on.
    if last_run(client)?["outcome"] != "running" {
        client.run(&["schedules", "run-now", SCHEDULE])?;
    }
    let began = Instant::now();
    while !has_lists(client)? {
        let run = last_run(client)?;
        if matches!(run["outcome"].as_str(), Some("failed" | "cancelled")) {
            bail!("the nightly job did not succeed: {run}");
        }
        ensure!(began.elapsed() < LONGEST_RUN, "the nightly job takes too long: {run}");
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn last_run(client: &Client) -> Result<Value> {
    Ok(client.find(&schedule_path())?.map(|mut schedule| schedule["last_run"].take()).unwrap_or_default())
}

fn has_lists(client: &Client) -> Result<bool> {
    Ok(client.find(&table_path())?.is_some_and(|table| !table["current"].is_null()))
}

fn table_path() -> String {
    format!("/v1/predictions/{TABLE}")
}

fn schedule_path() -> String {
    format!("/v1/schedules/{SCHEDULE}")
}
