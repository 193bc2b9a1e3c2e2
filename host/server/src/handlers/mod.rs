//! One module per family of endpoints. Each handler takes a call apart, asks `serving`, and builds a reply.

mod configuration;
mod dataset_upload;
mod datasets;
mod deployments;
mod generate;
pub(crate) mod infer;
mod jobs;
mod logging;
mod metadata;
mod model_config;
mod models;
mod observe;
mod openai;
mod predictions;
mod repository;
mod schedules;
mod statistics;
mod trace;
mod upload;

pub(crate) use infer::{MAX_INLINE_BYTES, on_another_thread};
pub(crate) use metadata::{EXTENSIONS, platform, ready_servable, version_in_service, version_numbers};
pub(crate) use model_config::{ModelConfig, model_config};
pub(crate) use repository::{check_unload_parameter, refused_to_load};

use http::Method;
use modelhost_core::{ErrorCode, ModelName};
use modelhost_protocol::Object;
use modelhost_serving::VersionSelector;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::body::{BodyLimits, Reservation, WholeBody};
use crate::compression::{Coding, decompress};
use crate::error::ApiError;
use crate::reply::Reply;
use crate::routes::Endpoint;
use crate::service::Call;

/// Bytes of the JSON body of a change.
const MAX_CHANGE_BYTES: u64 = 64 << 10;

/// Bytes of the body of a request for text.
const MAX_TEXT_REQUEST_BYTES: u64 = 4 << 20;

/// Calls the handler of the endpoint. The method is one that the endpoint answers.
pub(crate) async fn handle(mut call: Call<'_>) -> Result<Reply, ApiError> {
    let call = &mut call;
    match (call.route.endpoint, &call.parts.method) {
        (Endpoint::Infer, _) => infer::infer(call).await,
        (Endpoint::Generate, _) => generate::generate(call).await,
        (Endpoint::GenerateStream, _) => generate::generate_stream(call).await,
        (Endpoint::Completions, _) => openai::completions(call).await,
        (Endpoint::ChatCompletions, _) => openai::chat(call).await,
        (Endpoint::Embeddings, _) => openai::embeddings(call).await,
        (Endpoint::Index, _) => Ok(observe::index()),
        (Endpoint::Metrics, _) => Ok(observe::metrics(call)),
        (Endpoint::Engines, _) => Ok(observe::engines(call)),
        (Endpoint::ServerMetadata, _) => Ok(metadata::server()),
        (Endpoint::ServerLive, _) => Ok(metadata::live()),
        (Endpoint::ServerReady, _) => Ok(metadata::ready(call)),
        (Endpoint::ModelMetadata, _) => metadata::model(call).await,
        (Endpoint::ModelReady, _) => metadata::model_ready(call).await,
        (Endpoint::Models, _) => models::list(call).await,
        (Endpoint::Model, _) => models::model(call).await,
        (Endpoint::Versions, &Method::POST) => upload::upload(call).await,
        (Endpoint::Versions, _) => models::versions(call).await,
        (Endpoint::Version, &Method::DELETE) => models::delete_version(call).await,
        (Endpoint::Version, _) => models::version(call).await,
        (Endpoint::Revisions, _) => models::revisions(call).await,
        (Endpoint::Deployment, &Method::PUT) => deployments::deploy(call).await,
        (Endpoint::Deployment, _) => deployments::deployment(call).await,
        (Endpoint::Rollback, _) => deployments::rollback(call).await,
        (Endpoint::Alias, &Method::DELETE) => deployments::delete_alias(call).await,
        (Endpoint::Alias, _) => deployments::set_alias(call).await,
        (Endpoint::Configuration, &Method::PUT) => configuration::configure(call).await,
        (Endpoint::Configuration, _) => configuration::configuration(call).await,
        (Endpoint::Statistics, _) => statistics::statistics(call).await,
        (Endpoint::ModelConfig, _) => model_config::config(call).await,
        (Endpoint::RepositoryIndex, _) => repository::index(call).await,
        (Endpoint::RepositoryLoad, _) => repository::load(call).await,
        (Endpoint::RepositoryUnload, _) => repository::unload(call).await,
        (Endpoint::TraceSetting, &Method::POST) => trace::change(call).await,
        (Endpoint::TraceSetting, _) => trace::settings(call),
        (Endpoint::Logging, &Method::POST) => logging::change(call).await,
        (Endpoint::Logging, _) => Ok(logging::settings(call)),
        (Endpoint::Datasets, _) => datasets::list(call).await,
        (Endpoint::Dataset, _) => datasets::dataset(call).await,
        (Endpoint::DatasetVersions, &Method::PUT) => dataset_upload::upload(call).await,
        (Endpoint::DatasetVersions, _) => datasets::versions(call).await,
        (Endpoint::DatasetVersion, &Method::DELETE) => datasets::delete(call).await,
        (Endpoint::DatasetVersion, _) => datasets::version(call).await,
        (Endpoint::DatasetPreview, _) => datasets::preview(call).await,
        (Endpoint::DatasetProfile, _) => datasets::profile(call).await,
        (Endpoint::Jobs, &Method::POST) => jobs::create(call).await,
        (Endpoint::Jobs, _) => jobs::list(call).await,
        (Endpoint::Job, &Method::DELETE) => jobs::delete(call).await,
        (Endpoint::Job, _) => jobs::job(call).await,
        (Endpoint::JobPause, _) => jobs::pause(call).await,
        (Endpoint::JobResume, _) => jobs::resume(call).await,
        (Endpoint::JobCancel, _) => jobs::cancel(call).await,
        (Endpoint::JobRetry, _) => jobs::retry(call).await,
        (Endpoint::JobErrors, _) => jobs::errors(call).await,
        (Endpoint::JobEvents, _) => jobs::events(call).await,
        (Endpoint::Schedules, _) => schedules::list(call).await,
        (Endpoint::Schedule, &Method::PUT) => schedules::put(call).await,
        (Endpoint::Schedule, &Method::DELETE) => schedules::delete(call).await,
        (Endpoint::Schedule, _) => schedules::schedule(call).await,
        (Endpoint::ScheduleRuns, _) => schedules::runs(call).await,
        (Endpoint::SchedulePause, _) => schedules::pause(call).await,
        (Endpoint::ScheduleResume, _) => schedules::resume(call).await,
        (Endpoint::ScheduleRun, _) => schedules::run(call).await,
        (Endpoint::PredictionTables, _) => Ok(predictions::list(call)),
        (Endpoint::PredictionTable, &Method::PUT) => predictions::put(call).await,
        (Endpoint::PredictionTable, &Method::DELETE) => predictions::delete(call).await,
        (Endpoint::PredictionTable, _) => predictions::table(call),
        (Endpoint::PredictionVersions, &Method::POST) => predictions::publish(call).await,
        (Endpoint::PredictionRollback, &Method::POST) => predictions::rollback(call).await,
        (Endpoint::PredictionLookup, &Method::POST) => predictions::look_up(call).await,
        // A key may have the name of what is posted to.
        (
            Endpoint::Prediction
            | Endpoint::PredictionVersions
            | Endpoint::PredictionRollback
            | Endpoint::PredictionLookup,
            _,
        ) => predictions::prediction(call).await,
        (Endpoint::Grpc | Endpoint::Unknown, _) => Err(ApiError::not_found("nothing has this address")),
    }
}

