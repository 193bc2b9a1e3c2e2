//! `predictions`: tables of what was predicted before. Makes them, publishes to them, rolls them back, looks keys up.

use std::num::{NonZeroU32, NonZeroU64};

use clap::{Args, Subcommand};
use modelhost_batch::datasets::DatasetReference;
use modelhost_batch::tables::{
    KeyKind, LiveSettings, LiveVersion, Table, TableSettings, TableVersion, WhenStale,
};
use modelhost_core::{DatasetName, ModelName, Parameter, TableKey, TableName, VersionNumber};
use serde::Deserialize;
use serde_json::Value;
use ureq::http::Method;

use super::Session;
use super::models::moment;
use crate::client::Answer;
use crate::failure::Failure;
use crate::table;

/// What to do with prediction tables. Without any of these they are listed.
#[derive(Debug, Args)]
pub struct Predictions {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show one table: its settings and versions
    Show(Name),
    /// Make a table, or replace its settings
    Set(Set),
    /// Make a version of a dataset the one that answers
    Publish(Publish),
    /// Let an earlier version answer again
    Rollback(Rollback),
    /// Look keys up
    Get(Get),
    /// Delete a table with all its versions
    Delete(Delete),
}

#[derive(Debug, Args)]
struct Name {
    /// The table
    table: TableName,
}

#[derive(Debug, Args)]
struct Set {
    /// The table
    table: TableName,
    /// The column that rows are found by
    #[arg(long, value_name = "COLUMN")]
    key: String,
    /// The dataset whose latest version is published when none is named
    #[arg(long)]
    dataset: Option<DatasetName>,
    /// The age in seconds from which on predictions are stale
    #[arg(long, value_name = "SECONDS")]
    max_age_seconds: Option<NonZeroU64>,
    /// What is answered then: serve_stale or live
    #[arg(long, value_parser = when_stale, default_value = "serve_stale", value_name = "ANSWER")]
    when_stale: WhenStale,
    /// The model that answers where the table cannot
    #[arg(long)]
    model: Option<ModelName>,
    /// The version of that model, by number or alias; by default what is deployed
    #[arg(long, value_parser = live_version, requires = "model", value_name = "VERSION")]
    model_version: Option<LiveVersion>,
    /// The table that has the inputs of the model, under the same keys
    #[arg(long, requires = "model", value_name = "TABLE")]
    features: Option<TableName>,
    /// A parameter of each request to the model, such as k=20
    #[arg(long, value_parser = parameter, requires = "model", value_name = "NAME=VALUE")]
    parameter: Vec<(String, Parameter)>,
    /// Versions that are kept, the one that answers among them
    #[arg(long, default_value = "3", value_name = "N")]
    keep_versions: NonZeroU32,
    /// Only if the table is still at this generation
    #[arg(long, value_name = "GENERATION")]
    if_match: Option<u64>,
}

#[derive(Debug, Args)]
struct Publish {
    /// The table
    table: TableName,
    /// What to publish, such as top-items@3; by default the latest version of the table's own dataset
    dataset: Option<DatasetReference>,
}

#[derive(Debug, Args)]
struct Rollback {
    /// The table
    table: TableName,
    /// The version; by default the newest before the one that answers
    version: Option<u64>,
    /// Only if the table is still at this generation
    #[arg(long, value_name = "GENERATION")]
    if_match: Option<u64>,
}

#[derive(Debug, Args)]
struct Get {
    /// The table
    table: TableName,
    /// The keys
    #[arg(required = true)]
    keys: Vec<String>,
}

#[derive(Debug, Args)]
struct Delete {
    /// The table
    table: TableName,
    /// Only if the table is still at this generation
    #[arg(long, value_name = "GENERATION")]
    if_match: Option<u64>,
}

#[derive(Deserialize)]
struct Listing {
    predictions: Vec<Table>,
}

#[derive(Deserialize)]
struct LookedUp {
    predictions: Vec<Looked>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Looked {
    Failed { key: Value, error: String },
    Found(Found),
}

#[derive(Deserialize)]
struct Found {
    key: Value,
    source: String,
    version: Option<u64>,
    model: Option<String>,
    model_version: Option<u64>,
    age_seconds: f64,
    stale: bool,
    live_error: Option<String>,
    table_error: Option<String>,
    values: Value,
}

fn when_stale(text: &str) -> Result<WhenStale, String> {
    match text {
        "serve_stale" => Ok(WhenStale::ServeStale),
        "live" => Ok(WhenStale::Live),
        _ => Err("expected serve_stale or live".to_owned()),
    }
}

/// Digits are a number, everything else an alias.
fn live_version(text: &str) -> Result<LiveVersion, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse().map_err(|_| "no version has so large a number".to_owned())?;
        return Ok(LiveVersion::Number(VersionNumber(number)));
    }
    text.parse().map(LiveVersion::Alias).map_err(|error: modelhost_core::InvalidName| error.to_string())
}

