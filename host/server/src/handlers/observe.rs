//! Where an operator begins to look: the index, the engines and the metrics.

use http::{HeaderValue, StatusCode};
use modelhost_serving::EngineStatus;
use serde::Serialize;

use crate::reply::{Reply, bytes, json};
use crate::service::Call;

/// The text format of Prometheus, by the name that it is asked for.
const PROMETHEUS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

#[derive(Serialize)]
struct Index {
    name: &'static str,
    version: &'static str,
    inference: &'static str,
    models: &'static str,
    engines: &'static str,
    ready: &'static str,
    metrics: &'static str,
}

#[derive(Serialize)]
struct EngineListing {
    engines: Vec<EngineStatus>,
}

/// `GET /`: where to go from here.
pub(super) fn index() -> Reply {
    let index = Index {
        name: "modelhost",
        version: env!("CARGO_PKG_VERSION"),
        inference: "/v2",
        models: "/v1/models",
        engines: "/v1/engines",
        ready: "/v2/health/ready",
        metrics: "/metrics",
    };
    json(StatusCode::OK, &index)
}

/// `GET /metrics`.
pub(super) fn metrics(call: &Call<'_>) -> Reply {
    bytes(StatusCode::OK, PROMETHEUS_TEXT, call.shared.host.encode_metrics())
}

/// `GET /v1/engines`.
pub(super) fn engines(call: &Call<'_>) -> Reply {
    json(StatusCode::OK, &EngineListing { engines: call.shared.host.engines() })
}
