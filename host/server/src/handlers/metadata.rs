//! Health and metadata of the Open Inference Protocol.

use std::sync::Arc;

use http::StatusCode;
use modelhost_core::{ErrorCode, ModelName, TensorDescription};
use modelhost_registry::Version;
use modelhost_serving::{ModelHost, Servable, VersionSelector};
use serde::Serialize;

use super::{model_name, version_selector};
use crate::error::ApiError;
use crate::reply::{Reply, json};
use crate::service::Call;

/// The optional parts of the protocol that work, each under the name that Triton gave it.
pub(crate) const EXTENSIONS: &[&str] = &[
    "binary_tensor_data",
    "classification",
    "generate",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
    "trace",
    "logging",
];

/// `<project>_<format>`, as the protocol wants it.
const PLATFORM: &str = "modelhost_component";

/// Of what is no component but a pipeline of versions; the protocol's clients know it by this name.
const ENSEMBLE_PLATFORM: &str = "ensemble";

/// What kind of model a version is, in the protocol's terms.
pub(crate) fn platform(version: &Version) -> &'static str {
    if version.ensemble.is_some() { ENSEMBLE_PLATFORM } else { PLATFORM }
}

#[derive(Serialize)]
struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    /// Optional parts of the protocol that are there.
    extensions: &'static [&'static str],
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
}

#[derive(Serialize)]
struct ModelReady<'a> {
    name: &'a str,
    ready: bool,
}

#[derive(Serialize)]
struct ModelMetadata<'a> {
    name: &'a str,
    versions: Vec<String>,
    platform: &'static str,
    inputs: &'a [TensorDescription],
    outputs: &'a [TensorDescription],
}

/// `GET /v2`.
pub(super) fn server() -> Reply {
    let metadata =
        ServerMetadata { name: "modelhost", version: env!("CARGO_PKG_VERSION"), extensions: EXTENSIONS };
    json(StatusCode::OK, &metadata)
}

/// `GET /v2/health/live`: whoever answers is alive.
pub(super) fn live() -> Reply {
    json(StatusCode::OK, &Live { live: true })
}

/// `GET /v2/health/ready`.
pub(super) fn ready(call: &Call<'_>) -> Reply {
    let ready = call.shared.host.is_ready();
    json(readiness_status(ready), &Ready { ready })
}

/// `GET /v2/models/{model}[/versions/{version}]/ready`: 503 where it exists and cannot answer.
pub(super) async fn model_ready(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let selector = version_selector(call)?;
    let servable = ready_servable(&call.shared.host, &model, &selector).await?;
    let ready = servable.is_some();
    call.record.version = servable.map(|servable| servable.version());
    let reply = json(readiness_status(ready), &ModelReady { name: model.as_str(), ready });
    call.record.model = Some(model);
    Ok(reply)
}

/// `GET /v2/models/{model}[/versions/{version}]`, from the records: nothing is loaded for it.
pub(super) async fn model(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = model_name(call)?;
    let selector = version_selector(call)?;
    let version = version_in_service(&call.shared.host, &name, &selector).await?;
    let metadata = ModelMetadata {
        name: name.as_str(),
        versions: version_numbers(&call.shared.host, &name).await?,
        platform: platform(&version),
        inputs: &version.signature.inputs,
        outputs: &version.signature.outputs,
    };
    let reply = json(StatusCode::OK, &metadata);
    call.record.version = Some(version.number);
    call.record.model = Some(name);
    Ok(reply)
}

/// The version that can answer; none where it exists and cannot.
///
/// # Errors
/// Unknown model, version or alias.
pub(crate) async fn ready_servable(
    host: &ModelHost,
    model: &ModelName,
    selector: &VersionSelector,
) -> Result<Option<Arc<Servable>>, ApiError> {
    match host.ready_servable(model, selector).await {
        Ok(servable) => Ok(Some(servable)),
        Err(error) if error.code == ErrorCode::Unavailable => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The record of a version whose model was not unloaded.
///
/// # Errors
/// Unknown model, version or alias; an unloaded model.
pub(crate) async fn version_in_service(
    host: &ModelHost,
    model: &ModelName,
    selector: &VersionSelector,
) -> Result<Version, ApiError> {
    host.check_loaded(model)?;
    Ok(host.version(model, selector).await?.0)
}

/// The versions of a model, as the protocol writes them.
///
/// # Errors
/// An unknown model.
pub(crate) async fn version_numbers(host: &ModelHost, model: &ModelName) -> Result<Vec<String>, ApiError> {
    let record = host.model(model).await?;
    Ok(record.versions.iter().map(|version| version.number.to_string()).collect())
}

fn readiness_status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
