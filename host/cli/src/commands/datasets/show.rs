//! What there is, as tables.

use clap::Args;
use indicatif::BinaryBytes;
use modelhost_batch::datasets::{
    ColumnProfile, DatasetCard, DatasetReference, DatasetSchema, DatasetVersion, FileLocation, Profile,
};
use modelhost_core::{DatasetName, VersionNumber};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::path;
use crate::client::Answer;
use crate::commands::Session;
use crate::commands::models::moment;
use crate::failure::Failure;
use crate::table;

/// Most frequent values that fit in a table.
const TOP_VALUES: usize = 3;

/// Of which version, and how much.
#[derive(Debug, Args)]
pub struct Preview {
    /// The dataset, and its version if it is not to be the latest: bookings, bookings@3
    dataset: DatasetReference,
    /// How many rows
    #[arg(long, default_value_t = 10)]
    rows: u32,
}

#[derive(Deserialize)]
struct Listing {
    datasets: Vec<Summary>,
}

#[derive(Deserialize)]
struct Summary {
    name: DatasetName,
    versions: Vec<VersionNumber>,
    latest: DatasetVersion,
}

#[derive(Deserialize)]
struct Versions {
    versions: Vec<DatasetVersion>,
}

#[derive(Deserialize)]
struct Rows {
    columns: DatasetSchema,
    rows: Vec<Map<String, Value>>,
}

/// Shows all datasets.
pub fn list(session: &Session) -> Result<(), Failure> {
    session.show(&session.client.get("/v1/datasets")?, |answer| {
        let Listing { datasets } = answer.read()?;
        if datasets.is_empty() {
            return Ok("no datasets yet: modelhost datasets put NAME FILES…".to_owned());
        }
        let header = ["dataset", "versions", "format", "rows", "size", "columns", "license", "created"];
        Ok(table::rows(header, datasets.iter().map(summary)))
    })
}

fn summary(Summary { name, versions, latest }: &Summary) -> [String; 8] {
    let numbers: Vec<String> = versions.iter().map(ToString::to_string).collect();
    [
        name.to_string(),
        numbers.join(" "),
        latest.format.to_string(),
        latest.rows.to_string(),
        BinaryBytes(latest.bytes).to_string(),
        latest.schema.columns.len().to_string(),
        latest.card.license.clone().unwrap_or_default(),
        moment(latest.created),
    ]
}

/// Shows the versions of a dataset.
pub fn versions(dataset: &DatasetName, session: &Session) -> Result<(), Failure> {
    let answer = session.client.get(&format!("/v1/datasets/{dataset}/versions"))?;
    session.show(&answer, |answer| {
        let Versions { versions } = answer.read()?;
        let header = ["version", "format", "files", "rows", "size", "created", "by", "job"];
        let row = |version: &DatasetVersion| {
            [
                version.number.to_string(),
                version.format.to_string(),
                version.files.len().to_string(),
                version.rows.to_string(),
                BinaryBytes(version.bytes).to_string(),
                moment(version.created),
                version.by.clone().unwrap_or_default(),
                version.lineage.as_ref().map(|lineage| lineage.job.clone()).unwrap_or_default(),
            ]
        };
        Ok(table::rows(header, versions.iter().map(row)))
    })
}

/// Shows one version.
pub fn version(dataset: &DatasetReference, session: &Session) -> Result<(), Failure> {
    session.show(&session.client.get(&path(dataset))?, describe)
}

