//! A version that can answer: cheap while nobody asks for it, its plugin brought into memory by the request that needs
//! it, and kept there for those that follow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use modelhost_core::{
    Capabilities, Digest, EnginePreference, ErrorCode, ModelConfiguration, ModelName, Parameter, Signature,
    TensorDescription, VersionNumber,
};
use modelhost_inference::Priority;
use modelhost_registry::Version;
use modelhost_runtime::{Answer, CallError, CallOptions, NamedTensors, ResponseSender, Share, Streamed};
use serde::Serialize;
use tokio_util::task::AbortOnDropHandle;

use crate::admission::{Admission, Asking, Place};
use crate::ensemble::{Pipeline, StepRequest};
use crate::error::Error;
use crate::estimate::Estimate;
use crate::live::LiveModel;
use crate::loader::Loader;
use crate::operate::finish;
use crate::residency::Resident;
use crate::statistics::{ModelStatistics, RequestTimes};
use crate::stream::Responses;
use crate::tasks::embedding;
use crate::warm_up::Effort;

/// A version that does not load is not tried again for this long: each attempt may compile it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A version. Requests hold its plugin while they run, so that it stays until the last of them is done, whatever is
/// deployed or evicted in the meantime.
pub struct Servable {
    pub(crate) model: ModelName,
    pub(crate) version: VersionNumber,
    pub(crate) signature: Arc<Signature>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) statistics: ModelStatistics,
    /// From the start of a request to its answer.
    service_time: Estimate,
    share: Share,
    record: Version,
    configuration: Arc<ArcSwap<ModelConfiguration>>,
    loader: Arc<Loader>,
    /// Of an ensemble: its steps, or why it has not all of them. It never has a plugin.
    pipeline: Option<Result<Pipeline, Error>>,
    /// Its plugin, while it is in memory.
    resident: ArcSwapOption<Resident>,
    /// Held while it is loaded, so that all who need it wait for one load. Keeps the last failure.
    loading: tokio::sync::Mutex<Option<(Instant, Error)>>,
    /// By the clock of the residency.
    last_used: AtomicU64,
    was_loaded: AtomicBool,
    is_deleted: AtomicBool,
    /// Of plugins that were evicted.
    earlier_peak_bytes: AtomicU64,
}

/// What a request asks for besides an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestOptions {
    /// How long its client waits. It can only shorten the limit that the host sets.
    pub timeout: Option<Duration>,
    /// Which requests of the model go first: 1 is the highest, nothing is the priority of all who say nothing.
    pub priority: Option<u32>,
}

/// Who asks for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// One who waits for it.
    Client,
    /// An ensemble, of which this is a step.
    Ensemble,
}

impl Caller {
    /// Whose fault it is where inputs do not fit the signature. What a client gives to an ensemble is checked there, against
    /// the signatures of all steps that take it: what does not fit a step was made by another one.
    fn misfit(self) -> ErrorCode {
        match self {
            Caller::Client => ErrorCode::InvalidArgument,
            Caller::Ensemble => ErrorCode::PluginFailed,
        }
    }
}

/// What a version takes of the host's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUsage {
    /// Whether its plugin is in memory; where it is not, the next request loads it.
    pub loaded: bool,
    /// At rest: bytes of compiled code, mapped from its file.
    pub code_bytes: u64,
    /// At rest: bytes of networks that no other version runs.
    pub graph_bytes: u64,
    /// At rest: bytes of networks that it shares with other versions.
    pub shared_graph_bytes: u64,
    /// In use: bytes of sandboxes and tensors now.
    pub in_use_bytes: u64,
    /// In use: the most since the host was started.
    pub peak_in_use_bytes: u64,
}