/// The model in the path; a name that no model can have is one that does not exist.
fn model_name(call: &Call<'_>) -> Result<ModelName, ApiError> {
    call.route.model().map_err(|error| ApiError::unknown_name(&error))
}

/// The version in the path; likewise.
fn version_selector(call: &Call<'_>) -> Result<VersionSelector, ApiError> {
    call.route.version().map_err(|error| ApiError::unknown_name(&error))
}

/// A body as it was before its client compressed it.
async fn read_body(call: &mut Call<'_>, limits: BodyLimits) -> Result<WholeBody, ApiError> {
    let coding = Coding::of_request(&call.parts.headers)?;
    let body = call.body.read(limits, &call.shared.budget).await?;
    decompress(coding, body, limits.bytes, &call.shared.budget).await
}

/// The body of a change. An empty body is `{}`.
async fn read_change<T: DeserializeOwned>(call: &mut Call<'_>, what: &str) -> Result<T, ApiError> {
    read_json(call, what, MAX_CHANGE_BYTES).await
}

/// The same with another limit.
async fn read_json<T: DeserializeOwned>(
    call: &mut Call<'_>,
    what: &str,
    max_bytes: u64,
) -> Result<T, ApiError> {
    let limits = BodyLimits::new(max_bytes, &call.shared.settings);
    let body = read_body(call, limits).await?;
    parse_json(&body.bytes, what)
}

/// The fields of a request whose inputs are texts and single values. Larger tensors have another address.
async fn read_text_request(
    call: &mut Call<'_>,
    expected: &str,
) -> Result<(Map<String, Value>, Reservation), ApiError> {
    let most = call.shared.settings.max_body_bytes.min(MAX_TEXT_REQUEST_BYTES);
    let limits = BodyLimits::new(most, &call.shared.settings);
    let WholeBody { bytes, mut reservation } = read_body(call, limits).await?;
    // What is parsed takes some times as much as its text.
    reservation.extend_to(bytes.len().saturating_mul(8), &call.shared.budget)?;
    if bytes.len() <= MAX_INLINE_BYTES {
        return Ok((parse_json(&bytes, expected)?, reservation));
    }
    let expected = expected.to_owned();
    let fields = on_another_thread(move || parse_json(&bytes, &expected)).await?;
    Ok((fields, reservation))
}

/// What a body says. An empty one is `{}`.
fn parse_json<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, ApiError> {
    let json = if body.is_empty() { b"{}" } else { body };
    let refused = |reason: &dyn std::fmt::Display| {
        ApiError::new(ErrorCode::InvalidArgument, format!("the body is not {what}: {reason}"))
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    // With the field that a wrong value stands in, which the parser alone does not tell.
    let parsed: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut deserializer);
    let Object(change) = parsed.map_err(|error| refused(&error))?;
    deserializer.end().map_err(|error| refused(&error))?;
    Ok(change)
}
