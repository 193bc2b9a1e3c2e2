//! The kinds of failure, of which each has one HTTP status, one metric label and later one gRPC status.

/// What kind of failure an error is, whichever part of modelhost it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request can never succeed as it is.
    InvalidArgument,
    /// The thing named in the request does not exist.
    NotFound,
    /// The method is not one that this address answers.
    MethodNotAllowed,
    /// The state of the thing forbids the change, such as deleting a deployed version.
    Conflict,
    /// Somebody else changed the thing since it was read.
    PreconditionFailed,
    /// The body, or a part of it, is larger than allowed.
    TooLarge,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is in a form that is not understood here, such as an unknown compression.
    UnsupportedMediaType,
    /// Well-formed, but cannot be accepted, such as a component that imports what may not be granted.
    Unprocessable,
    /// More work is waiting than may wait.
    Overloaded,
    /// The plugin trapped, went over a limit, or broke its contract.
    PluginFailed,
    /// Cannot be answered now, but perhaps later.
    Unavailable,
    /// There is no room left on the disk.
    StorageFull,
    /// The deadline passed.
    DeadlineExceeded,
    /// A failure of modelhost itself.
    Internal,
}

impl ErrorCode {
    /// The HTTP status code.
    pub const fn http_status(self) -> u16 {
        match self {
            ErrorCode::InvalidArgument => 400,
            ErrorCode::NotFound => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::RequestTimeout => 408,
            ErrorCode::Conflict => 409,
            ErrorCode::PreconditionFailed => 412,
            ErrorCode::TooLarge => 413,
            ErrorCode::UnsupportedMediaType => 415,
            ErrorCode::Unprocessable => 422,
            ErrorCode::Overloaded => 429,
            ErrorCode::Internal => 500,
            ErrorCode::PluginFailed => 502,
            ErrorCode::Unavailable => 503,
            ErrorCode::DeadlineExceeded => 504,
            ErrorCode::StorageFull => 507,
        }
    }

    /// The value of the label `reason` of `nv_inference_request_failure`.
    pub const fn failure_reason(self) -> &'static str {
        match self {
            ErrorCode::Overloaded | ErrorCode::Unavailable => "REJECTED",
            ErrorCode::DeadlineExceeded | ErrorCode::RequestTimeout => "CANCELED",
            ErrorCode::PluginFailed => "BACKEND",
            _ => "OTHER",
        }
    }
}
