//! `inference.GRPCInferenceService`: a call to the host and its answer as a message. It does what the same request does
//! over HTTP, by the same rules.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _, stream};
use modelhost_core::ModelName;
use modelhost_grpc::inference::grpc_inference_service_server::GrpcInferenceService;
use modelhost_grpc::inference::{
    ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
    ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ModelRepositoryParameter,
    ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse, RepositoryIndexRequest,
    RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    model_repository_parameter,
};
use modelhost_protocol::{InferRequest, InferResponse, RequestedOutput};
use modelhost_serving::{Authorship, NamedTensors, RequestOptions, Servable, VersionSelector, VersionState};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::body::Metered;
use super::{Answered, model, status};
use crate::body::Reservation;
use crate::error::ApiError;
use crate::handlers::{self, infer};
use crate::routes;
use crate::service::Shared;

pub(super) struct InferenceService {
    shared: Arc<Shared>,
}

type Reply<T> = Result<Response<T>, Status>;
type Streamed = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

fn failed(error: impl Into<ApiError>) -> Status {
    status::of(&error.into())
}

fn model_name(name: &str) -> Result<ModelName, Status> {
    name.parse().map_err(|error| failed(ApiError::unknown_name(&error)))
}

/// As in a path: digits are a number, everything else an alias, nothing is what is deployed.
fn selector(version: &str) -> Result<VersionSelector, Status> {
    let version = Some(version).filter(|version| !version.is_empty());
    routes::version_selector(version).map_err(|error| failed(ApiError::unknown_name(&error)))
}

/// A request with its model, and the memory that it has of all bodies'.
struct Asked {
    servable: Arc<Servable>,
    request: InferRequest,
    options: RequestOptions,
    _reservation: Reservation,
}

impl InferenceService {
    pub(super) fn new(shared: Arc<Shared>) -> InferenceService {
        InferenceService { shared }
    }
}

impl Asked {
    fn new(
        shared: &Shared,
        message: ModelInferRequest,
        mut reservation: Reservation,
        timeout: Option<Duration>,
    ) -> Result<Asked, Status> {
        let (model, version) = (model_name(&message.model_name)?, selector(&message.model_version)?);
        let servable = shared.host.servable(&model, &version).map_err(failed)?;
        let arrived = Instant::now();
        let decode = || {
            servable.check_load()?;
            let request = modelhost_grpc::decode_request(message)?;
            let bytes = request.inputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
            reservation.extend_to(bytes, &shared.budget)?;
            infer::check_selection(&request.outputs, servable.signature())?;
            Ok(request)
        };
        let request = decode().map_err(|error: ApiError| {
            servable.statistics().record_failure(error.code, arrived.elapsed());
            failed(error)
        })?;
        let timeouts = [request.timeout, timeout];
        let options =
            RequestOptions { timeout: timeouts.into_iter().flatten().min(), priority: request.priority };
        Ok(Asked { servable, request, options, _reservation: reservation })
    }
}

/// What makes a message of outputs.
struct Answering {
    servable: Arc<Servable>,
    id: Option<String>,
    requested: Vec<RequestedOutput>,
}

impl Answering {
    fn message(&self, outputs: NamedTensors) -> Result<ModelInferResponse, ApiError> {
        let outputs = infer::classified(outputs, &self.requested, self.servable.signature())?;
        Ok(modelhost_grpc::encode_response(&InferResponse {
            model: self.servable.model(),
            version: self.servable.version(),
            id: self.id.as_deref(),
            outputs: &infer::select(&outputs, &self.requested, true),
        }))
    }
}

async fn answer(asked: Asked) -> Result<ModelInferResponse, ApiError> {
    let Asked { servable, request, options, _reservation } = asked;
    let InferRequest { id, parameters, inputs, outputs: requested, .. } = request;
    let outputs = servable.infer(inputs, parameters, options).await?;
    Answering { servable, id, requested }.message(outputs)
}

/// How long the client of a call waits: the header `grpc-timeout`, up to eight digits and a unit.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let value = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let count: u32 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit.saturating_mul(count))
}

/// The responses to one request of a stream. A failure is one of them: the stream goes on with the next request.
fn responses(
    shared: Arc<Shared>,
    message: ModelInferRequest,
    reservation: Reservation,
    timeout: Option<Duration>,
) -> Streamed {
    let id = message.id.clone();
    let told = move |error: &Status| ModelStreamInferResponse {
        error_message: error.message().to_owned(),
        infer_response: Some(ModelInferResponse { id: id.clone(), ..ModelInferResponse::default() }),
    };
    let asked = match Asked::new(&shared, message, reservation, timeout) {
        Ok(asked) => asked,
        Err(error) => return stream::once(async move { Ok(told(&error)) }).boxed(),
    };
    let Asked { servable, request, options, _reservation: held } = asked;
    let InferRequest { id, parameters, inputs, outputs: requested, .. } = request;
    let outputs = servable.infer_stream(inputs, parameters, options);
    let answering = Answering { servable, id, requested };
    outputs
        .map(move |outputs| {
            let _held = &held;
            let message = outputs.map_err(ApiError::from).and_then(|outputs| answering.message(outputs));
            Ok(match message {
                Ok(message) => {
                    ModelStreamInferResponse { error_message: String::new(), infer_response: Some(message) }
                }
                Err(error) => told(&status::of(&error)),
            })
        })
        .boxed()
}

