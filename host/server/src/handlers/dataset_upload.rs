//! `PUT /v1/datasets/{dataset}/versions`: files as a form, one file as it is, or the addresses of objects. Bytes are
//! handed on as they come.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode};
use modelhost_batch::datasets::{
    DataFormat, DatasetCard, DatasetReference, Intake, IntakeOptions, Published,
};
use modelhost_core::{DatasetName, ErrorCode};
use multer::{Field, Multipart};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use super::read_json;
use crate::body::RequestBody;
use crate::error::ApiError;
use crate::headers::author;
use crate::reply::{Reply, json};
use crate::service::Call;

/// Bytes of a part of a form that is no file.
const MAX_TEXT_BYTES: usize = 256 << 10;
/// Bytes of a form that may come without a part making progress: the longest head of a part.
const MAX_HEAD_BYTES: u64 = 1 << 20;
/// Bytes of a body that names objects, of which there may be thousands.
const MAX_REGISTRATION_BYTES: u64 = 4 << 20;
const FORM: &str = "multipart/form-data";

/// Objects that stay where they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    urls: Vec<String>,
    format: Option<DataFormat>,
    #[serde(default)]
    card: DatasetCard,
    #[serde(default)]
    types: BTreeMap<String, String>,
}

/// Takes a version. Where it breaks off, everything received is removed; once it is complete it runs to its end, even if
/// the client does not wait for it.
pub(super) async fn upload(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = call.route.dataset().map_err(|error| ApiError::invalid(error.to_string()))?;
    let by = author(&call.parts.headers)?;
    let content_type = call.parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let published = match essence.as_str() {
        FORM => receive_form(call, name, by, &content_type).await?,
        "application/json" => register(call, name, by).await?,
        media_type => receive_file(call, name, by, media_type).await?,
    };
    Ok(reply(&published))
}

async fn register(call: &mut Call<'_>, name: DatasetName, by: Option<String>) -> Result<Published, ApiError> {
    let what = "a registration such as {\"urls\": [\"s3://bucket/file.parquet\"], \"card\": {}}";
    let Registration { urls, format, card, types } = read_json(call, what, MAX_REGISTRATION_BYTES).await?;
    let urls = urls.iter().map(|text| parsed_url(text)).collect::<Result<Vec<_>, _>>()?;
    let options = IntakeOptions { by, card, format, types };
    let datasets = call.shared.batch.datasets().clone();
    call.shared.run_to_end(async move { datasets.register(name, urls, options).await }).await
}

fn parsed_url(text: &str) -> Result<Url, ApiError> {
    text.parse().map_err(|error| {
        let shown: String = text.chars().take(200).collect();
        ApiError::invalid(format!("{shown:?} is no URL: {error}"))
    })
}

/// A body that is one file.
async fn receive_file(
    call: &mut Call<'_>,
    name: DatasetName,
    by: Option<String>,
    media_type: &str,
) -> Result<Published, ApiError> {
    let Some(format) = DataFormat::of_media_type(media_type) else {
        return Err(ApiError::invalid(format!(
            "the body is of type {media_type:?}: expected {FORM} with files, application/json with urls, \
             application/vnd.apache.parquet, text/csv or application/jsonl"
        )));
    };
    let mut intake = call.shared.batch.datasets().begin_upload(call.body.declared())?;
    intake.begin_file(&format!("{name}.{}", format.extension()), None).await?;
    let idle = call.shared.settings.body_idle_timeout();
    while let Some(chunk) = call.body.chunk(|| Instant::now() + idle).await? {
        intake.write(chunk).await?;
    }
    finish(call, intake, name, IntakeOptions { by, ..IntakeOptions::default() }).await
}

async fn receive_form(
    call: &mut Call<'_>,
    name: DatasetName,
    by: Option<String>,
    content_type: &str,
) -> Result<Published, ApiError> {
    let boundary = multer::parse_boundary(content_type).map_err(|error| wrong_form(&error))?;
    let mut intake = call.shared.batch.datasets().begin_upload(call.body.declared())?;
    let mut options = IntakeOptions { by, ..IntakeOptions::default() };
    let unread = AtomicU64::new(0);
    let idle = call.shared.settings.body_idle_timeout();
    let mut form = Multipart::new(chunks(call.body, idle, &unread), boundary);
    while let Some(part) = form.next_field().await.map_err(|error| wrong_form(&error))? {
        unread.store(0, Ordering::Relaxed);
        receive_part(part, &mut intake, &mut options, &unread).await?;
    }
    drop(form);
    finish(call, intake, name, options).await
}

