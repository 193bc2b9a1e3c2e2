//! Building responses. Nearly every one is held in memory whole, so that its length is known when it is logged; what
//! has no end yet, or is a file of any size, is sent as it comes.

use std::io;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

/// A response.
pub(crate) type Reply = Response<ReplyBody>;

/// What is sent: a whole, or pieces as they come.
pub(crate) type ReplyBody = Either<Full<Bytes>, StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>>;

/// Clients compare this literally: no charset.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A response of this type and with these bytes.
pub(crate) fn bytes(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Either::Left(Full::new(body.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// A response of JSON text that is written already.
pub(crate) fn json_text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    bytes(status, JSON, body)
}

/// A value as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => json_text(status, body),
        Err(error) => {
            tracing::error!(%error, "a response could not be written as JSON");
            json_text(
                StatusCode::INTERNAL_SERVER_ERROR,
                Bytes::from_static(b"{\"error\":\"the response could not be written\"}"),
            )
        }
    }
}

/// A response that is sent as it comes. Where a piece is an error the connection breaks, so that nobody takes what was
/// sent for the whole.
pub(crate) fn stream(content_type: HeaderValue, pieces: BoxStream<'static, io::Result<Bytes>>) -> Reply {
    let frames = pieces.map(|piece| piece.map(Frame::data)).boxed();
    let mut reply = Response::new(Either::Right(StreamBody::new(frames)));
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// A response without a body.
pub(crate) fn no_content() -> Reply {
    let mut reply = Response::new(Either::Left(Full::default()));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

/// Adds the generation of a model as entity tag.
pub(crate) fn with_generation(mut reply: Reply, generation: u64) -> Reply {
    // Digits between quotes are always a valid header value.
    if let Ok(tag) = HeaderValue::try_from(format!("\"{generation}\"")) {
        reply.headers_mut().insert(ETAG, tag);
    }
    reply
}
