//! `/v1/datasets`: what datasets there are and what is in them, and deleting a version.

use http::StatusCode;
use modelhost_batch::datasets::{DatasetReference, DatasetSchema, DatasetVersion, MAX_PREVIEW_ROWS};
use modelhost_core::{DatasetName, VersionNumber};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::reply::{Reply, json, no_content};
use crate::service::Call;

/// Rows of a preview that does not say how many.
const DEFAULT_PREVIEW_ROWS: usize = 10;

#[derive(Serialize)]
struct Listing {
    datasets: Vec<Summary>,
}

/// A dataset in the list of all: its latest version, and the numbers of all.
#[derive(Serialize)]
struct Summary {
    name: DatasetName,
    versions: Vec<VersionNumber>,
    latest: DatasetVersion,
}

#[derive(Serialize)]
struct Preview<'a> {
    dataset: DatasetReference,
    columns: &'a DatasetSchema,
    rows: Box<RawValue>,
}

#[derive(Serialize)]
struct Versions {
    versions: Vec<DatasetVersion>,
}

/// `GET /v1/datasets`.
pub(super) async fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let datasets = call.shared.batch.datasets().clone();
    let all = call.shared.batch.work().block(move || datasets.all()).await?;
    let datasets = all.into_iter().filter_map(|(name, versions)| summary(name, versions)).collect();
    Ok(json(StatusCode::OK, &Listing { datasets }))
}

/// `GET /v1/datasets/{dataset}`: as in the list.
pub(super) async fn dataset(call: &Call<'_>) -> Result<Reply, ApiError> {
    let name = dataset_name(call)?;
    let summary = summary(name.clone(), all_versions(call, &name).await?);
    // A dataset without a version is one that does not exist.
    let summary = summary.ok_or_else(|| ApiError::not_found(format!("dataset \"{name}\" does not exist")))?;
    Ok(json(StatusCode::OK, &summary))
}

/// `GET /v1/datasets/{dataset}/versions`.
pub(super) async fn versions(call: &Call<'_>) -> Result<Reply, ApiError> {
    let name = dataset_name(call)?;
    Ok(json(StatusCode::OK, &Versions { versions: all_versions(call, &name).await? }))
}

/// `GET /v1/datasets/{dataset}/versions/{version}`, where the version is a number or `latest`.
pub(super) async fn version(call: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(json(StatusCode::OK, &resolved(call).await?))
}

/// `DELETE /v1/datasets/{dataset}/versions/{version}`, by number.
pub(super) async fn delete(call: &Call<'_>) -> Result<Reply, ApiError> {
    let DatasetReference { name, version } = reference(call)?;
    let number = version.ok_or_else(|| {
        ApiError::invalid("a version of a dataset is deleted by its number, not as the latest")
    })?;
    let datasets = call.shared.batch.datasets().clone();
    call.shared.run_to_end(async move { datasets.delete(name, number).await }).await?;
    Ok(no_content())
}

/// `GET /v1/datasets/{dataset}/versions/{version}/preview[?rows=10]`: the first rows.
pub(super) async fn preview(call: &Call<'_>) -> Result<Reply, ApiError> {
    let rows = preview_rows(call.parts.uri.query().unwrap_or_default())?;
    let version = resolved(call).await?;
    let rows = call.shared.batch.datasets().preview(&version, rows).await?;
    Ok(json(StatusCode::OK, &Preview { dataset: version.reference(), columns: &version.schema, rows }))
}

/// `GET /v1/datasets/{dataset}/versions/{version}/profile`: what the values of the columns are like.
pub(super) async fn profile(call: &Call<'_>) -> Result<Reply, ApiError> {
    let version = resolved(call).await?;
    Ok(json(StatusCode::OK, &call.shared.batch.datasets().profile(&version).await?))
}

fn preview_rows(query: &str) -> Result<usize, ApiError> {
    let mut rows = DEFAULT_PREVIEW_ROWS;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number = value.parse().ok().filter(|rows| (1..=MAX_PREVIEW_ROWS).contains(rows));
        match (name.as_ref(), number) {
            ("rows", Some(number)) => rows = number,
            _ => {
                return Err(ApiError::invalid(format!(
                    "the query of a preview takes rows=N, with N from 1 to {MAX_PREVIEW_ROWS}"
                )));
            }
        }
    }
    Ok(rows)
}

fn summary(name: DatasetName, mut versions: Vec<DatasetVersion>) -> Option<Summary> {
    let numbers = versions.iter().map(|version| version.number).collect();
    Some(Summary { name, versions: numbers, latest: versions.pop()? })
}

async fn all_versions(call: &Call<'_>, name: &DatasetName) -> Result<Vec<DatasetVersion>, ApiError> {
    let (datasets, name) = (call.shared.batch.datasets().clone(), name.clone());
    Ok(call.shared.batch.work().block(move || datasets.versions(&name)).await?)
}

/// The version in the path.
async fn resolved(call: &Call<'_>) -> Result<DatasetVersion, ApiError> {
    let (datasets, reference) = (call.shared.batch.datasets().clone(), reference(call)?);
    Ok(call.shared.batch.work().block(move || datasets.resolve(&reference)).await?)
}

fn dataset_name(call: &Call<'_>) -> Result<DatasetName, ApiError> {
    call.route.dataset().map_err(|error| ApiError::unknown_name(&error))
}

fn reference(call: &Call<'_>) -> Result<DatasetReference, ApiError> {
    DatasetReference::with_version(dataset_name(call)?, call.route.item())
        .map_err(|error| ApiError::not_found(error.to_string()))
}