impl Servable {
    pub(crate) fn new(
        loader: Arc<Loader>,
        live: &LiveModel,
        record: Version,
        pipeline: Option<Result<Pipeline, Error>>,
    ) -> Servable {
        let admission = if pipeline.is_some() { &live.ensemble_admission } else { &live.admission };
        Servable {
            model: live.name.clone(),
            version: record.number,
            signature: Arc::new(record.signature.clone()),
            admission: admission.clone(),
            statistics: loader.statistics.of(&live.name, record.number),
            service_time: Estimate::default(),
            share: live.share.clone(),
            record,
            configuration: live.configuration.clone(),
            loader,
            pipeline,
            resident: ArcSwapOption::empty(),
            loading: tokio::sync::Mutex::new(None),
            last_used: AtomicU64::new(0),
            was_loaded: AtomicBool::new(false),
            is_deleted: AtomicBool::new(false),
            earlier_peak_bytes: AtomicU64::new(0),
        }
    }

    /// The model's name.
    pub fn model(&self) -> &ModelName {
        &self.model
    }

    /// The version's number.
    pub fn version(&self) -> VersionNumber {
        self.version
    }

    /// What it takes and answers.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Where its requests are counted.
    pub fn statistics(&self) -> &ModelStatistics {
        &self.statistics
    }

    /// Its steps, where it is an ensemble.
    ///
    /// # Errors
    /// Where one of them does not exist.
    pub(crate) fn pipeline(&self) -> Result<Option<&Pipeline>, Error> {
        match &self.pipeline {
            None => Ok(None),
            Some(Ok(pipeline)) => Ok(Some(pipeline)),
            Some(Err(error)) => Err(error.clone()),
        }
    }

    /// The digest of its component, or of what it is declared to be.
    pub fn digest(&self) -> &Digest {
        &self.record.digest
    }

    /// What it takes of the host's memory.
    pub fn memory_usage(&self) -> MemoryUsage {
        if let Some(Ok(pipeline)) = &self.pipeline {
            return pipeline.memory_usage();
        }
        let earlier_peak = self.earlier_peak_bytes.load(Relaxed);
        let Some(resident) = self.resident.load_full() else {
            return MemoryUsage { peak_in_use_bytes: earlier_peak, ..MemoryUsage::default() };
        };
        let memory = resident.plugin.memory();
        MemoryUsage {
            loaded: true,
            code_bytes: resident.code_bytes,
            graph_bytes: memory.graph_bytes,
            shared_graph_bytes: memory.shared_graph_bytes,
            in_use_bytes: memory.in_use_bytes,
            peak_in_use_bytes: memory.peak_in_use_bytes.max(earlier_peak),
        }
    }

    /// Whether a request has any prospect of being answered now. To be asked before work is done for it.
    ///
    /// # Errors
    /// An overloaded model.
    pub fn check_load(&self) -> Result<(), Error> {
        self.admission.check().map_err(|error| error.about(&self.model))
    }

    /// What it can do beside answering one request with one response.
    pub fn capabilities(&self) -> &Capabilities {
        &self.record.capabilities
    }

    /// The output that holds a row of numbers for each text, of a model for [`Task::FeatureExtraction`](crate::Task).
    pub fn embedding_output(&self) -> Option<&TensorDescription> {
        embedding(&self.signature)
    }

    /// Answers one request, in the order of the signature's outputs. Dropping the future ends the request.
    ///
    /// # Errors
    /// Invalid inputs, an overloaded model, a deadline that passed or would, or a plugin that failed.
    pub async fn infer(
        self: &Arc<Self>,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        options: RequestOptions,
    ) -> Result<NamedTensors, Error> {
        let (answer, _) = self.infer_counted(inputs, parameters, options, Caller::Client).await;
        answer.map_err(|error| error.about(&self.model))
    }