fn describe(answer: &Answer) -> Result<String, Failure> {
    let version: DatasetVersion = answer.read()?;
    let mut properties = vec![
        ("dataset", version.reference().to_string()),
        ("format", version.format.to_string()),
        ("rows", version.rows.to_string()),
        ("size", BinaryBytes(version.bytes).to_string()),
        ("created", moment(version.created)),
        ("by", version.by.clone().unwrap_or_default()),
    ];
    properties.extend(card(&version.card));
    if let Some(lineage) = &version.lineage {
        properties.push(("made of", lineage.input.to_string()));
        properties.push(("by model", format!("{} version {}", lineage.model, lineage.model_version)));
        properties.push(("in job", lineage.job.clone()));
    }
    let files = version.files.iter().map(|file| {
        let place = match &file.location {
            FileLocation::Stored { digest } => digest.hex().chars().take(12).collect(),
            FileLocation::Registered { url, .. } => url.to_string(),
        };
        [file.name.clone(), file.rows.to_string(), BinaryBytes(file.bytes).to_string(), place]
    });
    let files = table::rows(["file", "rows", "size", "place"], files);
    Ok([table::properties(properties), columns(&version.schema), files].join("\n\n"))
}

fn card(card: &DatasetCard) -> Vec<(&'static str, String)> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let sensitive: Vec<&str> = card.sensitive_columns.iter().map(String::as_str).collect();
    let commercial = card.commercial_use.map(|allowed| if allowed { "allowed" } else { "not allowed" });
    vec![
        ("license", text(&card.license)),
        ("commercial use", commercial.unwrap_or_default().to_owned()),
        ("source", text(&card.source)),
        ("consent", text(&card.consent)),
        ("sensitive", sensitive.join(", ")),
        ("keep until", card.retention_until.map(|date| date.to_string()).unwrap_or_default()),
        ("description", text(&card.description)),
    ]
}

/// Shows the columns of a version: of JSON, the list alone.
pub fn schema(dataset: &DatasetReference, session: &Session) -> Result<(), Failure> {
    let answer = session.client.get(&path(dataset))?;
    let version: DatasetVersion = answer.read()?;
    let text = serde_json::to_string(&version.schema).map_err(anyhow::Error::from)?;
    let columns = columns(&version.schema);
    session.show(&Answer { is_created: false, text }, |_| Ok(columns))
}

fn columns(schema: &DatasetSchema) -> String {
    let row = |column: &modelhost_batch::datasets::Column| {
        let nullable = if column.nullable { "may be missing" } else { "" };
        [column.name.clone(), column.data_type.to_string(), nullable.to_owned()]
    };
    table::rows(["column", "type", ""], schema.columns.iter().map(row))
}

/// Shows the first rows of a version.
pub fn preview(arguments: &Preview, session: &Session) -> Result<(), Failure> {
    let path = format!("{}/preview?rows={}", path(&arguments.dataset), arguments.rows);
    session.show(&session.client.get(&path)?, |answer| {
        let Rows { columns, rows } = answer.read()?;
        let names: Vec<String> = columns.columns.into_iter().map(|column| column.name).collect();
        let cells = |row: &Map<String, Value>| names.iter().map(|name| cell(row.get(name))).collect();
        let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
        Ok(table::columns(names, rows))
    })
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// Shows the profile of a version.
pub fn profile(dataset: &DatasetReference, session: &Session) -> Result<(), Failure> {
    session.show(&session.client.get(&format!("{}/profile", path(dataset)))?, |answer| {
        let Profile { rows, columns } = answer.read()?;
        let header = ["column", "type", "nulls", "distinct", "min", "max", "median", "most frequent"];
        Ok(format!("{rows} rows\n\n{}", table::rows(header, columns.iter().map(profile_row))))
    })
}

fn profile_row(profile: &ColumnProfile) -> [String; 8] {
    let median = profile.quantiles.iter().find(|quantile| quantile.percent == 50);
    let top = profile.top.iter().take(TOP_VALUES);
    let top: Vec<String> = top.map(|top| format!("{} ({})", cell(Some(&top.value)), top.count)).collect();
    [
        profile.column.name.clone(),
        profile.column.data_type.to_string(),
        profile.nulls.to_string(),
        profile.distinct.map(|distinct| distinct.to_string()).unwrap_or_default(),
        cell(Some(&profile.min)),
        cell(Some(&profile.max)),
        median.map(|median| cell(Some(&median.value))).unwrap_or_default(),
        top.join(", "),
    ]
}
