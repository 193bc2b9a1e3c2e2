//! Building responses. Nearly every one is held in memory whole, so that its length is known when it is logged; what
//! has no end yet, or is a file of any size, is sent as it comes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Either, StreamBody};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;

/// A response.
pub(crate) type Reply = Response<ReplyBody>;

/// What is sent: a whole, or what comes as it comes.
pub(crate) type ReplyBody = Either<Whole, UnsyncBoxBody<Bytes, BodyError>>;

/// Why what comes as it comes breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A call of gRPC failed after its answer began.
    #[error(transparent)]
    Call(#[from] Box<tonic::Status>),
}

/// A body that is in memory, in as many pieces as it was made of.
#[derive(Debug, Default)]
pub(crate) struct Whole(VecDeque<Bytes>);

impl Whole {
    /// Of these pieces; empty ones are left out.
    pub(crate) fn new(pieces: impl IntoIterator<Item = Bytes>) -> Whole {
        Whole(pieces.into_iter().filter(|piece| !piece.is_empty()).collect())
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Its pieces.
    pub(crate) fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        self.0.into_iter()
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}

impl From<tonic::Status> for BodyError {
    fn from(status: tonic::Status) -> BodyError {
        BodyError::Call(Box::new(status))
    }
}

/// Clients compare this literally: no charset.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A response of this type and with these bytes.
pub(crate) fn bytes(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    pieces(status, content_type, [body.into()])
}

/// The same, of several pieces that follow each other.
pub(crate) fn pieces(
    status: StatusCode,
    content_type: HeaderValue,
    pieces: impl IntoIterator<Item = Bytes>,
) -> Reply {
    let mut reply = Response::new(Either::Left(Whole::new(pieces)));
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
    let body = StreamBody::new(frames).map_err(BodyError::from).boxed_unsync();
    let mut reply = Response::new(Either::Right(body));
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// A response without a body.
pub(crate) fn no_content() -> Reply {
    let mut reply = Response::new(Either::Left(Whole::default()));
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