    /// The same for a step of an ensemble, whose error is not about the model yet, and how the time was spent. Boxed, for the
    /// step may be an ensemble too.
    pub(crate) fn infer_as_step(
        self: Arc<Self>,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        options: RequestOptions,
    ) -> BoxFuture<'static, (Result<NamedTensors, Error>, RequestTimes)> {
        async move { self.infer_counted(inputs, parameters, options, Caller::Ensemble).await }.boxed()
    }

    /// Answers one request with as many responses as its plugin likes; with one, where it does not stream, and where it
    /// is an ensemble. The request is one in every count, and all of it has the time that any request has.
    ///
    /// Must be called within a Tokio runtime, where the call goes on by itself.
    pub fn infer_stream(
        self: &Arc<Self>,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        options: RequestOptions,
    ) -> Responses {
        let (sender, receiver) = self.loader.runtime.response_channel(&self.signature);
        let servable = self.clone();
        let call = tokio::spawn(async move { servable.send_all(inputs, parameters, options, sender).await });
        Responses::new(receiver, AbortOnDropHandle::new(call))
    }

    async fn send_all(
        self: &Arc<Self>,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        options: RequestOptions,
        mut sender: ResponseSender,
    ) -> Result<(), Error> {
        let about = |error: Error| error.about(&self.model);
        if self.pipeline.is_some() {
            let outputs = self.infer(inputs, parameters, options).await?;
            // There is always room for the first response, so that nobody waits for the client here.
            return sender.send(outputs).await.map_err(|error| about(error.into()));
        }
        let stream = |resident: Arc<Resident>, inputs, options| async move {
            let streamed = resident.plugin.predict_stream(inputs, parameters, options, sender).await?;
            Ok(((), streamed))
        };
        let answering = async {
            let mut times = RequestTimes::default();
            (self.run_plugin(inputs, options, Caller::Client, &mut times, stream).await, times)
        };
        self.counted(answering).await.0.map_err(about)
    }

    async fn infer_counted(
        self: &Arc<Self>,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        options: RequestOptions,
        caller: Caller,
    ) -> (Result<NamedTensors, Error>, RequestTimes) {
        let answering = async {
            let mut times = RequestTimes::default();
            let answer = if self.pipeline.is_some() {
                self.run_pipeline(inputs, parameters, options, caller, &mut times).await
            } else {
                let predict = |resident: Arc<Resident>, inputs, options| async move {
                    let answer =
                        resident.plugin.predict(&self.signature, inputs, parameters, options).await?;
                    let Answer { outputs, times, executions } = answer;
                    Ok((outputs, Streamed { times, waited: Duration::ZERO, executions }))
                };
                self.run_plugin(inputs, options, caller, &mut times, predict).await
            };
            (answer, times)
        };
        self.counted(answering).await
    }

    /// Lets a request be answered and counts what becomes of it.
    async fn counted<T>(
        &self,
        answering: impl Future<Output = (Result<T, Error>, RequestTimes)>,
    ) -> (Result<T, Error>, RequestTimes) {
        let _pending = self.statistics.pending();
        let arrived = Instant::now();
        let trace = self.loader.traces.sample(&self.model);
        let (answer, times) = answering.await;
        match &answer {
            Ok(_) => {
                self.statistics.record_success(&times);
                if let Some(trace) = trace {
                    trace.write(&self.model, self.version, &times);
                }
            }
            Err(error) => {
                self.statistics.record_failure(error.code, arrived.elapsed());
                self.log_failure(error);
            }
        }
        (answer, times)
    }

    /// Runs the steps of an ensemble.
    async fn run_pipeline(
        &self,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        options: RequestOptions,
        caller: Caller,
        times: &mut RequestTimes,
    ) -> Result<NamedTensors, Error> {
        self.check_inputs(&inputs, caller)?;
        times.rows = rows(&self.signature, &inputs);
        let Some(pipeline) = self.pipeline()? else { return Err(Error::internal("it is no ensemble")) };
        let arrived = Instant::now();
        let asking = self.asking(options, arrived);
        let request = StepRequest { parameters, priority: options.priority, deadline: asking.deadline };
        // Only the outermost ensemble takes a place among ensembles: whoever holds one waits for slots of steps, and
        // nobody with a slot waits for a place, so that none of them waits for itself.
        let place = match caller {
            Caller::Client => Some(self.admission.enter(asking).await?),
            Caller::Ensemble => None,
        };
        times.queue = arrived.elapsed();
        times.admission = times.queue;
        let answer = pipeline.infer(inputs, request, times).await;
        drop(place);
        times.request = arrived.elapsed();
        if answer.is_ok() {
            self.service_time.record(times.request.saturating_sub(times.admission));
        }
        answer
    }

    /// Runs a call of the plugin.
    async fn run_plugin<T, F>(
        self: &Arc<Self>,
        inputs: NamedTensors,
        options: RequestOptions,
        caller: Caller,
        times: &mut RequestTimes,
        call: impl FnOnce(Arc<Resident>, NamedTensors, CallOptions) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<(T, Streamed), CallError>>,
    {
        self.check_inputs(&inputs, caller)?;
        times.rows = rows(&self.signature, &inputs);
        let arrived = Instant::now();
        let budget = options.timeout.unwrap_or(Duration::MAX);
        let priority = Priority::of_request(options.priority);
        let (place, resident) = self.enter(self.asking(options, arrived)).await?;
        times.queue = arrived.elapsed();
        times.admission = times.queue;
        let timeout = budget.saturating_sub(arrived.elapsed());
        let began = Instant::now();
        let answer = call(resident, inputs, CallOptions { timeout, priority }).await;
        drop(place);
        times.request = arrived.elapsed();
        // A client that takes its time says nothing about how long such requests take.
        let waited = answer.as_ref().map_or(Duration::ZERO, |(_, streamed)| streamed.waited);
        self.learn(began.elapsed().saturating_sub(waited), answer.as_ref().err());
        let (answer, spent) = answer.map_err(Error::from)?;
        times.compute_input = spent.times.before_inference;
        times.queue += spent.times.queued;
        times.compute_infer = spent.times.inference;
        times.executions = spent.executions;
        times.compute_output = spent.times.after_inference;
        Ok(answer)
    }

    fn check_inputs(&self, inputs: &NamedTensors, caller: Caller) -> Result<(), Error> {
        TensorDescription::check_all(&self.signature.inputs, "input", inputs)
            .map_err(|mismatch| Error::new(caller.misfit(), mismatch.to_string()))
    }

    fn asking(&self, options: RequestOptions, arrived: Instant) -> Asking {
        Asking {
            priority: Priority::of_request(options.priority).0,
            deadline: options.timeout.and_then(|timeout| arrived.checked_add(timeout)),
            service_time: self.service_time.get(),
        }
    }

    /// Its plugin, loaded where it is not in memory.
    pub(crate) async fn resident(self: &Arc<Self>) -> Result<Arc<Resident>, Error> {
        match self.resident_now() {
            Some(resident) => Ok(resident),
            None => self.load_before(None).await,
        }
    }

    /// Waits for a slot, and for the plugin to be in memory: without a slot, which others can use meanwhile.
    async fn enter(self: &Arc<Self>, asking: Asking) -> Result<(Place, Arc<Resident>), Error> {
        // Held, so that it is not evicted while the request waits.
        let loaded = match self.resident_now() {
            Some(resident) => resident,
            None => {
                let _outside = self.admission.wait_outside()?;
                self.load_before(asking.deadline).await?
            }
        };
        let place = self.admission.enter(asking).await?;
        // It may have been replaced since.
        Ok((place, self.resident_now().unwrap_or(loaded)))
    }

    async fn load_before(self: &Arc<Self>, deadline: Option<Instant>) -> Result<Arc<Resident>, Error> {
        let late =
            || Error::new(ErrorCode::DeadlineExceeded, "the deadline passed while the version was loaded");
        let loaded = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), self.load(Effort::BRIEF)).await,
            None => Ok(self.load(Effort::BRIEF).await),
        };
        loaded.unwrap_or_else(|_| Err(late())).map_err(unavailable)
    }

    fn resident_now(&self) -> Option<Arc<Resident>> {
        let resident = self.resident.load_full()?;
        self.last_used.store(self.loader.residency.now(), Relaxed);
        Some(resident)
    }

    /// A request that was cut off took longer than its time, which is news only where less was expected.
    fn learn(&self, time: Duration, failure: Option<&CallError>) {
        let is_longer = || self.service_time.get().is_none_or(|known| time > known);
        match failure {
            None => self.service_time.record(time),
            Some(CallError::DeadlineExceeded { .. }) if is_longer() => self.service_time.record(time),
            Some(_) => {}
        }
    }

    /// What the client did wrong is the client's to read; what the plugin did wrong is the operator's too.
    fn log_failure(&self, error: &Error) {
        let is_plugins_fault = matches!(error.code, ErrorCode::PluginFailed | ErrorCode::DeadlineExceeded);
        if is_plugins_fault {
            tracing::warn!(model = %self.model, version = %self.version, reason = %error.message, "request failed");
        }
    }

    /// Brings it into memory and up to speed, before it is to take requests.
    ///
    /// # Errors
    /// Where it does not load.
    pub(crate) async fn make_ready(self: &Arc<Self>) -> Result<(), Error> {
        if let Some(pipeline) = self.pipeline()? {
            return pipeline.make_ready().await;
        }
        match self.resident_now() {
            Some(_) => Ok(()),
            None => self.load(Effort::THOROUGH).await.map(|_| ()),
        }
    }

    /// Whether it can answer. One that was in memory before will be again.
    pub(crate) async fn check_ready(self: &Arc<Self>) -> Result<(), Error> {
        if let Some(pipeline) = self.pipeline()? {
            return pipeline.check_ready().await;
        }
        if self.was_loaded.load(Relaxed) { Ok(()) } else { self.make_ready().await.map_err(unavailable) }
    }

    /// Loads it, or waits for whoever loads it already. Runs to its end even where the caller goes away: others wait for it.
    async fn load(self: &Arc<Self>, effort: Effort) -> Result<Arc<Resident>, Error> {
        let servable = self.clone();
        finish(async move { servable.load_once(effort).await }).await
    }

    async fn load_once(self: Arc<Self>, effort: Effort) -> Result<Arc<Resident>, Error> {
        let mut last_failure = self.loading.lock().await;
        if let Some(resident) = self.resident_now() {
            return Ok(resident);
        }
        if self.is_deleted.load(Relaxed) {
            let Servable { model, version, .. } = &*self;
            return Err(Error::new(ErrorCode::NotFound, format!("model {model} has no version {version}")));
        }
        if let Some((when, error)) = &*last_failure
            && when.elapsed() < RETRY_AFTER
        {
            return Err(error.clone());
        }
        match self.load_as_configured(effort).await {
            Ok((resident, preference)) => {
                *last_failure = None;
                self.take(&resident);
                if self.configuration.load().engine != preference {
                    // Configured in this very moment. The next request loads it as it is wanted now.
                    self.evict();
                }
                Ok(resident)
            }
            Err(error) => {
                *last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Once more where another engine was configured meanwhile.
    async fn load_as_configured(&self, effort: Effort) -> Result<(Arc<Resident>, EnginePreference), Error> {
        loop {
            let preference = self.configuration.load().engine;
            let resident = self.load_for(preference, effort).await?;
            if self.configuration.load().engine == preference {
                return Ok((resident, preference));
            }
        }
    }

    async fn load_for(&self, preference: EnginePreference, effort: Effort) -> Result<Arc<Resident>, Error> {
        self.loader.load(&self.model, &self.record, preference, self.share.clone(), effort).await
    }

    /// Loads it once more, up to speed, as it is to be served with another engine. Nobody is given this before it is
    /// [put in place](Servable::replace).
    ///
    /// # Errors
    /// Where it does not load, or not with this engine.
    pub(crate) async fn load_anew(&self, preference: EnginePreference) -> Result<Arc<Resident>, Error> {
        // Loading goes on with another engine where the wanted one fails; here that is a refusal. Held so that they
        // are found in the cache.
        let _graphs = match preference.engine() {
            Some(engine) => self.loader.graphs_on(&self.record, engine).await?,
            None => Vec::new(),
        };
        self.load_for(preference, Effort::THOROUGH).await
    }

    /// Lets requests that begin from now on run in what was loaded anew.
    pub(crate) fn replace(self: &Arc<Self>, resident: &Arc<Resident>) {
        self.evict();
        self.take(resident);
    }

    fn take(self: &Arc<Self>, resident: &Arc<Resident>) {
        self.resident.store(Some(resident.clone()));
        self.was_loaded.store(true, Relaxed);
        self.last_used.store(self.loader.residency.now(), Relaxed);
        if self.is_deleted.load(Relaxed) {
            self.resident.store(None);
        }
        let servable = self.clone();
        // What has to go for it is dropped, which blocks; nobody has to wait for that.
        tokio::task::spawn_blocking(move || servable.loader.residency.admit(&servable));
    }

    /// Why it did not load the last time; nothing where it did, or is being loaded now.
    pub(crate) fn last_failure(&self) -> Option<Error> {
        let last_failure = self.loading.try_lock().ok()?;
        last_failure.as_ref().map(|(_, error)| error.clone())
    }

    /// Whether somebody loads it now.
    pub(crate) fn is_loading(&self) -> bool {
        !self.is_loaded() && self.loading.try_lock().is_err()
    }

    /// Whether its plugin is in memory.
    pub(crate) fn is_loaded(&self) -> bool {
        self.resident.load().is_some()
    }

    /// When it was last asked for, by the clock of the residency.
    pub(crate) fn last_used(&self) -> u64 {
        self.last_used.load(Relaxed)
    }

    /// Bytes that it is expected to take once it is loaded, graphs that are loaded already not looked for.
    pub(crate) fn expected_bytes(&self) -> u64 {
        if let Some(Ok(pipeline)) = &self.pipeline {
            return pipeline.expected_bytes();
        }
        self.record.compiled_size_bytes + self.record.graphs.iter().map(|graph| graph.size_bytes).sum::<u64>()
    }

    /// Lets its plugin go, unless a request holds it. A request that comes at this very moment keeps it alive for
    /// itself.
    pub(crate) fn evict_if_idle(&self) -> bool {
        // One owner is the servable, and one is here.
        let is_idle = self.resident.load_full().is_some_and(|resident| Arc::strong_count(&resident) == 2);
        if is_idle {
            self.evict();
        }
        is_idle
    }

    /// Lets its plugin go; requests that hold it finish.
    pub(crate) fn evict(&self) {
        if let Some(resident) = self.resident.swap(None) {
            self.earlier_peak_bytes.fetch_max(resident.plugin.memory().peak_in_use_bytes, Relaxed);
        }
    }

    /// Ends it: it was deleted.
    pub(crate) fn retire(&self) {
        self.is_deleted.store(true, Relaxed);
        self.evict();
    }
}

/// The rows of a request: the first extent of its inputs, where the signature leaves that free for all of them and they
/// agree; else the request counts as one.
fn rows(signature: &Signature, inputs: &NamedTensors) -> u64 {
    let are_free = signature.inputs.iter().all(|input| input.shape.first() == Some(&-1));
    let mut extents = inputs.iter().map(|(_, tensor)| tensor.shape().first().copied());
    match extents.next().flatten() {
        Some(first) if are_free && extents.all(|extent| extent == Some(first)) => first,
        _ => 1,
    }
}

/// A version that was accepted once and does not load now is nothing that a client can mend.
fn unavailable(error: Error) -> Error {
    match error.code {
        ErrorCode::Internal | ErrorCode::NotFound => error,
        _ => Error::new(ErrorCode::Unavailable, error.message),
    }
}