/// What is no JSON is a text.
fn parameter(text: &str) -> Result<(String, Parameter), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Parameter::Text(value.to_owned()));
    Ok((name.to_owned(), value))
}

/// Does what was typed.
///
/// # Errors
/// As for all requests.
pub fn run(arguments: &Predictions, session: &Session) -> Result<(), Failure> {
    match &arguments.command {
        None => list(session),
        Some(Command::Show(Name { table })) => show(table, session),
        Some(Command::Set(arguments)) => set(arguments, session),
        Some(Command::Publish(arguments)) => publish(arguments, session),
        Some(Command::Rollback(arguments)) => roll_back(arguments, session),
        Some(Command::Get(arguments)) => get(arguments, session),
        Some(Command::Delete(arguments)) => delete(arguments, session),
    }
}

fn list(session: &Session) -> Result<(), Failure> {
    session.show(&session.client.get("/v1/predictions")?, |answer| {
        let Listing { predictions } = answer.read()?;
        if predictions.is_empty() {
            return Ok("no prediction tables yet: modelhost predictions set TABLE --key COLUMN".to_owned());
        }
        let header = ["table", "key", "serves", "of", "predicted", "keys", "versions"];
        Ok(table::rows(header, predictions.iter().map(row)))
    })
}

fn row(table: &Table) -> [String; 7] {
    let current = table.versions.iter().find(|version| Some(version.number) == table.current);
    let of_current = |value: fn(&TableVersion) -> String| current.map(value).unwrap_or_default();
    let numbers: Vec<String> = table.versions.iter().map(|version| version.number.to_string()).collect();
    [
        table.name.to_string(),
        table.settings.key.clone(),
        table.current.map_or_else(|| "nothing yet".to_owned(), |number| number.to_string()),
        of_current(|version| version.dataset.to_string()),
        of_current(|version| moment(version.predicted)),
        of_current(|version| version.rows.to_string()),
        numbers.join(" "),
    ]
}

fn show(table: &TableName, session: &Session) -> Result<(), Failure> {
    session.show(&session.client.get(&format!("/v1/predictions/{table}"))?, describe)
}

fn set(arguments: &Set, session: &Session) -> Result<(), Failure> {
    let live = arguments.model.clone().map(|model| LiveSettings {
        model,
        version: arguments.model_version.clone(),
        features: arguments.features.clone(),
        parameters: arguments.parameter.iter().cloned().collect(),
    });
    let settings = TableSettings {
        key: arguments.key.clone(),
        dataset: arguments.dataset.clone(),
        max_age_seconds: arguments.max_age_seconds,
        when_stale: arguments.when_stale,
        live,
        keep_versions: arguments.keep_versions,
    };
    let path = format!("/v1/predictions/{}", arguments.table);
    session.show(&session.client.send(Method::PUT, &path, &settings, arguments.if_match)?, describe)
}

fn publish(arguments: &Publish, session: &Session) -> Result<(), Failure> {
    let Publish { table, dataset } = arguments;
    let request = serde_json::json!({ "dataset": dataset });
    let answer =
        session.client.send(Method::POST, &format!("/v1/predictions/{table}/versions"), &request, None)?;
    session.show(&answer, |answer| {
        let version: TableVersion = answer.read()?;
        let TableVersion { number, dataset, rows, .. } = version;
        Ok(format!("version {number} of table {table} answers now: {rows} keys of {dataset}"))
    })
}

fn roll_back(arguments: &Rollback, session: &Session) -> Result<(), Failure> {
    let Rollback { table, version, if_match } = arguments;
    let request = serde_json::json!({ "version": version });
    let path = format!("/v1/predictions/{table}/rollback");
    let answer = session.client.send(Method::POST, &path, &request, *if_match)?;
    session.show(&answer, |answer| {
        let table: Table = answer.read()?;
        let number = table.current.map(|number| number.to_string()).unwrap_or_default();
        Ok(format!("version {number} of table {} answers again", table.name))
    })
}

fn get(arguments: &Get, session: &Session) -> Result<(), Failure> {
    let Get { table, keys } = arguments;
    let kind = key_kind(table, session)?;
    let keys: Vec<TableKey> = keys.iter().map(|key| typed_key(key, kind)).collect::<Result<_, _>>()?;
    let request = serde_json::json!({ "keys": keys });
    let path = format!("/v1/predictions/{table}/lookup");
    let answer = session.client.send(Method::POST, &path, &request, None)?;
    session.show(&answer, |answer| {
        let LookedUp { predictions } = answer.read()?;
        Ok(predictions.iter().map(describe_looked).collect::<Vec<_>>().join("\n\n"))
    })?;
    let LookedUp { predictions } = answer.read()?;
    let failed = predictions.iter().filter(|looked| matches!(looked, Looked::Failed { .. })).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Local(anyhow::anyhow!("{failed} of {} keys have no prediction", predictions.len())))
}