fn metered<T>(request: &Request<T>) -> Reservation {
    request.extensions().get::<Metered>().map(Metered::take).unwrap_or_default()
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    type ModelStreamInferStream = Streamed;

    async fn server_live(&self, _request: Request<ServerLiveRequest>) -> Reply<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _request: Request<ServerReadyRequest>) -> Reply<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.shared.host.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Reply<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let (name, version) = (model_name(&name)?, selector(&version)?);
        let servable = handlers::ready_servable(&self.shared.host, &name, &version).await.map_err(failed)?;
        Ok(Response::new(ModelReadyResponse { ready: servable.is_some() }))
    }

    async fn server_metadata(
        &self,
        _request: Request<ServerMetadataRequest>,
    ) -> Reply<ServerMetadataResponse> {
        Ok(Response::new(ServerMetadataResponse {
            name: "modelhost".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: handlers::EXTENSIONS.iter().map(|name| (*name).to_owned()).collect(),
        }))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Reply<ModelMetadataResponse> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let (name, selector) = (model_name(&name)?, selector(&version)?);
        let host = &self.shared.host;
        let version = handlers::version_in_service(host, &name, &selector).await.map_err(failed)?;
        let versions = handlers::version_numbers(host, &name).await.map_err(failed)?;
        let (inputs, outputs) = model::both(&version.signature);
        Ok(Response::new(ModelMetadataResponse {
            name: name.to_string(),
            versions,
            platform: handlers::platform(&version).to_owned(),
            inputs,
            outputs,
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Reply<ModelInferResponse> {
        let (timeout, reservation) = (timeout(request.metadata()), metered(&request));
        let asked = Asked::new(&self.shared, request.into_inner(), reservation, timeout)?;
        let answered = Answered { model: asked.servable.model().clone(), version: asked.servable.version() };
        let mut response = Response::new(answer(asked).await.map_err(failed)?);
        response.extensions_mut().insert(answered);
        Ok(response)
    }

    /// One request after the other, as their responses are read: who does not read is not worked for.
    async fn model_stream_infer(&self, request: Request<Streaming<ModelInferRequest>>) -> Reply<Streamed> {
        let timeout = timeout(request.metadata());
        let metered = request.extensions().get::<Metered>().cloned();
        let shared = self.shared.clone();
        let stopping = shared.stopping.clone().cancelled_owned();
        let responses = request.into_inner().take_until(stopping).flat_map(move |message| {
            let reservation = metered.as_ref().map(Metered::take).unwrap_or_default();
            match message {
                Ok(message) => responses(shared.clone(), message, reservation, timeout),
                Err(error) => stream::once(async move { Err(error) }).boxed(),
            }
        });
        Ok(Response::new(responses.boxed()))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Reply<ModelConfigResponse> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let (name, selector) = (model_name(&name)?, selector(&version)?);
        let host = &self.shared.host;
        let version = handlers::version_in_service(host, &name, &selector).await.map_err(failed)?;
        let scheduled = host.scheduled(&name).map_err(failed)?;
        let config = handlers::model_config(name.as_str(), &version, scheduled);
        Ok(Response::new(ModelConfigResponse { config: Some(model::config(&config)) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Reply<ModelStatisticsResponse> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let host = &self.shared.host;
        let counted = if name.is_empty() {
            host.all_statistics()
        } else {
            host.statistics(&model_name(&name)?, &selector(&version)?).map_err(failed)?
        };
        let model_stats = counted.iter().map(model::statistics).collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Reply<RepositoryIndexResponse> {
        let is_ready = request.get_ref().ready;
        let index = self.shared.host.repository_index().into_iter();
        let index = index.filter(|entry| !is_ready || entry.state == VersionState::Ready);
        Ok(Response::new(RepositoryIndexResponse { models: index.map(model::index).collect() }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Reply<RepositoryModelLoadResponse> {
        let RepositoryModelLoadRequest { model_name: name, parameters, .. } = request.into_inner();
        let name = model_name(&name)?;
        if let Some(parameter) = parameters.keys().next() {
            return Err(failed(handlers::refused_to_load(parameter)));
        }
        let author = Authorship { by: None, comment: Some("loaded".to_owned()) };
        let host = self.shared.host.clone();
        self.shared.run_to_end(async move { host.load(&name, author).await }).await.map_err(failed)?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Reply<RepositoryModelUnloadResponse> {
        let RepositoryModelUnloadRequest { model_name: name, parameters, .. } = request.into_inner();
        let name = model_name(&name)?;
        for (parameter, value) in &parameters {
            handlers::check_unload_parameter(parameter, is_flag(value)).map_err(failed)?;
        }
        let author = Authorship { by: None, comment: Some("unloaded".to_owned()) };
        let host = self.shared.host.clone();
        self.shared.run_to_end(async move { host.unload(&name, author).await }).await.map_err(failed)?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}

fn is_flag(value: &ModelRepositoryParameter) -> bool {
    use model_repository_parameter::ParameterChoice::BoolParam;
    matches!(value.parameter_choice, Some(BoolParam(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_a_unit() {
        let of = |value: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", value.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(of("99999999u"), Some(Duration::from_micros(99_999_999)));
        for bad in ["", "5", "m", "-1S", "1.5S", "123456789S", "1x"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
