//! `/v1/models`: what exists, and deleting a version.

use std::sync::Arc;

use http::StatusCode;
use modelhost_core::{ModelName, VersionNumber};
use modelhost_registry::{Model, Revision, Version};
use modelhost_serving::VersionSelector;
use serde::Serialize;

use super::{model_name, version_selector};
use crate::error::ApiError;
use crate::headers::expected_generation;
use crate::reply::{Reply, json, no_content, with_generation};
use crate::service::Call;

#[derive(Serialize)]
struct Models {
    models: Vec<Model>,
    /// The same list as clients of OpenAI's API read it.
    object: &'static str,
    data: Vec<OpenAiModel>,
}

/// A model as clients of OpenAI's API read it.
#[derive(Serialize)]
struct OpenAiModel {
    id: ModelName,
    object: &'static str,
    /// Seconds since 1970.
    created: i64,
    owned_by: &'static str,
}

impl OpenAiModel {
    fn of(model: &Model) -> OpenAiModel {
        let created = model.versions.first().map_or(0, |version| version.created.as_second());
        OpenAiModel { id: model.name.clone(), object: "model", created, owned_by: "modelhost" }
    }
}

#[derive(Serialize)]
struct ModelReply<'a> {
    #[serde(flatten)]
    model: &'a Model,
    #[serde(flatten)]
    openai: OpenAiModel,
}

#[derive(Serialize)]
struct Versions<'a> {
    versions: &'a [Version],
}

#[derive(Serialize)]
struct Revisions {
    revisions: Vec<Revision>,
}

/// A version by itself says which model it belongs to.
#[derive(Serialize)]
pub(super) struct VersionReply<'a> {
    pub(super) model: &'a ModelName,
    #[serde(flatten)]
    pub(super) version: &'a Version,
}

/// `GET /v1/models`.
pub(super) async fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let models = call.shared.host.models().await?;
    let data = models.iter().map(OpenAiModel::of).collect();
    Ok(json(StatusCode::OK, &Models { models, object: "list", data }))
}

/// `GET /v1/models/{model}`, with the entity tag that changes are made with.
pub(super) async fn model(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = existing_model(call).await?;
    let reply = ModelReply { model: &model, openai: OpenAiModel::of(&model) };
    Ok(with_generation(json(StatusCode::OK, &reply), model.generation))
}

/// `GET /v1/models/{model}/versions`.
pub(super) async fn versions(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = existing_model(call).await?;
    Ok(with_generation(json(StatusCode::OK, &Versions { versions: &model.versions }), model.generation))
}

/// `GET /v1/models/{model}/versions/{version}`.
pub(super) async fn version(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let selector = version_selector(call)?;
    let (version, generation) = call.shared.host.version(&model, &selector).await?;
    let reply = json(StatusCode::OK, &VersionReply { model: &model, version: &version });
    call.record.version = Some(version.number);
    call.record.model = Some(model);
    Ok(with_generation(reply, generation))
}

/// `GET /v1/models/{model}/revisions`.
pub(super) async fn revisions(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let revisions = call.shared.host.revisions(&model).await?;
    call.record.model = Some(model);
    Ok(json(StatusCode::OK, &Revisions { revisions }))
}

/// `DELETE /v1/models/{model}/versions/{version}`.
pub(super) async fn delete_version(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let number = version_number(call)?;
    let expected = expected_generation(&call.parts.headers)?;
    let host = call.shared.host.clone();
    let name = model.clone();
    let change = async move { host.delete_version(&name, number, expected).await };
    let generation = call.shared.run_to_end(change).await?;
    call.record.version = Some(number);
    call.record.model = Some(model);
    Ok(with_generation(no_content(), generation))
}

/// Deleting what an alias points at would be a surprise: aliases move.
fn version_number(call: &Call<'_>) -> Result<VersionNumber, ApiError> {
    match version_selector(call)? {
        VersionSelector::Number(number) => Ok(number),
        _ => Err(ApiError::invalid("a version is deleted by its number, not by an alias")),
    }
}

async fn existing_model(call: &mut Call<'_>) -> Result<Arc<Model>, ApiError> {
    let name = model_name(call)?;
    let model = call.shared.host.model(&name).await?;
    call.record.model = Some(name);
    Ok(model)
}
