//! From a path to an endpoint with its names. It knows neither handlers nor whether the names exist.

use std::borrow::Cow;
use std::str::FromStr;

use http::Method;
use modelhost_batch::jobs::JobId;
use modelhost_core::{
    AliasName, DatasetName, InvalidName, ModelName, ScheduleName, TableName, VersionNumber,
};
use modelhost_serving::VersionSelector;
use percent_encoding::percent_decode_str;

/// Everything that has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Index,
    Metrics,
    Engines,
    ServerMetadata,
    ServerLive,
    ServerReady,
    ModelMetadata,
    ModelReady,
    Infer,
    Generate,
    GenerateStream,
    Completions,
    ChatCompletions,
    Embeddings,
    Models,
    Model,
    Versions,
    Version,
    Revisions,
    Deployment,
    Rollback,
    Alias,
    Configuration,
    Statistics,
    ModelConfig,
    RepositoryIndex,
    RepositoryLoad,
    RepositoryUnload,
    TraceSetting,
    Logging,
    Datasets,
    Dataset,
    DatasetVersions,
    DatasetVersion,
    DatasetPreview,
    DatasetProfile,
    Jobs,
    Job,
    JobPause,
    JobResume,
    JobCancel,
    JobRetry,
    JobErrors,
    JobEvents,
    Schedules,
    Schedule,
    ScheduleRuns,
    SchedulePause,
    ScheduleResume,
    ScheduleRun,
    PredictionTables,
    PredictionTable,
    PredictionVersions,
    PredictionRollback,
    PredictionLookup,
    Prediction,
    /// Every call of gRPC.
    Grpc,
    /// No endpoint: for metrics.
    Unknown,
}

impl Endpoint {
    /// How many there are.
    pub(crate) const COUNT: usize = Endpoint::Unknown as usize + 1;

