//! `grpc.health.v1.Health`: of the server, of a service, and of a model by its name.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use modelhost_core::ModelName;
use modelhost_grpc::health::health_check_response::ServingStatus;
use modelhost_grpc::health::health_server::Health;
use modelhost_grpc::health::{HealthCheckRequest, HealthCheckResponse};
use modelhost_grpc::inference::grpc_inference_service_server::SERVICE_NAME;
use modelhost_serving::VersionSelector;
use tonic::{Request, Response, Status};

use crate::service::Shared;

/// How often a watched status is looked at.
const WATCH_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) struct HealthService {
    shared: Arc<Shared>,
}

impl HealthService {
    pub(super) fn new(shared: Arc<Shared>) -> HealthService {
        HealthService { shared }
    }
}

async fn status(shared: &Shared, service: &str) -> ServingStatus {
    if service.is_empty() || service == SERVICE_NAME {
        let is_ready = shared.host.is_ready() && !shared.stopping.is_cancelled();
        return if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    }
    let Ok(model) = service.parse::<ModelName>() else { return ServingStatus::ServiceUnknown };
    match shared.host.ready_servable(&model, &VersionSelector::Deployed).await {
        Ok(_) => ServingStatus::Serving,
        Err(error) if error.code == modelhost_core::ErrorCode::NotFound => ServingStatus::ServiceUnknown,
        Err(_) => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

type Watched = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Watched;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match status(&self.shared, &request.get_ref().service).await {
            ServingStatus::ServiceUnknown => Err(Status::not_found("no service and no model has this name")),
            known => Ok(Response::new(response(known))),
        }
    }

    /// The status now, and whenever it is another; it ends with the server.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watched>, Status> {
        let service = request.into_inner().service;
        let state = (self.shared.clone(), service, None);
        let changes = stream::unfold(state, |(shared, service, last)| async move {
            loop {
                let now = status(&shared, &service).await;
                if last != Some(now) {
                    return Some((Ok(response(now)), (shared, service, Some(now))));
                }
                tokio::select! {
                    () = tokio::time::sleep(WATCH_INTERVAL) => {}
                    () = shared.stopping.cancelled() => return None,
                }
            }
        });
        Ok(Response::new(changes.boxed()))
    }
}