/// What the keys of a table are; those of its features as long as nothing was published to it.
fn key_kind(table: &TableName, session: &Session) -> Result<KeyKind, Failure> {
    let read = |table: &TableName| -> Result<Table, Failure> {
        session.client.get(&format!("/v1/predictions/{table}"))?.read()
    };
    let kind = |table: &Table| table.versions.last().map(|version| version.key_kind);
    let table = read(table)?;
    let features = table.settings.live.as_ref().and_then(|live| live.features.as_ref());
    let of_features = || features.and_then(|features| kind(&read(features).ok()?));
    Ok(kind(&table).or_else(of_features).unwrap_or(KeyKind::Text))
}

fn typed_key(text: &str, kind: KeyKind) -> Result<TableKey, Failure> {
    match kind {
        KeyKind::Text => Ok(TableKey::Text(text.to_owned())),
        KeyKind::Integer => text.parse().map(TableKey::Integer).map_err(|_| {
            Failure::Local(anyhow::anyhow!(
                "key {text:?} is no whole number: the table has whole numbers as keys"
            ))
        }),
    }
}

fn describe_looked(looked: &Looked) -> String {
    match looked {
        Looked::Found(found) => describe_found(found),
        Looked::Failed { key, error } => table::properties([("key", shown(key)), ("error", error.clone())]),
    }
}

fn describe_found(found: &Found) -> String {
    let from = match (&found.model, found.version) {
        (Some(model), _) => format!("{model} {}", found.model_version.unwrap_or_default()),
        (None, version) => format!("{} version {}", found.source, version.unwrap_or_default()),
    };
    let stale = if found.stale { ", stale" } else { "" };
    let head =
        [("key", shown(&found.key)), ("from", format!("{from}, {:.0} s old{stale}", found.age_seconds))];
    let errors = [("not live, because", &found.live_error), ("no table, because", &found.table_error)];
    let errors = errors.into_iter().filter_map(|(name, error)| Some((name, error.clone()?)));
    let values = found.values.as_object().into_iter().flatten();
    let values = values.map(|(name, value)| (name.as_str(), shown(value)));
    table::properties(head.into_iter().chain(errors).chain(values))
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn delete(arguments: &Delete, session: &Session) -> Result<(), Failure> {
    let Delete { table, if_match } = arguments;
    let answer = session.client.delete(&format!("/v1/predictions/{table}"), *if_match)?;
    session.show(&answer, |_| Ok(format!("table {table} is gone")))
}

fn describe(answer: &Answer) -> Result<String, Failure> {
    let table: Table = answer.read()?;
    let TableSettings { key, dataset, max_age_seconds, when_stale, live, keep_versions } = &table.settings;
    let stale = max_age_seconds.map(|seconds| {
        let then = if *when_stale == WhenStale::Live { "then live" } else { "then stale" };
        format!("{seconds} s, {then}")
    });
    let properties = table::properties([
        ("table", table.name.to_string()),
        ("key", key.clone()),
        ("dataset", dataset.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("serves", table.current.map_or_else(|| "nothing yet".to_owned(), |number| number.to_string())),
        ("good for", stale.unwrap_or_default()),
        ("model", live.as_ref().map(|live| live.model.to_string()).unwrap_or_default()),
        (
            "features",
            live.as_ref()
                .and_then(|live| live.features.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        ("keeps", format!("{keep_versions} versions")),
    ]);
    let header =
        ["version", "of", "predicted", "published", "by", "keys", "bytes", "columns", "licence", "sensitive"];
    Ok(format!("{properties}\n\n{}", table::rows(header, table.versions.iter().map(version_row))))
}

fn version_row(version: &TableVersion) -> [String; 10] {
    let columns: Vec<&str> = version.columns.iter().map(|column| column.name.as_str()).collect();
    [
        version.number.to_string(),
        version.dataset.to_string(),
        moment(version.predicted),
        moment(version.published),
        version.by.clone().unwrap_or_default(),
        version.rows.to_string(),
        version.bytes.to_string(),
        columns.join(" "),
        version.card.license.clone().unwrap_or_default(),
        version.card.sensitive_columns.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_models_are_numbers_or_aliases() {
        assert_eq!(live_version("7"), Ok(LiveVersion::Number(VersionNumber(7))));
        assert_eq!(live_version("champion"), Ok(LiveVersion::Alias("champion".parse().unwrap())));
        for wrong in ["", "a b", "99999999999999999999"] {
            assert!(live_version(wrong).is_err(), "{wrong}");
        }
    }
}