    /// The path with names in place of values, for metrics.
    pub(crate) const fn template(self) -> &'static str {
        match self {
            Endpoint::Index => "/",
            Endpoint::Metrics => "/metrics",
            Endpoint::Engines => "/v1/engines",
            Endpoint::ServerMetadata => "/v2",
            Endpoint::ServerLive => "/v2/health/live",
            Endpoint::ServerReady => "/v2/health/ready",
            Endpoint::ModelMetadata => "/v2/models/{model}",
            Endpoint::ModelReady => "/v2/models/{model}/ready",
            Endpoint::Infer => "/v2/models/{model}/infer",
            Endpoint::Generate => "/v2/models/{model}/generate",
            Endpoint::GenerateStream => "/v2/models/{model}/generate_stream",
            Endpoint::Completions => "/v1/completions",
            Endpoint::ChatCompletions => "/v1/chat/completions",
            Endpoint::Embeddings => "/v1/embeddings",
            Endpoint::Models => "/v1/models",
            Endpoint::Model => "/v1/models/{model}",
            Endpoint::Versions => "/v1/models/{model}/versions",
            Endpoint::Version => "/v1/models/{model}/versions/{version}",
            Endpoint::Revisions => "/v1/models/{model}/revisions",
            Endpoint::Deployment => "/v1/models/{model}/deployment",
            Endpoint::Rollback => "/v1/models/{model}/rollback",
            Endpoint::Alias => "/v1/models/{model}/aliases/{alias}",
            Endpoint::Configuration => "/v1/models/{model}/configuration",
            Endpoint::Statistics => "/v2/models/{model}/stats",
            Endpoint::ModelConfig => "/v2/models/{model}/config",
            Endpoint::RepositoryIndex => "/v2/repository/index",
            Endpoint::RepositoryLoad => "/v2/repository/models/{model}/load",
            Endpoint::RepositoryUnload => "/v2/repository/models/{model}/unload",
            Endpoint::TraceSetting => "/v2/trace/setting",
            Endpoint::Logging => "/v2/logging",
            Endpoint::Datasets => "/v1/datasets",
            Endpoint::Dataset => "/v1/datasets/{dataset}",
            Endpoint::DatasetVersions => "/v1/datasets/{dataset}/versions",
            Endpoint::DatasetVersion => "/v1/datasets/{dataset}/versions/{version}",
            Endpoint::DatasetPreview => "/v1/datasets/{dataset}/versions/{version}/preview",
            Endpoint::DatasetProfile => "/v1/datasets/{dataset}/versions/{version}/profile",
            Endpoint::Jobs => "/v1/jobs",
            Endpoint::Job => "/v1/jobs/{job}",
            Endpoint::JobPause => "/v1/jobs/{job}/pause",
            Endpoint::JobResume => "/v1/jobs/{job}/resume",
            Endpoint::JobCancel => "/v1/jobs/{job}/cancel",
            Endpoint::JobRetry => "/v1/jobs/{job}/retry",
            Endpoint::JobErrors => "/v1/jobs/{job}/errors",
            Endpoint::JobEvents => "/v1/jobs/{job}/events",
            Endpoint::Schedules => "/v1/schedules",
            Endpoint::Schedule => "/v1/schedules/{schedule}",
            Endpoint::ScheduleRuns => "/v1/schedules/{schedule}/runs",
            Endpoint::SchedulePause => "/v1/schedules/{schedule}/pause",
            Endpoint::ScheduleResume => "/v1/schedules/{schedule}/resume",
            Endpoint::ScheduleRun => "/v1/schedules/{schedule}/run",
            Endpoint::PredictionTables => "/v1/predictions",
            Endpoint::PredictionTable => "/v1/predictions/{table}",
            Endpoint::PredictionVersions => "/v1/predictions/{table}/versions",
            Endpoint::PredictionRollback => "/v1/predictions/{table}/rollback",
            Endpoint::PredictionLookup => "/v1/predictions/{table}/lookup",
            Endpoint::Prediction => "/v1/predictions/{table}/{key}",
            Endpoint::Grpc => "grpc",
            Endpoint::Unknown => "unknown",
        }
    }

    /// The methods it answers, as in the header `Allow`.
    pub(crate) const fn allow(self) -> &'static str {
        match self {
            Endpoint::Infer
            | Endpoint::Generate
            | Endpoint::GenerateStream
            | Endpoint::Completions
            | Endpoint::ChatCompletions
            | Endpoint::Embeddings
            | Endpoint::Rollback
            | Endpoint::RepositoryIndex
            | Endpoint::RepositoryLoad
            | Endpoint::RepositoryUnload
            | Endpoint::JobPause
            | Endpoint::JobResume
            | Endpoint::JobCancel
            | Endpoint::JobRetry
            | Endpoint::SchedulePause
            | Endpoint::ScheduleResume
            | Endpoint::ScheduleRun => "POST",
            Endpoint::Schedule | Endpoint::PredictionTable => "GET, HEAD, PUT, DELETE",
            Endpoint::Versions
            | Endpoint::TraceSetting
            | Endpoint::Logging
            | Endpoint::Jobs
            | Endpoint::PredictionVersions
            | Endpoint::PredictionRollback
            | Endpoint::PredictionLookup => "GET, HEAD, POST",
            Endpoint::DatasetVersions => "GET, HEAD, PUT",
            Endpoint::Version | Endpoint::DatasetVersion | Endpoint::Job => "GET, HEAD, DELETE",
            Endpoint::Deployment | Endpoint::Configuration => "GET, HEAD, PUT",
            Endpoint::Alias => "PUT, DELETE",
            _ => "GET, HEAD",
        }
    }

    /// Whether its errors look as in OpenAI's API.
    pub(crate) const fn is_openai(self) -> bool {
        matches!(self, Endpoint::Completions | Endpoint::ChatCompletions | Endpoint::Embeddings)
    }

    /// Whether it answers this method.
    pub(crate) fn allows(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// An endpoint and the names in its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route<'path> {
    pub(crate) endpoint: Endpoint,
    /// What the path is about: a model, a dataset, a prediction table.
    name: Option<Cow<'path, str>>,
    /// What of it: a version, an alias, a key.
    item: Option<Cow<'path, str>>,
}

const MAX_SEGMENTS: usize = 7;

