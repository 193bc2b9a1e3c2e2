//! Why a request is not answered as asked: one code, one sentence, and how that looks on the wire.

use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use modelhost_core::{ErrorCode, InvalidName};
use modelhost_protocol::{DecodeError, EncodeError};
use serde::Serialize;

use crate::reply::{Reply, json};

/// Seconds after which an overloaded server may be asked again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");
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
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), allow: None }
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
        ApiError { code: ErrorCode::MethodNotAllowed, message, allow: Some(allow) }
    }

    /// A name in the path that nothing can have.
    pub(crate) fn unknown_name(error: &InvalidName) -> ApiError {
        ApiError::not_found(error.to_string())
    }

    /// The response that says so.
    pub(crate) fn reply(&self) -> Reply {
        let status =
            StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error = if self.code == ErrorCode::Internal { INTERNAL_MESSAGE } else { &self.message };
        let mut reply = json(status, &ErrorBody { error });
        if self.code == ErrorCode::Overloaded {
            reply.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if let Some(allow) = self.allow {
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        reply
    }
}

impl From<modelhost_serving::Error> for ApiError {
    fn from(error: modelhost_serving::Error) -> ApiError {
        ApiError::new(error.code, error.message)
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> ApiError {
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
            (429, &RETRY_AFTER_SECONDS)
        );
        let wrong_method = ApiError::method_not_allowed("GET, HEAD").reply();
        assert_eq!(wrong_method.status(), 405);
        assert_eq!(wrong_method.headers()["allow"], "GET, HEAD");
    }

    #[test]
    fn internals_stay_inside() {
        let reply = ApiError::internal("/var/lib/modelhost: disk on fire").reply();
        assert_eq!(reply.status(), 500);
        assert!(!body(reply).contains("fire"));
    }
}
