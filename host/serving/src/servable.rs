//! A version that is loaded and can answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use modelhost_core::{ErrorCode, ModelName, Signature, TensorDescription, VersionNumber};
use modelhost_inference::Priority;
use modelhost_runtime::{CallOptions, NamedTensors, Parameter, Plugin};

use crate::admission::Admission;
use crate::error::Error;
use crate::statistics::{ModelStatistics, RequestTimes};

/// A loaded version. Requests hold it while they run, so it stays until the last of them is done, whatever is
/// deployed in the meantime.
pub struct Servable {
    pub(crate) model: ModelName,
    pub(crate) version: VersionNumber,
    pub(crate) signature: Arc<Signature>,
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) statistics: ModelStatistics,
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

    /// Where its requests are counted.
    pub fn statistics(&self) -> &ModelStatistics {
        &self.statistics
    }

    /// Answers one request, in the order of the signature's outputs. `timeout` can only shorten the limit
    /// that the host sets. Dropping the future ends the request.
    ///
    /// # Errors
    /// Invalid inputs, an overloaded model, a deadline that passed, or a plugin that failed.
    pub async fn infer(
        &self,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        timeout: Option<Duration>,
    ) -> Result<NamedTensors, Error> {
        let _pending = self.statistics.pending();
        let mut times = RequestTimes::default();
        let answer = self.answer(inputs, parameters, timeout, &mut times).await;
        match &answer {
            Ok(_) => self.statistics.record_success(&times),
            Err(error) => {
                self.statistics.record_failure(error.code);
                self.log_failure(error);
            }
        }
        answer
    }

    async fn answer(
        &self,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        timeout: Option<Duration>,
        times: &mut RequestTimes,
    ) -> Result<NamedTensors, Error> {
        TensorDescription::check_all(&self.signature.inputs, "input", &inputs).map_err(|mismatch| {
            Error::new(ErrorCode::InvalidArgument, mismatch.to_string()).about(&self.model)
        })?;
        let arrived = Instant::now();
        let budget = timeout.unwrap_or(Duration::MAX);
        let place = self.place(budget).await?;
        times.queue = arrived.elapsed();
        let options =
            CallOptions { timeout: budget.saturating_sub(times.queue), priority: Priority::default() };
        let answer = self.plugin.predict(&self.signature, inputs, parameters, options).await;
        drop(place);
        let answer = answer.map_err(|error| Error::from(error).about(&self.model))?;
        times.request = arrived.elapsed();
        times.compute_input = answer.times.before_inference;
        times.queue += answer.times.queued;
        times.compute_infer = answer.times.inference;
        times.executions = answer.executions;
        times.compute_output = answer.times.after_inference;
        Ok(answer.outputs)
    }

    async fn place(&self, budget: Duration) -> Result<crate::admission::Admitted<'_>, Error> {
        let late =
            || Error::new(ErrorCode::DeadlineExceeded, "the deadline passed while the request was waiting");
        let entered = match tokio::time::timeout(budget, self.admission.enter()).await {
            Ok(entered) => entered,
            Err(_) => Err(late()),
        };
        entered.map_err(|error| error.about(&self.model))
    }

    /// What the client did wrong is the client's to read; what the plugin did wrong is the operator's too.
    fn log_failure(&self, error: &Error) {
        let is_plugins_fault = matches!(error.code, ErrorCode::PluginFailed | ErrorCode::DeadlineExceeded);
        if is_plugins_fault {
            tracing::warn!(model = %self.model, version = %self.version, reason = %error.message, "request failed");
        }
    }
}
