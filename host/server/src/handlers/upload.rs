//! `POST /v1/models/{model}/versions`: the raw component as the body, handed on chunk by chunk; or, by its content type, the
//! declaration of an ensemble.

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use modelhost_core::{EnsembleDeclaration, ModelName};
use modelhost_registry::Revision;
use modelhost_serving::{UploadOptions, UploadOutcome};
use serde::Serialize;
use tokio::time::Instant;

use super::models::VersionReply;
use super::read_json;
use crate::error::ApiError;
use crate::headers::author;
use crate::reply::{Reply, json, with_generation};
use crate::service::Call;

/// Of a body that declares an ensemble.
const ENSEMBLE_MEDIA_TYPE: &str = "application/vnd.modelhost.ensemble+json";

/// Bytes of such a body.
const MAX_DECLARATION_BYTES: u64 = 1 << 20;

/// The version, and what else came of the upload. Whether it is new is said by the status, 201 or 200.
#[derive(Serialize)]
struct UploadReply<'a> {
    #[serde(flatten)]
    version: VersionReply<'a>,
    /// The revision that deploys it, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    deployed: Option<&'a Revision>,
}

/// Takes an upload. Where it breaks off, everything received is removed; once it is complete it runs to its
/// end, even if the client does not wait for it.
pub(super) async fn upload(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = call.route.model().map_err(|error| ApiError::invalid(error.to_string()))?;
    let query = Query::parse(call.parts.uri.query().unwrap_or_default())?;
    let by = author(&call.parts.headers)?;
    let options = UploadOptions { deploy: query.deploy, by, comment: query.comment };
    let outcome = match is_ensemble(&call.parts.headers) {
        true => declare(call, &model, options).await?,
        false => receive(call, &model, options).await?,
    };
    call.record.version = Some(outcome.version.number);
    let reply = upload_reply(&model, &outcome);
    call.record.model = Some(model);
    Ok(reply)
}

async fn receive(
    call: &mut Call<'_>,
    model: &ModelName,
    options: UploadOptions,
) -> Result<UploadOutcome, ApiError> {
    let mut upload = call.shared.host.begin_upload(model.clone(), call.body.declared()).await?;
    let idle = call.shared.settings.body_idle_timeout();
    while let Some(chunk) = call.body.chunk(|| Instant::now() + idle).await? {
        upload.write(chunk).await?;
    }
    call.shared.run_to_end(async move { upload.finish(options).await }).await
}

async fn declare(
    call: &mut Call<'_>,
    model: &ModelName,
    options: UploadOptions,
) -> Result<UploadOutcome, ApiError> {
    let declaration: EnsembleDeclaration = read_json(call, "an ensemble", MAX_DECLARATION_BYTES).await?;
    let (host, model) = (call.shared.host.clone(), model.clone());
    call.shared.run_to_end(async move { host.declare_ensemble(model, declaration, options).await }).await
}

/// Parameters of the type, such as `charset`, say nothing that JSON does not.
fn is_ensemble(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(ENSEMBLE_MEDIA_TYPE)
}

fn upload_reply(model: &ModelName, outcome: &UploadOutcome) -> Reply {
    let UploadOutcome { created, version, deployed, generation } = outcome;
    let status = if *created { StatusCode::CREATED } else { StatusCode::OK };
    let body = UploadReply { version: VersionReply { model, version }, deployed: deployed.as_ref() };
    let mut reply = with_generation(json(status, &body), *generation);
    // Names of models need no escaping.
    if let Ok(location) = HeaderValue::try_from(format!("/v1/models/{model}/versions/{}", version.number)) {
        reply.headers_mut().insert(LOCATION, location);
    }
    reply
}

#[derive(Debug, Default, PartialEq)]
struct Query {
    deploy: bool,
    comment: Option<String>,
}

impl Query {
    /// Unknown names are refused: a misspelt `deploy` would otherwise be an upload that answers nothing.
    fn parse(query: &str) -> Result<Query, ApiError> {
        let mut parsed = Query::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (name.as_ref(), value.as_ref()) {
                ("deploy", "true") => parsed.deploy = true,
                ("deploy", "false") => parsed.deploy = false,
                ("comment", _) => parsed.comment = Some(Cow::into_owned(value)),
                _ => {
                    return Err(ApiError::invalid(
                        "the query of an upload takes deploy=true or deploy=false, and comment=TEXT",
                    ));
                }
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use modelhost_registry::Version;
    use serde_json::json;

    use super::*;

    fn version() -> Version {
        let digest = format!("sha256:{}", "0".repeat(64));
        let version = json!({
            "number": 3, "digest": digest, "size_bytes": 5, "created": "2026-01-02T03:04:05Z",
            "signature": {"inputs": [], "outputs": []}, "graphs": [], "metadata": {}, "compiled_size_bytes": 7,
        });
        serde_json::from_value(version).unwrap()
    }

    #[test]
    fn a_reply_is_the_version_with_each_field_once() {
        let model: ModelName = "income".parse().unwrap();
        let version = version();
        let text = serde_json::to_string(&UploadReply {
            version: VersionReply { model: &model, version: &version },
            deployed: None,
        })
        .unwrap();
        assert_eq!(serde_json::from_str::<Version>(&text).unwrap(), version);
        assert_eq!(text.matches("\"created\":").count(), 1, "{text}");
        let outcome =
            |created| UploadOutcome { created, version: version.clone(), deployed: None, generation: 9 };
        let reply = upload_reply(&model, &outcome(true));
        assert_eq!(
            (reply.status(), &reply.headers()["etag"]),
            (StatusCode::CREATED, &HeaderValue::from_static("\"9\""))
        );
        assert_eq!(reply.headers()["location"], "/v1/models/income/versions/3");
        assert_eq!(upload_reply(&model, &outcome(false)).status(), StatusCode::OK);
    }

    #[test]
    fn an_ensemble_is_told_by_its_content_type() {
        let is_ensemble = |value: &'static str| {
            is_ensemble(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        assert!(is_ensemble(ENSEMBLE_MEDIA_TYPE));
        assert!(is_ensemble("Application/VND.modelhost.ensemble+json ; charset=utf-8"));
        assert!(!is_ensemble("application/wasm") && !is_ensemble("application/json") && !is_ensemble(""));
    }

    #[test]
    fn queries() {
        assert_eq!(Query::parse("").unwrap(), Query::default());
        let full = Query::parse("deploy=true&comment=first%20one+%C3%BC").unwrap();
        assert_eq!(full, Query { deploy: true, comment: Some("first one ü".into()) });
        assert!(!Query::parse("deploy=false").unwrap().deploy);
        for bad in ["deploy", "deploy=1", "deploy=yes", "depoly=true", "x=y"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
