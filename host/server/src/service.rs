//! One request from its head to its response: finds the endpoint, calls its handler, and sees to it that
//! every request ends in one response, one log line and one count, whatever the handler does.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, Version};
use http_body_util::Either;
use hyper::body::{Body as _, Incoming};
use modelhost_batch::Batch;
use modelhost_serving::ModelHost;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::{BodyBudget, RequestBody, linger};
use crate::compression;
use crate::error::ApiError;
use crate::grpc;
use crate::handlers;
use crate::headers::{X_REQUEST_ID, request_id};
use crate::log_control::LogControl;
use crate::reply::{Reply, Whole};
use crate::request_record::RequestRecord;
use crate::routes::{Endpoint, Route};
use crate::settings::ServerSettings;
use crate::telemetry::Telemetry;

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) host: Arc<ModelHost>,
    pub(crate) batch: Arc<Batch>,
    pub(crate) settings: ServerSettings,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) budget: BodyBudget,
    pub(crate) log: Arc<dyn LogControl>,
    /// Told when no more requests are taken: what has no end of its own ends then.
    pub(crate) stopping: CancellationToken,
    /// Changes that must run to their end, whether or not their client still waits.
    pub(crate) changes: TaskTracker,
}

impl Shared {
    /// Runs a change to its end even if the request that asked for it is dropped.
    pub(crate) async fn run_to_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, modelhost_serving::Error>> + Send + 'static,
    ) -> Result<T, ApiError> {
        match self.changes.spawn(change).await {
            Ok(outcome) => Ok(outcome?),
            Err(error) => Err(ApiError::internal(format!("a change was not carried out: {error}"))),
        }
    }
}

/// What a handler is given.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) parts: &'a Parts,
    pub(crate) route: &'a Route<'a>,
    pub(crate) body: &'a mut RequestBody,
    pub(crate) record: &'a mut RequestRecord,
}

/// Answers a request.
pub(crate) async fn answer(shared: Arc<Shared>, client: SocketAddr, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    let id = request_id(&parts.headers);
    let mut record = RequestRecord::start(Arc::clone(&shared.telemetry), &parts, client, id.clone());
    if grpc::is_call(&parts.headers) {
        return answer_call(&shared, Request::from_parts(parts, incoming), record).await;
    }
    let mut body = RequestBody::new(incoming, parts.headers.contains_key(EXPECT));
    let outcome = dispatch(&shared, &parts, &mut body, &mut record).await;
    let (mut reply, failure) = match outcome {
        Ok(reply) => (reply, None),
        Err(error) => (
            if record.endpoint.is_openai() { error.openai_reply() } else { error.reply() },
            Some(error.message).filter(|_| record.may_tell(error.code)),
        ),
    };
    record.bytes_in = body.received();
    compression::compress(&parts.headers, &mut reply).await;
    finish_body(body, &parts, &mut reply);
    if parts.method == Method::HEAD {
        drop_body(&mut reply);
    }
    reply.headers_mut().insert(X_REQUEST_ID, id);
    record.finish(reply.status(), reply.body().size_hint().exact().unwrap_or(0), failure.as_deref());
    reply
}

/// Answers a call of gRPC.
async fn answer_call(shared: &Arc<Shared>, request: Request<Incoming>, mut record: RequestRecord) -> Reply {
    record.endpoint = Endpoint::Grpc;
    let (mut reply, failure) = grpc::answer(shared, request, &mut record).await;
    reply.headers_mut().insert(X_REQUEST_ID, record.id.clone());
    record.finish(reply.status(), 0, failure.as_deref());
    reply
}

/// A panic in a handler is that request's failure, not that of the others on its connection.
async fn dispatch(
    shared: &Arc<Shared>,
    parts: &Parts,
    body: &mut RequestBody,
    record: &mut RequestRecord,
) -> Result<Reply, ApiError> {
    let path = parts.uri.path();
    let route = Route::parse(path)
        .ok_or_else(|| ApiError::not_found("nothing has this address: GET / lists what there is"))?;
    record.endpoint = route.endpoint;
    if !route.endpoint.allows(&parts.method) {
        return Err(ApiError::method_not_allowed(route.endpoint.allow()));
    }
    let call = Call { shared, parts, route: &route, body, record };
    or_panic(handlers::handle(call)).await
}

/// A panic becomes an error like any other.
async fn or_panic(handling: impl Future<Output = Result<Reply, ApiError>>) -> Result<Reply, ApiError> {
    match AssertUnwindSafe(handling).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            Err(ApiError::internal(format!("a handler panicked: {}", panic_message(panic.as_ref()))))
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// What the handler left unread is read on in the background, so that the client gets to see the response.
/// The connection is not used again: where the body ends may never be known.
fn finish_body(body: RequestBody, parts: &Parts, reply: &mut Reply) {
    if body.is_complete() {
        return;
    }
    if parts.version < Version::HTTP_2 {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(unread) = body.into_unread() {
        tokio::spawn(linger(unread));
    }
}

/// A response to HEAD tells the length of the body that GET would have.
fn drop_body(reply: &mut Reply) {
    let length = reply.body().size_hint().exact();
    *reply.body_mut() = Either::Left(Whole::default());
    if let Some(length) = length.filter(|_| reply.status() != StatusCode::NO_CONTENT) {
        reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_one_failed_request() {
        let error = or_panic(async { panic!("index {} out of range", 7) }).await.err().unwrap();
        assert_eq!(error.reply().status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(error.message.contains("index 7 out of range"), "{error}");
    }
}
