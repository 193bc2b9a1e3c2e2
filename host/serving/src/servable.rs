//! A version that is loaded and can answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use modelhost_core::{ErrorCode, ModelName, Signature, TensorDescription, VersionNumber};
use modelhost_inference::Priority;
use modelhost_runtime::{CallError, CallOptions, NamedTensors, Parameter, Plugin, PluginMemory};

use crate::admission::{Admission, Asking};
use crate::error::Error;
use crate::estimate::Estimate;
use crate::statistics::{ModelStatistics, RequestTimes};

/// A loaded version. Requests hold it while they run, so it stays until the last of them is done, whatever is
/// deployed in the meantime.
pub struct Servable {
    pub(crate) model: ModelName,
    pub(crate) version: VersionNumber,
    pub(crate) signature: Arc<Signature>,
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) admission: Arc<Admission>,
    /// From the start of a request to its answer.
    pub(crate) service_time: Estimate,
    pub(crate) statistics: ModelStatistics,
}

/// What a request asks for besides an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestOptions {
    /// How long its client waits. It can only shorten the limit that the host sets.
    pub timeout: Option<Duration>,
    /// Which requests of the model go first: 1 is the highest, nothing is the priority of all who say nothing.
    pub priority: Option<u32>,
}

impl Servable {
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

    /// Bytes that it holds.
    pub fn memory(&self) -> PluginMemory {
        self.plugin.memory()
    }

    /// Where its requests are counted.
    pub fn statistics(&self) -> &ModelStatistics {
        &self.statistics
    }

    /// Whether a request has any prospect of being answered now. To be asked before its body is read.
    ///
    /// # Errors
    /// An overloaded model.
    pub fn check_load(&self) -> Result<(), Error> {
        self.admission.check().map_err(|error| error.about(&self.model))
    }

    /// Answers one request, in the order of the signature's outputs. Dropping the future ends the request.
    ///
    /// # Errors
    /// Invalid inputs, an overloaded model, a deadline that passed or would, or a plugin that failed.
    pub async fn infer(
        &self,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        options: RequestOptions,
    ) -> Result<NamedTensors, Error> {
        let _pending = self.statistics.pending();
        let arrived = Instant::now();
        let mut times = RequestTimes::default();
        let answer = self.answer(inputs, parameters, options, &mut times).await;
        match &answer {
            Ok(_) => self.statistics.record_success(&times),
            Err(error) => {
                self.statistics.record_failure(error.code, arrived.elapsed());
                self.log_failure(error);
            }
        }
        answer
    }

    async fn answer(
        &self,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        options: RequestOptions,
        times: &mut RequestTimes,
    ) -> Result<NamedTensors, Error> {
        TensorDescription::check_all(&self.signature.inputs, "input", &inputs).map_err(|mismatch| {
            Error::new(ErrorCode::InvalidArgument, mismatch.to_string()).about(&self.model)
        })?;
        let arrived = Instant::now();
        let deadline = options.timeout.and_then(|timeout| arrived.checked_add(timeout));
        let priority = options.priority.map_or_else(Priority::default, Priority);
        let service_time = self.service_time.get();
        let asking = Asking { priority: priority.0, deadline, service_time };
        let place = self.admission.enter(asking).await.map_err(|error| error.about(&self.model))?;
        times.queue = arrived.elapsed();
        let timeout = options.timeout.unwrap_or(Duration::MAX).saturating_sub(times.queue);
        let answer =
            self.plugin.predict(&self.signature, inputs, parameters, CallOptions { timeout, priority }).await;
        drop(place);
        times.request = arrived.elapsed();
        self.learn(times.request - times.queue, answer.as_ref().err());
        let answer = answer.map_err(|error| Error::from(error).about(&self.model))?;
        times.compute_input = answer.times.before_inference;
        times.compute_infer = answer.times.inference;
        times.compute_output = answer.times.after_inference;
        Ok(answer.outputs)
    }

    /// A request that was cut off took longer than its time, which is news only where less was expected.
    fn learn(&self, time: Duration, failure: Option<&CallError>) {
        match failure {
            None => self.service_time.record(time),
            Some(CallError::DeadlineExceeded { .. })
                if self.service_time.get().is_none_or(|known| time > known) =>
            {
                self.service_time.record(time);
            }
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
}
