//! gRPC on the same port as everything else: which service a request is for, what all of its calls have in common, and
//! what is logged of it. What the calls do is in `service`; messages are not known here.

mod body;
mod health;
mod model;
mod service;
mod status;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Either};
use hyper::body::Incoming;
use modelhost_core::{ModelName, VersionNumber};
use modelhost_grpc::health::health_server::HealthServer;
use modelhost_grpc::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service as _;
use tonic::server::NamedService as _;

use crate::reply::{BodyError, Reply};
use crate::request_record::RequestRecord;
use crate::service::Shared;
use body::{Metered, MeteredBody};
use health::HealthService;
use service::InferenceService;

type Inference = GrpcInferenceServiceServer<InferenceService>;
type Health = HealthServer<HealthService>;

/// Which version answered a call, for its line in the log.
#[derive(Clone, Debug)]
struct Answered {
    model: ModelName,
    version: VersionNumber,
}

/// Whether a request is a call of gRPC.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Answers a call, and puts down in the record what became of it. The second is why it failed, where that is known at
/// once: what fails later is told at the end of the answer.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    record: &mut RequestRecord,
) -> (Reply, Option<String>) {
    let metered = Metered::new(shared.budget.clone());
    let idle = shared.settings.body_idle_timeout();
    let path = request.uri().path();
    let is_stream = path.ends_with("/ModelStreamInfer") || path.starts_with("/grpc.reflection.");
    let request = request.map(|incoming| MeteredBody::new(incoming, metered.clone(), idle, is_stream));
    let called = AssertUnwindSafe(call(shared, metered.clone(), request)).catch_unwind().await;
    record.bytes_in = metered.total();
    let response = called.unwrap_or_else(|_| Status::internal(status::INTERNAL_MESSAGE).into_http());
    if let Some(Answered { model, version }) = response.extensions().get::<Answered>() {
        record.model = Some(model.clone());
        record.version = Some(*version);
    }
    let failure =
        Status::from_header_map(response.headers()).filter(|status| status.code() != tonic::Code::Ok);
    let failure = failure.map(|status| format!("{:?}: {}", status.code(), status.message()));
    (response.map(|body| Either::Right(body.map_err(BodyError::from).boxed_unsync())), failure)
}

async fn call(
    shared: &Arc<Shared>,
    metered: Metered,
    mut request: Request<MeteredBody>,
) -> Response<tonic::body::Body> {
    request.extensions_mut().insert(metered);
    let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    let most = usize::try_from(shared.settings.max_body_bytes).unwrap_or(usize::MAX);
    let outcome = if service == Inference::NAME {
        let mut service = GrpcInferenceServiceServer::new(InferenceService::new(shared.clone()))
            .max_decoding_message_size(most)
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Deflate);
        service.call(request).await
    } else if service == Health::NAME {
        HealthServer::new(HealthService::new(shared.clone())).call(request).await
    } else {
        return reflect(service.to_owned(), request).await;
    };
    // It cannot fail.
    outcome.unwrap_or_else(|never| match never {})
}

/// What services there are, for tools such as grpcurl.
async fn reflect(service: String, request: Request<MeteredBody>) -> Response<tonic::body::Body> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(modelhost_grpc::DESCRIPTORS)
    };
    let unavailable = |error: tonic_reflection::server::Error| {
        tracing::error!(%error, "server reflection cannot be built");
        Status::internal(status::INTERNAL_MESSAGE).into_http()
    };
    let outcome = match service.as_str() {
        "grpc.reflection.v1.ServerReflection" => match builder().build_v1() {
            Ok(mut service) => service.call(request).await,
            Err(error) => return unavailable(error),
        },
        "grpc.reflection.v1alpha.ServerReflection" => match builder().build_v1alpha() {
            Ok(mut service) => service.call(request).await,
            Err(error) => return unavailable(error),
        },
        _ => return Status::unimplemented("no service has this name").into_http(),
    };
    outcome.unwrap_or_else(|never| match never {})
}
