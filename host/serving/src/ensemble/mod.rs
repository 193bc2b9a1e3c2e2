//! Versions that are ensembles: how one is made of a declaration, what it holds of the versions of its steps, and how a
//! request goes through them. Each step is a call of a version like any other: with a sandbox, a place and statistics of its
//! own.

mod declare;
mod run;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use modelhost_core::{Ensemble, EnsemblePlan, ErrorCode, Parameter};
use modelhost_runtime::{CallError, LimitExceeded, MemoryBudget, NamedTensors};
use parking_lot::Mutex;

use crate::background::BackgroundError;
use crate::error::Error;
use crate::servable::{MemoryUsage, RequestOptions, Servable};
use crate::statistics::RequestTimes;
use run::Failed;

/// The steps of a version that is an ensemble.
pub(crate) struct Pipeline {
    ensemble: Ensemble,
    plan: EnsemblePlan,
    steps: Vec<Arc<Servable>>,
    /// Of tensors between steps.
    memory: Arc<MemoryBudget>,
}

/// What holds for all steps of a request.
pub(crate) struct StepRequest {
    pub(crate) parameters: Vec<(String, Parameter)>,
    pub(crate) priority: Option<u32>,
    /// Of the whole request, if its client said so.
    pub(crate) deadline: Option<Instant>,
}

impl Pipeline {
    pub(crate) fn new(ensemble: Ensemble, steps: Vec<Arc<Servable>>, memory: Arc<MemoryBudget>) -> Pipeline {
        Pipeline { plan: EnsemblePlan::new(&ensemble), ensemble, steps, memory }
    }

    /// Answers a request, in the order of the ensemble's outputs, with as many steps at once as can run. Dropping the future
    /// ends all of them. The time of each is added to `times`.
    ///
    /// # Errors
    /// That of the first step that fails, which it names.
    pub(crate) async fn infer(
        &self,
        inputs: NamedTensors,
        request: StepRequest,
        times: &mut RequestTimes,
    ) -> Result<NamedTensors, Error> {
        let total = Mutex::new(RequestTimes::default());
        let call = |step: usize, inputs: NamedTensors| {
            let servable = self.step(step);
            let total = &total;
            let request = &request;
            async move {
                let left = request.deadline.map(|at| at.saturating_duration_since(Instant::now()));
                let options = RequestOptions { timeout: left, priority: request.priority };
                let (answer, spent) =
                    servable?.infer_as_step(inputs, request.parameters.clone(), options).await;
                total.lock().add(&spent);
                answer
            }
        };
        let answer = run::run(&self.plan, &self.memory, inputs, call).await;
        times.add(&total.into_inner());
        // However many executions its steps had, it was executed once.
        times.executions = 1;
        answer.map_err(|failed| match failed {
            Failed::Step { step, error } => self.blame(step, error),
            Failed::Memory { step } => {
                let short = Error::new(ErrorCode::Unavailable, LimitExceeded::HostMemory.to_string());
                self.blame(step, short)
            }
            Failed::Missing(missing) => Error::internal(missing),
        })
    }

    /// The same for a call for which nobody waits, of which each step may take this long.
    ///
    /// # Errors
    /// That of the first step that fails, which it names.
    pub(crate) async fn infer_in_background(
        &self,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        timeout: Duration,
    ) -> Result<NamedTensors, BackgroundError> {
        let call = |step: usize, inputs: NamedTensors| {
            let (servable, parameters) = (self.step(step), parameters.clone());
            async move { step_in_background(servable?, inputs, parameters, timeout).await }
        };
        let answer = run::run(&self.plan, &self.memory, inputs, call).await;
        answer.map_err(|failed| {
            let (step, error) = match failed {
                Failed::Step { step, error } => (step, error),
                Failed::Memory { step } => (step, CallError::LimitExceeded(LimitExceeded::HostMemory).into()),
                Failed::Missing(missing) => return Error::internal(missing).into(),
            };
            BackgroundError::Step { step: self.ensemble.title(step).to_string(), error: Box::new(error) }
        })
    }

    fn step(&self, step: usize) -> Result<Arc<Servable>, Error> {
        self.steps.get(step).cloned().ok_or_else(|| Error::internal("an ensemble has lost a step"))
    }

    /// A step that cannot answer what an earlier one gave it is no fault of the client's.
    fn blame(&self, step: usize, error: Error) -> Error {
        let code = match error.code {
            ErrorCode::InvalidArgument if !self.plan.has_request_input(step) => ErrorCode::PluginFailed,
            ErrorCode::NotFound => ErrorCode::Unavailable,
            code => code,
        };
        Error { code, message: format!("{}: {}", self.ensemble.title(step), error.message), ..error }
    }

    /// Brings all steps into memory and up to speed.
    ///
    /// # Errors
    /// The first that does not load.
    pub(crate) fn make_ready(&self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            for (index, step) in self.steps.iter().enumerate() {
                step.make_ready().await.map_err(|error| self.blame(index, error))?;
            }
            Ok(())
        }
        .boxed()
    }

    /// Whether all steps can answer.
    ///
    /// # Errors
    /// The first that cannot.
    pub(crate) fn check_ready(&self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            for (index, step) in self.steps.iter().enumerate() {
                step.check_ready().await.map_err(|error| self.blame(index, error))?;
            }
            Ok(())
        }
        .boxed()
    }

    /// What it holds beside its steps, whose memory is their own. It is loaded where all of them are.
    pub(crate) fn memory_usage(&self) -> MemoryUsage {
        MemoryUsage {
            loaded: self.steps.iter().all(|step| step.memory_usage().loaded),
            in_use_bytes: self.memory.used() as u64,
            peak_in_use_bytes: self.memory.peak() as u64,
            ..MemoryUsage::default()
        }
    }

    /// Of all steps.
    pub(crate) fn expected_bytes(&self) -> u64 {
        self.steps.iter().map(|step| step.expected_bytes()).sum()
    }
}

/// Boxed, for a step may be an ensemble too.
fn step_in_background(
    servable: Arc<Servable>,
    inputs: NamedTensors,
    parameters: Vec<(String, Parameter)>,
    timeout: Duration,
) -> BoxFuture<'static, Result<NamedTensors, BackgroundError>> {
    async move { servable.infer_in_background(inputs, parameters, timeout).await }.boxed()
}
