//! `/v1/predictions`: tables of what was predicted before, and looking keys up in them.

use std::num::NonZeroU64;
use std::time::Duration;

use http::StatusCode;
use modelhost_batch::datasets::DatasetReference;
use modelhost_batch::tables::{
    Answer, Answers, Asked, LiveRequest, MAX_KEYS, Prediction, Table, TableSettings, TableVersion,
};
use modelhost_core::{TableKey, TableName, VersionNumber};
use modelhost_protocol::{Bounded, InferRequest, decode_json_request};
use modelhost_serving::RequestOptions;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::infer::{MAX_INLINE_BYTES, on_another_thread};
use super::{parse_json, read_body, read_change};
use crate::body::{BodyBudget, BodyLimits, Reservation, WholeBody};
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
struct LookupBody<'a> {
    keys: Bounded<TableKey, MAX_KEYS>,
    /// For the keys in the same places, what to ask the model where the table does not know them.
    #[serde(default, borrow)]
    requests: Bounded<Option<&'a RawValue>, MAX_KEYS>,
    #[serde(default)]
    parameters: LookupParameters,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LookupParameters {
    /// How long the client waits at most, in microseconds, as in an inference request.
    timeout: Option<NonZeroU64>,
}

/// What was asked for, decoded.
struct Lookup {
    asked: Vec<Asked>,
    timeout: Option<Duration>,
    /// Held until the answer is there, as for an inference request.
    _reservation: Reservation,
}

#[derive(Serialize)]
struct PredictionReply<'a> {
    table: &'a TableName,
    key: &'a TableKey,
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
    Found {
        key: &'a TableKey,
        #[serde(flatten)]
        prediction: &'a Prediction,
    },
    Failed {
        key: &'a TableKey,
        /// The status that the key alone would be answered with.
        code: u16,
        error: &'a str,
    },
}

impl<'a> From<&'a Answer> for Looked<'a> {
    fn from(Answer { key, outcome }: &'a Answer) -> Looked<'a> {
        match outcome {
            Ok(prediction) => Looked::Found { key, prediction },
            Err(error) => Looked::Failed { key, code: error.code.http_status(), error: &error.message },
        }
    }
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

/// `POST /v1/predictions/{table}/versions`: makes a version of a dataset the one that answers; 200 where it is already.
pub(super) async fn publish(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = table_name(call)?;
    let by = author(&call.parts.headers)?;
    let what = "a publication such as {\"dataset\": \"top-items@3\"}, which may be left out";
    let PublishBody { dataset } = read_change(call, what).await?;
    let (tables, table) = (call.shared.batch.tables().clone(), name.clone());
    let change = async move { tables.publish_reference(&table, dataset.as_ref(), by).await };
    let published = call.shared.run_to_end(change).await?;
    let status = if published.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &PublishReply { table: &name, version: &published.version }))
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
    let answers = tables.look_up(&name, vec![Asked { key, request: None }], None).await?;
    let answer = answers.iter().next().ok_or_else(|| ApiError::internal("one key has no answer"))?;
    let prediction = answer.outcome.as_ref().map_err(|error| ApiError::from(error.clone()))?;
    Ok(json(StatusCode::OK, &PredictionReply { table: &name, key: &answer.key, prediction }))
}

/// `POST /v1/predictions/{table}/lookup`: many keys, each answered on its own.
pub(super) async fn look_up(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = table_name(call)?;
    let Lookup { asked, timeout, _reservation } = read_lookup(call).await?;
    let answers = call.shared.batch.tables().look_up(&name, asked, timeout).await?;
    if answers.bytes() <= MAX_INLINE_BYTES {
        return Ok(lookup_reply(&name, &answers));
    }
    on_another_thread(move || Ok(lookup_reply(&name, &answers))).await
}

fn lookup_reply(table: &TableName, answers: &Answers) -> Reply {
    json(StatusCode::OK, &LookupReply { table, predictions: answers.iter().map(Looked::from).collect() })
}

async fn read_lookup(call: &mut Call<'_>) -> Result<Lookup, ApiError> {
    let limits = BodyLimits::new(call.shared.settings.max_body_bytes, &call.shared.settings);
    let budget = call.shared.budget.clone();
    let body = read_body(call, limits).await?;
    if body.bytes.len() <= MAX_INLINE_BYTES {
        return decode_lookup(body, &budget);
    }
    on_another_thread(move || decode_lookup(body, &budget)).await
}

fn decode_lookup(body: WholeBody, budget: &BodyBudget) -> Result<Lookup, ApiError> {
    let WholeBody { bytes, mut reservation } = body;
    let what = "a lookup such as {\"keys\": [\"ada\", \"bob\"]}";
    let LookupBody { keys: Bounded(keys), requests: Bounded(requests), parameters } =
        parse_json(&bytes, what)?;
    if !requests.is_empty() && requests.len() != keys.len() {
        return Err(ApiError::invalid(format!(
            "requests has {} entries for {} keys: expected one for each, null where there is none",
            requests.len(),
            keys.len()
        )));
    }
    let mut tensor_bytes = 0_usize;
    let mut asked = Vec::with_capacity(keys.len());
    let mut requests = requests.into_iter();
    for key in keys {
        let request = requests.next().flatten().map(|request| live_request(&key, request)).transpose()?;
        let inputs = request.iter().flat_map(|request| &request.inputs);
        tensor_bytes = inputs.fold(tensor_bytes, |sum, (_, tensor)| sum.saturating_add(tensor.data().len()));
        reservation.extend_to(tensor_bytes, budget)?;
        asked.push(Asked { key, request });
    }
    let timeout = parameters.timeout.map(|microseconds| Duration::from_micros(microseconds.get()));
    Ok(Lookup { asked, timeout, _reservation: reservation })
}

/// An inference request, of which the table's model is asked.
fn live_request(key: &TableKey, request: &RawValue) -> Result<LiveRequest, ApiError> {
    let decoded = decode_json_request(request.get().as_bytes());
    let InferRequest { parameters, timeout, priority, inputs, .. } =
        decoded.map_err(|error| ApiError::invalid(format!("the request for key {key}: {error}")))?;
    Ok(LiveRequest { inputs, parameters, options: RequestOptions { timeout, priority } })
}

fn table_name(call: &Call<'_>) -> Result<TableName, ApiError> {
    call.route.table().map_err(|error| ApiError::unknown_name(&error))
}