impl<'path> Route<'path> {
    /// Where a path leads. None: nowhere.
    pub(crate) fn parse(path: &'path str) -> Option<Route<'path>> {
        let mut segments = [""; MAX_SEGMENTS];
        let mut count = 0;
        for segment in path.strip_prefix('/')?.split('/') {
            *segments.get_mut(count)? = segment;
            count += 1;
        }
        Route::of_segments(segments.get(..count)?)
    }

    fn of_segments(segments: &[&'path str]) -> Option<Route<'path>> {
        let (endpoint, name, item) = match *segments {
            [""] => (Endpoint::Index, None, None),
            ["metrics"] => (Endpoint::Metrics, None, None),
            ["v1", "engines"] => (Endpoint::Engines, None, None),
            ["v2"] => (Endpoint::ServerMetadata, None, None),
            ["v2", "health", "live"] => (Endpoint::ServerLive, None, None),
            ["v2", "health", "ready"] => (Endpoint::ServerReady, None, None),
            // A model of this name is told from the statistics by asking for its versions.
            ["v2", "models", "stats"] => (Endpoint::Statistics, None, None),
            ["v2", "models", model] => (Endpoint::ModelMetadata, Some(model), None),
            ["v2", "models", model, "ready"] => (Endpoint::ModelReady, Some(model), None),
            ["v2", "models", model, "infer"] => (Endpoint::Infer, Some(model), None),
            ["v2", "models", model, "versions", version] => {
                (Endpoint::ModelMetadata, Some(model), Some(version))
            }
            ["v2", "models", model, "versions", version, "ready"] => {
                (Endpoint::ModelReady, Some(model), Some(version))
            }
            ["v2", "models", model, "versions", version, "infer"] => {
                (Endpoint::Infer, Some(model), Some(version))
            }
            ["v2", "models", model, "generate"] => (Endpoint::Generate, Some(model), None),
            ["v2", "models", model, "generate_stream"] => (Endpoint::GenerateStream, Some(model), None),
            ["v2", "models", model, "versions", version, "generate"] => {
                (Endpoint::Generate, Some(model), Some(version))
            }
            ["v2", "models", model, "versions", version, "generate_stream"] => {
                (Endpoint::GenerateStream, Some(model), Some(version))
            }
            ["v1", "completions"] => (Endpoint::Completions, None, None),
            ["v1", "chat", "completions"] => (Endpoint::ChatCompletions, None, None),
            ["v1", "embeddings"] => (Endpoint::Embeddings, None, None),
            ["v1", "models"] => (Endpoint::Models, None, None),
            ["v1", "models", model] => (Endpoint::Model, Some(model), None),
            ["v1", "models", model, "versions"] => (Endpoint::Versions, Some(model), None),
            ["v1", "models", model, "versions", version] => (Endpoint::Version, Some(model), Some(version)),
            ["v1", "models", model, "revisions"] => (Endpoint::Revisions, Some(model), None),
            ["v1", "models", model, "deployment"] => (Endpoint::Deployment, Some(model), None),
            ["v1", "models", model, "rollback"] => (Endpoint::Rollback, Some(model), None),
            ["v1", "models", model, "configuration"] => (Endpoint::Configuration, Some(model), None),
            ["v2", "models", model, "stats"] if !model.is_empty() => {
                (Endpoint::Statistics, Some(model), None)
            }
            ["v2", "models", model, "versions", version, "stats"] => {
                (Endpoint::Statistics, Some(model), Some(version))
            }
            ["v2", "models", model, "config"] => (Endpoint::ModelConfig, Some(model), None),
            ["v2", "models", model, "versions", version, "config"] => {
                (Endpoint::ModelConfig, Some(model), Some(version))
            }
            // There is one repository, whatever a client calls it.
            ["v2", "repository", "index"] | ["v2", "repository", _, "index"] => {
                (Endpoint::RepositoryIndex, None, None)
            }
            ["v2", "repository", "models", model, "load"]
            | ["v2", "repository", _, "models", model, "load"] => {
                (Endpoint::RepositoryLoad, Some(model), None)
            }
            ["v2", "repository", "models", model, "unload"]
            | ["v2", "repository", _, "models", model, "unload"] => {
                (Endpoint::RepositoryUnload, Some(model), None)
            }
            ["v2", "trace", "setting"] => (Endpoint::TraceSetting, None, None),
            ["v2", "models", model, "trace", "setting"] => (Endpoint::TraceSetting, Some(model), None),
            ["v2", "logging"] => (Endpoint::Logging, None, None),
            ["v1", "models", model, "aliases", alias] => (Endpoint::Alias, Some(model), Some(alias)),
            ["v1", "datasets"] => (Endpoint::Datasets, None, None),
            ["v1", "datasets", name] => (Endpoint::Dataset, Some(name), None),
            ["v1", "datasets", name, "versions"] => (Endpoint::DatasetVersions, Some(name), None),
            ["v1", "datasets", name, "versions", version] => {
                (Endpoint::DatasetVersion, Some(name), Some(version))
            }
            ["v1", "datasets", name, "versions", version, "preview"] => {
                (Endpoint::DatasetPreview, Some(name), Some(version))
            }
            ["v1", "datasets", name, "versions", version, "profile"] => {
                (Endpoint::DatasetProfile, Some(name), Some(version))
            }
            ["v1", "schedules"] => (Endpoint::Schedules, None, None),
            ["v1", "schedules", name] => (Endpoint::Schedule, Some(name), None),
            ["v1", "schedules", name, "runs"] => (Endpoint::ScheduleRuns, Some(name), None),
            ["v1", "schedules", name, "pause"] => (Endpoint::SchedulePause, Some(name), None),
            ["v1", "schedules", name, "resume"] => (Endpoint::ScheduleResume, Some(name), None),
            ["v1", "schedules", name, "run"] => (Endpoint::ScheduleRun, Some(name), None),
            ["v1", "jobs"] => (Endpoint::Jobs, None, None),
            ["v1", "jobs", id] => (Endpoint::Job, Some(id), None),
            ["v1", "jobs", id, "pause"] => (Endpoint::JobPause, Some(id), None),
            ["v1", "jobs", id, "resume"] => (Endpoint::JobResume, Some(id), None),
            ["v1", "jobs", id, "cancel"] => (Endpoint::JobCancel, Some(id), None),
            ["v1", "jobs", id, "retry"] => (Endpoint::JobRetry, Some(id), None),
            ["v1", "jobs", id, "errors"] => (Endpoint::JobErrors, Some(id), None),
            ["v1", "jobs", id, "events"] => (Endpoint::JobEvents, Some(id), None),
            ["v1", "predictions"] => (Endpoint::PredictionTables, None, None),
            ["v1", "predictions", table] => (Endpoint::PredictionTable, Some(table), None),
            ["v1", "predictions", table, key] => {
                let endpoint = match key {
                    "versions" => Endpoint::PredictionVersions,
                    "rollback" => Endpoint::PredictionRollback,
                    "lookup" => Endpoint::PredictionLookup,
                    _ => Endpoint::Prediction,
                };
                (endpoint, Some(table), Some(key))
            }
            _ => return None,
        };
        Some(Route { endpoint, name: decode(name)?, item: decode(item)? })
    }

    /// Whether there is a name in the path.
    pub(crate) fn has_name(&self) -> bool {
        self.name.is_some()
    }

    /// The name in the path, of whatever kind.
    fn name<T: FromStr>(&self) -> Result<T, T::Err> {
        self.name.as_deref().unwrap_or_default().parse()
    }

    /// The model in the path.
    pub(crate) fn model(&self) -> Result<ModelName, InvalidName> {
        self.name()
    }

    /// The job in the path; none where it is no number.
    pub(crate) fn job(&self) -> Option<JobId> {
        self.name().ok()
    }

    /// The dataset in the path.
    pub(crate) fn dataset(&self) -> Result<DatasetName, InvalidName> {
        self.name()
    }

    /// The prediction table in the path.
    pub(crate) fn table(&self) -> Result<TableName, InvalidName> {
        self.name()
    }

    /// The schedule in the path.
    pub(crate) fn schedule(&self) -> Result<ScheduleName, InvalidName> {
        self.name()
    }

    /// What follows the name in the path, as it is written there.
    pub(crate) fn item(&self) -> &str {
        self.item.as_deref().unwrap_or_default()
    }

    /// The alias in the path.
    pub(crate) fn alias(&self) -> Result<AliasName, InvalidName> {
        self.item().parse()
    }

    /// The version in the path: digits are a number, everything else an alias, nothing is what is deployed.
    pub(crate) fn version(&self) -> Result<VersionSelector, InvalidName> {
        version_selector(self.item.as_deref())
    }
}

/// Which version is asked for: digits are a number, everything else an alias, nothing is what is deployed.
pub(crate) fn version_selector(version: Option<&str>) -> Result<VersionSelector, InvalidName> {
    match version {
        None => Ok(VersionSelector::Deployed),
        Some(version) => match number(version) {
            Some(number) => Ok(VersionSelector::Number(number)),
            None => version.parse().map(VersionSelector::Alias),
        },
    }
}

/// A segment without its percent signs, where there is one. None: it is no text.
fn decode(segment: Option<&str>) -> Option<Option<Cow<'_, str>>> {
    match segment {
        Some(segment) => percent_decode_str(segment).decode_utf8().ok().map(Some),
        None => Some(None),
    }
}

/// A number too large for any version is the largest, which no model gets to.
fn number(item: &str) -> Option<VersionNumber> {
    let is_number = !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| VersionNumber(item.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(path: &str) -> Option<Endpoint> {
        Route::parse(path).map(|route| route.endpoint)
    }

    #[test]
    fn every_path_has_its_endpoint() {
        let cases = [
            ("/", Endpoint::Index),
            ("/metrics", Endpoint::Metrics),
            ("/v1/engines", Endpoint::Engines),
            ("/v2", Endpoint::ServerMetadata),
            ("/v2/health/live", Endpoint::ServerLive),
            ("/v2/health/ready", Endpoint::ServerReady),
            ("/v2/models/m", Endpoint::ModelMetadata),
            ("/v2/models/m/ready", Endpoint::ModelReady),
            ("/v2/models/m/infer", Endpoint::Infer),
            ("/v2/models/m/versions/1", Endpoint::ModelMetadata),
            ("/v2/models/m/versions/1/ready", Endpoint::ModelReady),
            ("/v2/models/m/versions/champion/infer", Endpoint::Infer),
            ("/v1/models", Endpoint::Models),
            ("/v1/models/m", Endpoint::Model),
            ("/v1/models/m/versions", Endpoint::Versions),
            ("/v1/models/m/versions/1", Endpoint::Version),
            ("/v1/models/m/revisions", Endpoint::Revisions),
            ("/v1/models/m/deployment", Endpoint::Deployment),
            ("/v1/models/m/rollback", Endpoint::Rollback),
            ("/v1/models/m/aliases/champion", Endpoint::Alias),
            ("/v1/models/m/configuration", Endpoint::Configuration),
            ("/v2/models/stats", Endpoint::Statistics),
            ("/v1/datasets", Endpoint::Datasets),
            ("/v1/datasets/d", Endpoint::Dataset),
            ("/v1/datasets/d/versions", Endpoint::DatasetVersions),
            ("/v1/datasets/d/versions/latest", Endpoint::DatasetVersion),
            ("/v1/datasets/d/versions/1/preview", Endpoint::DatasetPreview),
            ("/v1/datasets/d/versions/1/profile", Endpoint::DatasetProfile),
            ("/v1/schedules", Endpoint::Schedules),
            ("/v1/schedules/s", Endpoint::Schedule),
            ("/v1/schedules/s/runs", Endpoint::ScheduleRuns),
            ("/v1/schedules/s/pause", Endpoint::SchedulePause),
            ("/v1/schedules/s/resume", Endpoint::ScheduleResume),
            ("/v1/schedules/s/run", Endpoint::ScheduleRun),
            ("/v1/jobs", Endpoint::Jobs),
            ("/v1/jobs/7", Endpoint::Job),
            ("/v1/jobs/7/pause", Endpoint::JobPause),
            ("/v1/jobs/7/resume", Endpoint::JobResume),
            ("/v1/jobs/7/cancel", Endpoint::JobCancel),
            ("/v1/jobs/7/retry", Endpoint::JobRetry),
            ("/v1/jobs/7/errors", Endpoint::JobErrors),
            ("/v1/jobs/7/events", Endpoint::JobEvents),
            ("/v1/predictions", Endpoint::PredictionTables),
            ("/v1/predictions/t", Endpoint::PredictionTable),
            ("/v1/predictions/t/versions", Endpoint::PredictionVersions),
            ("/v1/predictions/t/rollback", Endpoint::PredictionRollback),
            ("/v1/predictions/t/lookup", Endpoint::PredictionLookup),
            ("/v1/predictions/t/a%2Fb", Endpoint::Prediction),
            ("/v1/predictions/t/", Endpoint::Prediction),
            ("/v2/models/m/config", Endpoint::ModelConfig),
            ("/v2/models/m/versions/1/config", Endpoint::ModelConfig),
            ("/v2/repository/index", Endpoint::RepositoryIndex),
            ("/v2/repository/here/index", Endpoint::RepositoryIndex),
            ("/v2/repository/models/m/load", Endpoint::RepositoryLoad),
            ("/v2/repository/here/models/m/load", Endpoint::RepositoryLoad),
            ("/v2/repository/models/m/unload", Endpoint::RepositoryUnload),
            ("/v2/repository/here/models/m/unload", Endpoint::RepositoryUnload),
            ("/v2/trace/setting", Endpoint::TraceSetting),
            ("/v2/models/m/trace/setting", Endpoint::TraceSetting),
            ("/v2/logging", Endpoint::Logging),
            ("/v2/models/m/stats", Endpoint::Statistics),
            ("/v2/models/m/versions/1/stats", Endpoint::Statistics),
        ];
        for (path, expected) in cases {
            assert_eq!(endpoint(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn every_other_path_leads_nowhere() {
        for path in [
            "",
            "*",
            "v2",
            "//",
            "/v2/",
            "/V2",
            "/v2/models",
            "/v2/models/m/",
            "/v2/models/m/versions",
            "/v2/models/m/infer/x",
            "/v2/models/m/versions/1/infer/",
            "/v1",
            "/v1/models/",
            "/v1/models/m/aliases",
            "/v3/models/m",
            "/v2/models/%ff",
            "/v2/models/m/versions/%ff",
            "/a/b/c/d/e/f/g/h/i/j/k",
        ] {
            // "/v1/models/" names a model without a name, which no rule of names allows.
            if let Some(route) = Route::parse(path) {
                assert!(route.model().is_err(), "{path}: {route:?}");
            }
        }
        assert_eq!(Route::parse("/v2/models/%ff"), None);
    }

    #[test]
    fn names_are_decoded_and_checked() {
        let route = Route::parse("/v2/models/inc%6Fme/versions/00000000003").unwrap();
        assert_eq!(route.model().unwrap().as_str(), "income");
        assert!(matches!(route.version().unwrap(), VersionSelector::Number(VersionNumber(3))));
        let route = Route::parse("/v2/models/m/versions/champion/infer").unwrap();
        assert!(
            matches!(route.version().unwrap(), VersionSelector::Alias(alias) if alias.as_str() == "champion")
        );
        let route = Route::parse("/v2/models/m/versions/99999999999999999999").unwrap();
        assert!(matches!(route.version().unwrap(), VersionSelector::Number(VersionNumber(u64::MAX))));
        assert!(matches!(
            Route::parse("/v2/models/m").unwrap().version().unwrap(),
            VersionSelector::Deployed
        ));
        for path in ["/v2/models/%2e%2e", "/v2/models/a%2fb", "/v2/models/a%00"] {
            assert!(Route::parse(path).unwrap().model().is_err(), "{path}");
        }
        assert!(Route::parse("/v1/models/m/aliases/12").unwrap().alias().is_err());
        assert!(Route::parse("/v2/models/m/versions/-").unwrap().version().is_err());
    }

    #[test]
    fn methods() {
        assert!(Endpoint::Infer.allows(&Method::POST));
        assert!(!Endpoint::Infer.allows(&Method::GET));
        assert!(Endpoint::Models.allows(&Method::HEAD));
        assert!(Endpoint::Alias.allows(&Method::DELETE));
        assert!(!Endpoint::Models.allows(&Method::OPTIONS));
    }
}
