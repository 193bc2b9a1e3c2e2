//! `/v1/predictions`: tables of what was predicted before, and looking keys up in them.

use http::StatusCode;
use modelhost_batch::datasets::DatasetReference;
use modelhost_batch::tables::{Asked, LiveRequest, MAX_KEYS, Prediction, Table, TableSettings, TableVersion};
use modelhost_core::{TableKey, TableName, VersionNumber};
use modelhost_protocol::{InferRequest, decode_request};
use modelhost_serving::RequestOptions;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{read_change, read_json};
use crate::error::ApiError;
use crate::headers::{author, expected_generation};
use crate::reply::{Reply, json, no_content, with_generation};
use crate::service::Call;

#[derive(Serialize)]
struct Listing {
    predictions: Vec<Table>,
}

/// What to publish: by default the latest version of the table's own dataset.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishBody {
    dataset: Option<DatasetReference>,
}

#[derive(Serialize)]
struct PublishReply<'a> {
    table: &'a TableName,
    #[serde(flatten)]
    version: &'a TableVersion,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    version: Option<VersionNumber>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupBody {
    keys: Vec<TableKey>,
    /// For the keys in the same places, what to ask the model where the table does not know them.
    #[serde(default)]
    requests: Vec<Option<Box<RawValue>>>,
}

#[derive(Serialize)]
struct PredictionReply<'a> {
    table: &'a TableName,
    #[serde(flatten)]
    prediction: &'a Prediction,
}

#[derive(Serialize)]
struct LookupReply<'a> {
    table: &'a TableName,
    predictions: Vec<Looked<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Looked<'a> {
    Found(&'a Prediction),
    Missing { key: &'a TableKey, error: &'a str },
}

/// `GET /v1/predictions`.
pub(super) fn list(call: &Call<'_>) -> Reply {
    json(StatusCode::OK, &Listing { predictions: call.shared.batch.tables().list() })
}

/// `GET /v1/predictions/{table}`, with the entity tag that changes are made with.
pub(super) fn table(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (table, generation) = call.shared.batch.tables().get(&table_name(call)?)?;
    Ok(with_generation(json(StatusCode::OK, &table), generation))
}

/// `PUT /v1/predictions/{table}`: makes it, or replaces what is said of it.
pub(super) async fn put(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = call.route.table().map_err(|error| ApiError::invalid(error.to_string()))?;
    let expected = expected_generation(&call.parts.headers)?;
    let what = "a table such as {\"key\": \"user\", \"dataset\": \"top-items\", \"max_age_seconds\": 86400}";
    let settings: TableSettings = read_change(call, what).await?;
    let tables = call.shared.batch.tables().clone();
    let change = async move { tables.put(&name, settings, expected).await };
    let (table, generation, is_new) = call.shared.run_to_end(change).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(with_generation(json(status, &table), generation))
}

/// `DELETE /v1/predictions/{table}`.
pub(super) async fn delete(call: &Call<'_>) -> Result<Reply, ApiError> {
    let name = table_name(call)?;
    let expected = expected_generation(&call.parts.headers)?;
    let tables = call.shared.batch.tables().clone();
    call.shared.run_to_end(async move { tables.delete(&name, expected).await }).await?;
    Ok(no_content())
}

/// `POST /v1/predictions/{table}/versions`: makes a version of a dataset the one that answers.
pub(super) async fn publish(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = table_name(call)?;
    let by = author(&call.parts.headers)?;
    let what = "a publication such as {\"dataset\": \"top-items@3\"}, which may be left out";
    let PublishBody { dataset } = read_change(call, what).await?;
    let (tables, table) = (call.shared.batch.tables().clone(), name.clone());
    let change = async move { tables.publish_reference(&table, dataset.as_ref(), by).await };
    let version = call.shared.run_to_end(change).await?;
    Ok(json(StatusCode::CREATED, &PublishReply { table: &name, version: &version }))
}

/// `POST /v1/predictions/{table}/rollback`.
pub(super) async fn rollback(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = table_name(call)?;
    let expected = expected_generation(&call.parts.headers)?;
    let RollbackBody { version } =
        read_change(call, "a rollback such as {\"version\": 2}, which may be left out").await?;
    let tables = call.shared.batch.tables().clone();
    let change = async move { tables.roll_back(&name, version, expected).await };
    let (table, generation) = call.shared.run_to_end(change).await?;
    Ok(with_generation(json(StatusCode::OK, &table), generation))
}

/// `GET /v1/predictions/{table}/{key}`.
pub(super) async fn prediction(call: &Call<'_>) -> Result<Reply, ApiError> {
    let name = table_name(call)?;
    let tables = call.shared.batch.tables();
    let key = tables.key_of_text(&name, call.route.item())?;
    let answers = tables.look_up(&name, vec![Asked { key, request: None }]).await?;
    let answer = answers.into_iter().next();
    let prediction = answer.ok_or_else(|| ApiError::internal("one key has no answer"))??;
    Ok(json(StatusCode::OK, &PredictionReply { table: &name, prediction: &prediction }))
}

/// `POST /v1/predictions/{table}/lookup`: many keys, each answered on its own.
pub(super) async fn look_up(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = table_name(call)?;
    let what = "a lookup such as {\"keys\": [\"ada\", \"bob\"]}";
    let most_bytes = call.shared.settings.max_body_bytes;
    let LookupBody { keys, requests } = read_json(call, what, most_bytes).await?;
    let asked = asked(&keys, requests)?;
    let answers = call.shared.batch.tables().look_up(&name, asked).await?;
    let looked = keys.iter().zip(&answers).map(|(key, answer)| match answer {
        Ok(prediction) => Looked::Found(prediction),
        Err(error) => Looked::Missing { key, error: &error.message },
    });
    Ok(json(StatusCode::OK, &LookupReply { table: &name, predictions: looked.collect() }))
}

fn asked(keys: &[TableKey], requests: Vec<Option<Box<RawValue>>>) -> Result<Vec<Asked>, ApiError> {
    if keys.len() > MAX_KEYS {
        let message = format!("{} keys were looked up at once: at most {MAX_KEYS} are allowed", keys.len());
        return Err(ApiError::invalid(message));
    }
    if !requests.is_empty() && requests.len() != keys.len() {
        return Err(ApiError::invalid(format!(
            "requests has {} entries for {} keys: expected one for each, null where there is none",
            requests.len(),
            keys.len()
        )));
    }
    let requests = requests.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
    let one = |(key, request): (&TableKey, Option<Option<Box<RawValue>>>)| {
        let request = request.flatten().map(|request| live_request(key, &request)).transpose()?;
        Ok(Asked { key: key.clone(), request })
    };
    keys.iter().zip(requests).map(one).collect()
}

/// An inference request, of which the table's model is asked.
fn live_request(key: &TableKey, request: &RawValue) -> Result<LiveRequest, ApiError> {
    let decoded = decode_request(request.get().as_bytes());
    let InferRequest { parameters, timeout, priority, inputs, .. } =
        decoded.map_err(|error| ApiError::invalid(format!("the request for key {key}: {error}")))?;
    Ok(LiveRequest { inputs, parameters, options: RequestOptions { timeout, priority } })
}

fn table_name(call: &Call<'_>) -> Result<TableName, ApiError> {
    call.route.table().map_err(|error| ApiError::unknown_name(&error))
}
