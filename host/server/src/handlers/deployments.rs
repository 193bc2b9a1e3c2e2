//! `/v1/models/{model}/deployment`, `…/rollback` and `…/aliases`: which versions answer, and under what names.

use http::StatusCode;
use modelhost_core::{AliasName, VersionNumber};
use modelhost_registry::{Revision, TrafficShare};
use modelhost_serving::Authorship;
use serde::{Deserialize, Serialize};

use super::{model_name, read_change};
use crate::error::ApiError;
use crate::headers::{author, expected_generation};
use crate::reply::{Reply, json, no_content, with_generation};
use crate::service::Call;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeploymentBody {
    traffic: Vec<TrafficShare>,
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    revision: Option<u64>,
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasBody {
    version: VersionNumber,
}

#[derive(Serialize)]
struct AliasReply<'a> {
    alias: &'a AliasName,
    version: VersionNumber,
}

/// `GET /v1/models/{model}/deployment`: the newest revision.
pub(super) async fn deployment(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = model_name(call)?;
    let model = call.shared.host.model(&name).await?;
    let reply = match &model.deployment {
        Some(revision) => json(StatusCode::OK, revision),
        None => return Err(ApiError::not_found(format!("no version of model \"{name}\" was deployed yet"))),
    };
    call.record.model = Some(name);
    Ok(with_generation(reply, model.generation))
}

/// `PUT /v1/models/{model}/deployment`.
pub(super) async fn deploy(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let expected = expected_generation(&call.parts.headers)?;
    let by = author(&call.parts.headers)?;
    let what =
        "a deployment such as {\"traffic\": [{\"version\": 3, \"percent\": 100}], \"comment\": \"why\"}";
    let DeploymentBody { traffic, comment } = read_change(call, what).await?;
    let (host, name) = (call.shared.host.clone(), model.clone());
    let change = async move { host.deploy(&name, traffic, Authorship { by, comment }, expected).await };
    let changed = call.shared.run_to_end(change).await?;
    call.record.model = Some(model);
    Ok(revision_reply(changed))
}

/// `POST /v1/models/{model}/rollback`.
pub(super) async fn rollback(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let expected = expected_generation(&call.parts.headers)?;
    let by = author(&call.parts.headers)?;
    let what = "a rollback such as {\"revision\": 2, \"comment\": \"why\"}, both optional";
    let RollbackBody { revision, comment } = read_change(call, what).await?;
    let (host, name) = (call.shared.host.clone(), model.clone());
    let change = async move { host.rollback(&name, revision, Authorship { by, comment }, expected).await };
    let changed = call.shared.run_to_end(change).await?;
    call.record.model = Some(model);
    Ok(revision_reply(changed))
}

/// `PUT /v1/models/{model}/aliases/{alias}`.
pub(super) async fn set_alias(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let alias = call.route.alias().map_err(|error| ApiError::invalid(error.to_string()))?;
    let expected = expected_generation(&call.parts.headers)?;
    let AliasBody { version } = read_change(call, "an alias such as {\"version\": 3}").await?;
    let (host, name, moved) = (call.shared.host.clone(), model.clone(), alias.clone());
    let change = async move { host.set_alias(&name, moved, version, expected).await };
    let generation = call.shared.run_to_end(change).await?;
    call.record.model = Some(model);
    call.record.version = Some(version);
    Ok(with_generation(json(StatusCode::OK, &AliasReply { alias: &alias, version }), generation))
}

/// `DELETE /v1/models/{model}/aliases/{alias}`.
pub(super) async fn delete_alias(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let alias = call.route.alias().map_err(|error| ApiError::unknown_name(&error))?;
    let expected = expected_generation(&call.parts.headers)?;
    let (host, name) = (call.shared.host.clone(), model.clone());
    let change = async move { host.delete_alias(&name, &alias, expected).await };
    let generation = call.shared.run_to_end(change).await?;
    call.record.model = Some(model);
    Ok(with_generation(no_content(), generation))
}

fn revision_reply((revision, generation): (Revision, u64)) -> Reply {
    with_generation(json(StatusCode::OK, &revision), generation)
}
