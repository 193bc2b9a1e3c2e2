//! Server-sent events: pieces of JSON that are sent as they come to be.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use serde::Serialize;

use crate::reply::{Reply, stream};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The end of a stream of OpenAI's API.
pub(crate) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// One event with this value as its data. JSON has no line ends of its own.
pub(crate) fn event(value: &impl Serialize) -> Bytes {
    let mut text = b"data: ".to_vec();
    if let Err(error) = serde_json::to_writer(&mut text, value) {
        tracing::error!(%error, "an event could not be written as JSON");
        return Bytes::from_static(b"data: {\"error\":\"the event could not be written\"}\n\n");
    }
    text.extend_from_slice(b"\n\n");
    text.into()
}

/// A response of these events.
pub(crate) fn reply(events: impl Stream<Item = Bytes> + Send + 'static) -> Reply {
    fallible_reply(events.map(Ok))
}

/// The same of events that may not come to be, where the connection breaks.
pub(crate) fn fallible_reply(events: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Reply {
    let mut reply = stream(EVENT_STREAM, events.boxed());
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(event(&serde_json::json!({"a": "x\ny"})), r#"data: {"a":"x\ny"}"#.to_owned() + "\n\n");
    }
}
