//! Why a request is not answered as asked: one code, one sentence, and how that looks on the wire.

use std::time::Duration;

use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use modelhost_core::{ErrorCode, InvalidName};
use modelhost_protocol::{DecodeError, EncodeError};
use serde::Serialize;

use crate::reply::{Reply, json};

/// The most that a client is told to wait: what is expected to last longer may as well be over sooner.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Says nothing about the inside; the log line of the request does.
const INTERNAL_MESSAGE: &str = "modelhost itself failed to answer this request: its log says why";

/// A failed request.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// For [`ErrorCode::MethodNotAllowed`]: the methods that are.
    allow: Option<&'static str>,
    /// For [`ErrorCode::Overloaded`]: when it may be over.
    retry_after: Option<Duration>,
    /// The field of the body that is wrong, where that is known.
    field: Option<&'static str>,
}

/// What a message quotes of a text from outside, which may be of any length.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), allow: None, retry_after: None, field: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorCode::InvalidArgument, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorCode::NotFound, message)
    }

    /// The message is for the log only.
    pub(crate) fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorCode::Internal, message)
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> ApiError {
        let message = format!("this address answers {allow} only");
        ApiError { allow: Some(allow), ..ApiError::new(ErrorCode::MethodNotAllowed, message) }
    }

    /// A name in the path that nothing can have.
    pub(crate) fn unknown_name(error: &InvalidName) -> ApiError {
        ApiError::not_found(error.to_string())
    }

    /// The response that says so.
    pub(crate) fn reply(&self) -> Reply {
        self.with_headers(json(self.status(), &ErrorBody { error: self.public_message() }))
    }

    /// What a client may read of it.
    pub(crate) fn public_message(&self) -> &str {
        if self.code == ErrorCode::Internal { INTERNAL_MESSAGE } else { &self.message }
    }

    /// The same error, about this field of the body.
    pub(crate) fn about_field(self, field: &'static str) -> ApiError {
        ApiError { field: Some(field), ..self }
    }

    /// The body of the same error in OpenAI's API.
    pub(crate) fn openai_body(&self) -> serde_json::Value {
        let (kind, code) = match (self.code, self.code.http_status()) {
            (ErrorCode::NotFound, _) => ("invalid_request_error", Some("model_not_found")),
            (ErrorCode::Overloaded, _) => ("rate_limit_error", Some("rate_limit_exceeded")),
            (_, 400..500) => ("invalid_request_error", None),
            _ => ("server_error", None),
        };
        let message = self.public_message();
        serde_json::json!({ "error": { "message": message, "type": kind, "param": self.field, "code": code } })
    }

    /// The response that says so in OpenAI's API.
    pub(crate) fn openai_reply(&self) -> Reply {
        self.with_headers(json(self.status(), &self.openai_body()))
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn with_headers(&self, mut reply: Reply) -> Reply {
        if self.code == ErrorCode::Overloaded {
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after_seconds(self.retry_after)));
        }
        if let Some(allow) = self.allow {
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        reply
    }
}

/// Whole seconds after which an overloaded server may be asked again, at least one.
fn retry_after_seconds(expected: Option<Duration>) -> u64 {
    let expected = expected.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    u64::try_from(expected.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX).max(1)
}

impl From<modelhost_serving::Error> for ApiError {
    fn from(error: modelhost_serving::Error) -> ApiError {
        ApiError { retry_after: error.retry_after, ..ApiError::new(error.code, error.message) }
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> ApiError {
        ApiError::invalid(error.to_string())
    }
}

impl From<modelhost_grpc::RequestError> for ApiError {
    fn from(error: modelhost_grpc::RequestError) -> ApiError {
        ApiError::invalid(error.to_string())
    }
}

impl From<EncodeError> for ApiError {
    fn from(error: EncodeError) -> ApiError {
        ApiError::invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn body(reply: Reply) -> String {
        let collect = futures_util::FutureExt::now_or_never(reply.into_body().collect());
        String::from_utf8(collect.unwrap().unwrap().to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn errors_are_one_json_string() {
        let reply = ApiError::invalid("input \"x\" is wrong").reply();
        assert_eq!(reply.status(), 400);
        assert_eq!(reply.headers()["content-type"], "application/json");
        assert_eq!(body(reply), r#"{"error":"input \"x\" is wrong"}"#);
    }

    #[test]
    fn some_codes_say_more_in_headers() {
        let overloaded = ApiError::new(ErrorCode::Overloaded, "full").reply();
        assert_eq!(
            (overloaded.status().as_u16(), &overloaded.headers()["retry-after"]),
            (429, &HeaderValue::from_static("1"))
        );
        let wrong_method = ApiError::method_not_allowed("GET, HEAD").reply();
        assert_eq!(wrong_method.status(), 405);
        assert_eq!(wrong_method.headers()["allow"], "GET, HEAD");
    }

    #[test]
    fn waiting_times_are_whole_seconds() {
        let seconds = |milliseconds| retry_after_seconds(Some(Duration::from_millis(milliseconds)));
        assert_eq!([0, 1, 1_000, 1_001, 90_000].map(seconds), [1, 1, 1, 2, 60]);
        assert_eq!(retry_after_seconds(None), 1);
    }

    #[test]
    fn internals_stay_inside() {
        let reply = ApiError::internal("/var/lib/modelhost: disk on fire").reply();
        assert_eq!(reply.status(), 500);
        assert!(!body(reply).contains("fire"));
    }
}