async fn receive_part(
    mut part: Field<'_>,
    intake: &mut Intake,
    options: &mut IntakeOptions,
    unread: &AtomicU64,
) -> Result<(), ApiError> {
    if let Some(file) = part.file_name().map(str::to_owned) {
        let media_type = part.content_type().map(ToString::to_string);
        // The parts that are no files may come from files too.
        if !matches!(part.name(), Some("card" | "types" | "format")) {
            intake.begin_file(&file, media_type.as_deref()).await?;
            while let Some(chunk) = part.chunk().await.map_err(|error| wrong_form(&error))? {
                unread.store(0, Ordering::Relaxed);
                intake.write(chunk).await?;
            }
            return Ok(());
        }
    }
    let name = part.name().unwrap_or_default().to_owned();
    let text = text_of(part, &name).await?;
    match name.as_str() {
        "card" => {
            options.card = parsed(&text, "card", "a dataset card such as {\"license\": \"CC-BY-4.0\"}")?
        }
        "types" => options.types = parsed(&text, "types", "types of columns such as {\"zip\": \"Utf8\"}")?,
        "format" => {
            let quoted = serde_json::Value::String(text.trim().to_owned()).to_string();
            options.format = Some(parsed(&quoted, "format", "parquet, csv or jsonl")?);
        }
        _ => {
            return Err(ApiError::invalid(format!(
                "the form has a part {name:?} that is no file: expected card, types, format, or files with names"
            )));
        }
    }
    Ok(())
}

async fn text_of(mut part: Field<'_>, name: &str) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.chunk().await.map_err(|error| wrong_form(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_TEXT_BYTES {
            let message = format!("the part {name:?} of the form is larger than {MAX_TEXT_BYTES} bytes");
            return Err(ApiError::new(ErrorCode::TooLarge, message));
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| ApiError::invalid(format!("the part {name:?} of the form is not UTF-8")))
}

fn parsed<T: DeserializeOwned>(text: &str, part: &str, what: &str) -> Result<T, ApiError> {
    serde_json::from_str(text)
        .map_err(|error| ApiError::invalid(format!("the part {part:?} of the form is not {what}: {error}")))
}

/// The chunks of a body for the reader of forms, which collects all that it can get: one at a time, and not without end
/// while nothing comes of them.
fn chunks<'a>(
    body: &'a mut RequestBody,
    idle: std::time::Duration,
    unread: &'a AtomicU64,
) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + 'a {
    unfold(body, move |body| async move {
        tokio::task::yield_now().await;
        let chunk = body.chunk(|| Instant::now() + idle).await.transpose()?;
        let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        // A chunk may be as large as it likes; what counts is that one after the other brings nothing.
        let before = unread.fetch_add(length, Ordering::Relaxed);
        let chunk = if before > MAX_HEAD_BYTES {
            Err(ApiError::invalid("the head of a part of the form is too long"))
        } else {
            chunk
        };
        Some((chunk, body))
    })
}

/// What is wrong with a form, or with the body that it comes in.
fn wrong_form(error: &multer::Error) -> ApiError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<ApiError>() {
            return ApiError::new(error.code, error.message.clone());
        }
        source = cause.source();
    }
    if let multer::Error::StreamReadFailed(cause) = error
        && let Some(error) = cause.downcast_ref::<ApiError>()
    {
        return ApiError::new(error.code, error.message.clone());
    }
    ApiError::invalid(format!("the body is no form: {error}"))
}

async fn finish(
    call: &Call<'_>,
    intake: Intake,
    name: DatasetName,
    options: IntakeOptions,
) -> Result<Published, ApiError> {
    call.shared.run_to_end(async move { intake.finish(name, options).await }).await
}

fn reply(published: &Published) -> Reply {
    let Published { version, created } = published;
    let mut reply = json(if *created { StatusCode::CREATED } else { StatusCode::OK }, version);
    let DatasetReference { name, .. } = version.reference();
    // Names of datasets need no escaping.
    if let Ok(location) = HeaderValue::try_from(format!("/v1/datasets/{name}/versions/{}", version.number)) {
        reply.headers_mut().insert(LOCATION, location);
    }
    reply
}
