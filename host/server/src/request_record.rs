//! What is said about one request once it is over: its line in the log and its counts.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Method, StatusCode, Uri};
use modelhost_core::{ErrorCode, ModelName, VersionNumber};

use crate::routes::Endpoint;
use crate::telemetry::Telemetry;

/// Nothing was answered, because the client went away: as nginx writes it.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT)
}

/// A request from its head to its end. Where it is dropped without [`RequestRecord::finish`], the client
/// went away before it was answered, and the record says so.
#[derive(Debug)]
pub(crate) struct RequestRecord {
    telemetry: Arc<Telemetry>,
    started: Instant,
    method: Method,
    uri: Uri,
    client: SocketAddr,
    pub(crate) id: HeaderValue,
    pub(crate) endpoint: Endpoint,
    /// Set once it is known to exist.
    pub(crate) model: Option<ModelName>,
    /// Set once it is known which one answers.
    pub(crate) version: Option<VersionNumber>,
    pub(crate) bytes_in: u64,
    is_finished: bool,
}

impl RequestRecord {
    pub(crate) fn start(
        telemetry: Arc<Telemetry>,
        parts: &http::request::Parts,
        client: SocketAddr,
        id: HeaderValue,
    ) -> RequestRecord {
        telemetry.in_flight.inc();
        RequestRecord {
            telemetry,
            started: Instant::now(),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            client,
            id,
            endpoint: Endpoint::Unknown,
            model: None,
            version: None,
            bytes_in: 0,
            is_finished: false,
        }
    }

    /// Whether the sentence about its failure may be in the log. About keys that are looked up it may not be: they may
    /// be people's names.
    pub(crate) fn may_tell(&self, code: ErrorCode) -> bool {
        let is_about_keys = matches!(self.endpoint, Endpoint::Prediction | Endpoint::PredictionLookup);
        !is_about_keys || code == ErrorCode::Internal
    }

    /// The request was answered. `failure` is for the log only.
    pub(crate) fn finish(mut self, status: StatusCode, bytes_out: u64, failure: Option<&str>) {
        self.is_finished = true;
        self.write(status, bytes_out, failure);
    }

    fn write(&self, status: StatusCode, bytes_out: u64, failure: Option<&str>) {
        let duration = self.started.elapsed();
        self.telemetry.finished(self.endpoint, &self.method, status, duration);
        // The query is left out: it may hold a comment, but never what is needed to find the request.
        tracing::info!(
            target: "modelhost::request",
            method = self.method.as_str(),
            path = %logged_path(self.uri.path()),
            status = status.as_u16(),
            model = self.model.as_ref().map(ModelName::as_str),
            version = self.version.map(|version| version.0),
            duration_ms = duration.as_secs_f64() * 1e3,
            bytes_in = self.bytes_in,
            bytes_out,
            request_id = self.id.to_str().unwrap_or_default(),
            client = %self.client,
            failure,
            "request"
        );
    }
}

/// A path without the key of a prediction, which may be somebody's name.
fn logged_path(path: &str) -> Cow<'_, str> {
    let Some(rest) = path.strip_prefix("/v1/predictions/") else { return Cow::Borrowed(path) };
    match rest.split_once('/') {
        None | Some((_, "versions" | "rollback" | "lookup")) => Cow::Borrowed(path),
        Some((table, _)) => Cow::Owned(format!("/v1/predictions/{table}/{{key}}")),
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        self.telemetry.in_flight.dec();
        if !self.is_finished {
            self.write(client_closed_request(), 0, Some("the client went away"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_in_the_log() {
        for path in ["/v1/predictions/users/ada", "/v1/predictions/users/a/da", "/v1/predictions/users/"] {
            assert_eq!(logged_path(path), "/v1/predictions/users/{key}", "{path}");
        }
        for path in
            ["/v1/predictions", "/v1/predictions/users", "/v1/predictions/users/lookup", "/v2/models/m"]
        {
            assert_eq!(logged_path(path), path);
        }
    }
}
