//! What `/metrics` says about HTTP: counters and histograms, made once, with typed handles to them. Labels
//! come from closed sets only: endpoints, methods, status codes, and models that exist.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use modelhost_core::ModelName;
use parking_lot::RwLock;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

use crate::routes::Endpoint;

/// The three parts of answering an inference request, under the names that KServe gave them.
#[derive(Debug)]
pub(crate) struct Stages {
    /// Decoding the body.
    pub(crate) preprocess: Histogram,
    /// Waiting for the model, and the model.
    pub(crate) predict: Histogram,
    /// Encoding the response.
    pub(crate) postprocess: Histogram,
}

/// All metrics of this crate.
#[derive(Debug)]
pub(crate) struct Telemetry {
    requests: IntCounterVec,
    durations: [Histogram; Endpoint::COUNT],
    /// Requests being answered.
    pub(crate) in_flight: IntGauge,
    /// Open connections.
    pub(crate) connections: IntGauge,
    preprocess: HistogramVec,
    predict: HistogramVec,
    postprocess: HistogramVec,
    /// So that a request finds its histograms by the model's name, without making labels.
    stages: RwLock<HashMap<ModelName, Arc<Stages>>>,
}

const ENDPOINTS: [Endpoint; Endpoint::COUNT] = [
    Endpoint::Index,
    Endpoint::Metrics,
    Endpoint::Engines,
    Endpoint::ServerMetadata,
    Endpoint::ServerLive,
    Endpoint::ServerReady,
    Endpoint::ModelMetadata,
    Endpoint::ModelReady,
    Endpoint::Infer,
    Endpoint::Generate,
    Endpoint::GenerateStream,
    Endpoint::Completions,
    Endpoint::ChatCompletions,
    Endpoint::Embeddings,
    Endpoint::Models,
    Endpoint::Model,
    Endpoint::Versions,
    Endpoint::Version,
    Endpoint::Revisions,
    Endpoint::Deployment,
    Endpoint::Rollback,
    Endpoint::Alias,
    Endpoint::Configuration,
    Endpoint::Statistics,
    Endpoint::ModelConfig,
    Endpoint::RepositoryIndex,
    Endpoint::RepositoryLoad,
    Endpoint::RepositoryUnload,
    Endpoint::TraceSetting,
    Endpoint::Logging,
    Endpoint::Datasets,
    Endpoint::Dataset,
    Endpoint::DatasetVersions,
    Endpoint::DatasetVersion,
    Endpoint::DatasetPreview,
    Endpoint::DatasetProfile,
    Endpoint::Jobs,
    Endpoint::Job,
    Endpoint::JobPause,
    Endpoint::JobResume,
    Endpoint::JobCancel,
    Endpoint::JobRetry,
    Endpoint::JobErrors,
    Endpoint::JobEvents,
    Endpoint::Schedules,
    Endpoint::Schedule,
    Endpoint::ScheduleRuns,
    Endpoint::SchedulePause,
    Endpoint::ScheduleResume,
    Endpoint::ScheduleRun,
    Endpoint::PredictionTables,
    Endpoint::PredictionTable,
    Endpoint::PredictionVersions,
    Endpoint::PredictionRollback,
    Endpoint::PredictionLookup,
    Endpoint::Prediction,
    Endpoint::Grpc,
    Endpoint::Unknown,
];

impl Telemetry {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// The registry has metrics of these names already.
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Telemetry> {
        let requests = IntCounterVec::new(
            Opts::new("http_server_requests_total", "Requests that ended"),
            &["route", "method", "status"],
        )?;
        let durations = histograms(
            "http_server_request_duration_seconds",
            "From the head of a request to its response",
            "route",
        )?;
        let in_flight = IntGauge::new("http_server_requests_in_flight", "Requests being answered")?;
        let connections = IntGauge::new("http_server_connections", "Open connections")?;
        let preprocess = histograms(
            "request_preprocess_seconds",
            "Decoding the body of an inference request",
            "model_name",
        )?;
        let predict = histograms(
            "request_predict_seconds",
            "Waiting for the model, and the model itself",
            "model_name",
        )?;
        let postprocess = histograms(
            "request_postprocess_seconds",
            "Encoding the response of an inference request",
            "model_name",
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        for family in [&durations, &preprocess, &predict, &postprocess] {
            registry.register(Box::new(family.clone()))?;
        }
        let durations = ENDPOINTS.map(|endpoint| durations.with_label_values(&[endpoint.template()]));
        let stages = RwLock::default();
        Ok(Telemetry {
            requests,
            durations,
            in_flight,
            connections,
            preprocess,
            predict,
            postprocess,
            stages,
        })
    }

    /// Counts a finished request.
    pub(crate) fn finished(
        &self,
        endpoint: Endpoint,
        method: &Method,
        status: StatusCode,
        duration: Duration,
    ) {
        self.requests.with_label_values(&[endpoint.template(), method_label(method), status.as_str()]).inc();
        if let Some(histogram) = self.durations.get(endpoint as usize) {
            histogram.observe(duration.as_secs_f64());
        }
    }

    /// The histograms of a model. Only for one that exists: its name becomes a label.
    pub(crate) fn stages(&self, model: &ModelName) -> Arc<Stages> {
        if let Some(stages) = self.stages.read().get(model) {
            return Arc::clone(stages);
        }
        let labels = [model.as_str()];
        let stages = Arc::new(Stages {
            preprocess: self.preprocess.with_label_values(&labels),
            predict: self.predict.with_label_values(&labels),
            postprocess: self.postprocess.with_label_values(&labels),
        });
        Arc::clone(self.stages.write().entry(model.clone()).or_insert(stages))
    }
}

/// Histograms from 10 µs to 80 s.
fn histograms(name: &str, help: &str, label: &str) -> prometheus::Result<HistogramVec> {
    let buckets = exponential_buckets(1e-5, 2.0, 24)?;
    HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[label])
}

/// Clients may invent methods; labels may not.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_its_own_histogram() {
        for (index, endpoint) in ENDPOINTS.into_iter().enumerate() {
            assert_eq!(endpoint as usize, index);
        }
    }

    #[test]
    fn metrics_have_the_known_names() {
        let registry = Registry::new();
        let telemetry = Telemetry::new(&registry).unwrap();
        telemetry.stages(&"income".parse().unwrap()).predict.observe(0.001);
        let brew = Method::from_bytes(b"BREW").unwrap();
        telemetry.finished(Endpoint::Infer, &Method::POST, StatusCode::OK, Duration::from_millis(2));
        telemetry.finished(Endpoint::Unknown, &brew, StatusCode::NOT_FOUND, Duration::ZERO);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            r#"request_predict_seconds_count{model_name="income"} 1"#,
            r#"request_preprocess_seconds_count{model_name="income"} 0"#,
            r#"request_postprocess_seconds_count{model_name="income"} 0"#,
            r#"http_server_requests_total{method="POST",route="/v2/models/{model}/infer",status="200"} 1"#,
            r#"http_server_requests_total{method="other",route="unknown",status="404"} 1"#,
            r#"http_server_request_duration_seconds_count{route="/v2/models/{model}/infer"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
