//! The kinds of failure as statuses of gRPC.

use modelhost_core::ErrorCode;
use tonic::{Code, Status};

use crate::error::ApiError;

/// Says nothing about the inside; the log does.
pub(super) const INTERNAL_MESSAGE: &str = "modelhost itself failed to answer this call: its log says why";

/// The status that says so.
pub(super) fn of(error: &ApiError) -> Status {
    if error.code == ErrorCode::Internal {
        tracing::error!(reason = %error.message, "a call failed");
        return Status::internal(INTERNAL_MESSAGE);
    }
    Status::new(code(error.code), error.message.clone())
}

const fn code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::MethodNotAllowed | ErrorCode::UnsupportedMediaType => Code::Unimplemented,
        ErrorCode::Conflict | ErrorCode::Unprocessable => Code::FailedPrecondition,
        ErrorCode::PreconditionFailed => Code::Aborted,
        ErrorCode::TooLarge | ErrorCode::Overloaded | ErrorCode::StorageFull => Code::ResourceExhausted,
        ErrorCode::RequestTimeout | ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::PluginFailed | ErrorCode::Internal => Code::Internal,
    }
}
