//! Health and metadata of the Open Inference Protocol.

use http::StatusCode;
use modelhost_core::{ErrorCode, TensorDescription};
use modelhost_registry::Version;
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
    let ready = match call.shared.host.ready_servable(&model, &selector).await {
        Ok(servable) => {
            call.record.version = Some(servable.version());
            true
        }
        Err(error) if error.code == ErrorCode::Unavailable => false,
        Err(error) => return Err(error.into()),
    };
    let reply = json(readiness_status(ready), &ModelReady { name: model.as_str(), ready });
    call.record.model = Some(model);
    Ok(reply)
}

/// `GET /v2/models/{model}[/versions/{version}]`, from the records: nothing is loaded for it.
pub(super) async fn model(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = model_name(call)?;
    let selector = version_selector(call)?;
    call.shared.host.check_loaded(&name)?;
    let (version, _) = call.shared.host.version(&name, &selector).await?;
    let model = call.shared.host.model(&name).await?;
    let metadata = ModelMetadata {
        name: name.as_str(),
        versions: model.versions.iter().map(|version| version.number.to_string()).collect(),
        platform: platform(&version),
        inputs: &version.signature.inputs,
        outputs: &version.signature.outputs,
    };
    let reply = json(StatusCode::OK, &metadata);
    call.record.version = Some(version.number);
    call.record.model = Some(name);
    Ok(reply)
}

fn readiness_status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
