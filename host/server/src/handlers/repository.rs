//! `/v2/repository`: Triton's extension "model repository". Models come by upload, so loading here is about those that
//! are there; which version answers is what the deployment says.

use std::collections::BTreeMap;

use http::StatusCode;
use http::header::HeaderMap;
use modelhost_serving::{Authorship, VersionState};
use serde::Deserialize;
use serde_json::Value;

use super::{model_name, read_change, read_json};
use crate::error::{ApiError, shortened};
use crate::headers::author;
use crate::reply::{Reply, bytes, json};
use crate::service::Call;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexBody {
    #[serde(default)]
    ready: bool,
}

/// `POST /v2/repository/index`.
pub(super) async fn index(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let IndexBody { ready } = read_change(call, "what to list, such as {\"ready\": true}").await?;
    let mut index = call.shared.host.repository_index();
    index.retain(|entry| !ready || entry.state == VersionState::Ready);
    Ok(json(StatusCode::OK, &index))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
}

/// `POST /v2/repository/models/{model}/load`.
pub(super) async fn load(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    // Files come within the body: it is read as far as any, so that their client is told where they belong.
    let most = call.shared.settings.max_body_bytes;
    let ChangeBody { parameters } = read_json(call, "a request to load, such as {}", most).await?;
    if let Some(name) = parameters.keys().next() {
        return Err(refused_to_load(name));
    }
    let author = by(&call.parts.headers, "loaded")?;
    let (host, name) = (call.shared.host.clone(), model.clone());
    call.shared.run_to_end(async move { host.load(&name, author).await }).await?;
    call.record.model = Some(model);
    Ok(done())
}

/// `POST /v2/repository/models/{model}/unload`. No model depends on another, so there is nothing to unload with it.
pub(super) async fn unload(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let what = "a request to unload, such as {\"parameters\": {\"unload_dependents\": false}}";
    let ChangeBody { parameters } = read_change(call, what).await?;
    for (name, value) in &parameters {
        check_unload_parameter(name, value.is_boolean())?;
    }
    let author = by(&call.parts.headers, "unloaded")?;
    let (host, name) = (call.shared.host.clone(), model.clone());
    call.shared.run_to_end(async move { host.unload(&name, author).await }).await?;
    call.record.model = Some(model);
    Ok(done())
}

/// Whether a model may be unloaded with this parameter.
pub(crate) fn check_unload_parameter(name: &str, is_boolean: bool) -> Result<(), ApiError> {
    match (name, is_boolean) {
        ("unload_dependents", true) => Ok(()),
        ("unload_dependents", false) => {
            Err(ApiError::invalid("parameter \"unload_dependents\" must be true or false"))
        }
        _ => Err(unknown_parameter(name, "unload_dependents")),
    }
}

fn by(headers: &HeaderMap, comment: &str) -> Result<Authorship, ApiError> {
    Ok(Authorship { by: author(headers)?, comment: Some(comment.to_owned()) })
}

pub(crate) fn refused_to_load(name: &str) -> ApiError {
    if name == "config" {
        return ApiError::invalid(
            "a model cannot be loaded with another configuration: PUT /v1/models/{model}/configuration changes it",
        );
    }
    if name.starts_with("file:") {
        return ApiError::invalid(
            "a model cannot be loaded from files in the request: POST /v1/models/{model}/versions uploads a version",
        );
    }
    unknown_parameter(name, "none")
}

fn unknown_parameter(name: &str, expected: &str) -> ApiError {
    let name = shortened(name);
    ApiError::invalid(format!("parameter {name:?} is not known: expected {expected}"))
}

/// An empty body, as Triton answers.
fn done() -> Reply {
    bytes(StatusCode::OK, http::HeaderValue::from_static("application/json"), "")
}
