//! One sandbox: a fresh instance of a plugin with memory, handles and limits of its own, which ends with the
//! call that it was made for. A trap, or a future that is dropped halfway, leaves it unusable.

use std::time::{Duration, Instant};

use modelhost_core::{Parameter, Signature, Tensor, TensorDescription};
use wasmtime::component::{ComponentExportIndex, Instance, Resource};
use wasmtime::{Engine, Store};

use crate::bindings::Plugin as Bindings;
use crate::bindings::exports::modelhost::plugin::predictor;
use crate::call::CallError;
use crate::linked::{Linked, PredictStream, predict_stream};
use crate::state::{CallState, InferenceEnded, InferenceTime, LimitExceeded, PluginTensor};
use crate::streaming::{ResponseSender, Streamed};

/// Named tensors, in the order in which they came.
pub type NamedTensors = Vec<(String, Tensor)>;

/// What a call answered, and how its time was spent.
#[derive(Debug)]
pub struct Answer {
    /// The outputs, in the order of the signature.
    pub outputs: NamedTensors,
    /// How the time was spent.
    pub times: CallTimes,
    /// Executions that are counted for this call: those of its graphs, where a batch counts for one of its calls.
    pub executions: u32,
}

/// The parts of a call's time.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallTimes {
    /// Making the sandbox, and the plugin before its first inference.
    pub before_inference: Duration,
    /// All inference, without waiting.
    pub inference: Duration,
    /// Waiting for a turn of the graphs.
    pub queued: Duration,
    /// The rest.
    pub after_inference: Duration,
}

/// A running instance of a plugin.
pub struct Sandbox {
    store: Store<CallState>,
    bindings: Bindings,
    instance: Instance,
    predict_stream: Option<ComponentExportIndex>,
    began: Instant,
}

impl Sandbox {
    pub(crate) async fn start(
        engine: &Engine,
        linked: &Linked,
        state: CallState,
    ) -> Result<Sandbox, CallError> {
        let began = Instant::now();
        let tensor_bytes = state.limits().tensor_bytes;
        let handles = state.limits().handles;
        let mut store = Store::new(engine, state);
        store.limiter(|state| state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        // What a guest may pass to the host in one call: its tensors, and some names.
        store.set_hostcall_fuel(tensor_bytes.saturating_add(1 << 20));
        // Above the limit of the table, which is the one that is set and that is named when it is hit.
        store.set_max_component_handles(handles.saturating_mul(2).saturating_add(64));
        let instantiated = async {
            let instance = linked.pre.instantiate_async(&mut store).await?;
            Ok((linked.indices.load(&mut store, &instance)?, instance))
        };
        match instantiated.await {
            Ok((bindings, instance)) => {
                Ok(Sandbox { store, bindings, instance, predict_stream: linked.predict_stream, began })
            }
            Err(error) => Err(match explain(&error, store.data()) {
                // What neither ran nor trapped has exports of other types than the contract's.
                CallError::Trapped { reason } if !is_from_inside(&error) => {
                    CallError::ContractViolation { reason }
                }
                explained => explained,
            }),
        }
    }

    /// Asks what the plugin takes and answers. What else it exports has the types of the contract.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn signature(&mut self) -> Result<Signature, CallError> {
        self.streaming()?;
        let answer = self.bindings.modelhost_plugin_predictor().call_get_signature(&mut self.store).await;
        let signature = answer.map_err(|trap| explain(&trap, self.store.data()))?.map_err(CallError::from)?;
        Ok(Signature::from(signature))
    }

    /// Answers one request. The outputs are whatever the plugin gives; nothing is checked against a signature.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn predict(
        &mut self,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
    ) -> Result<Answer, CallError> {
        let handles = self.handles(inputs)?;
        let parameters = contract_parameters(parameters);
        let predictor = self.bindings.modelhost_plugin_predictor();
        let answer = predictor.call_predict(&mut self.store, &handles, &parameters).await;
        let outputs = answer.map_err(|trap| explain(&trap, self.store.data()))?.map_err(CallError::from)?;
        let outputs = take_outputs(self.store.data_mut(), outputs)?;
        let inference = self.store.data().inference;
        Ok(Answer { outputs, times: call_times(self.began, &inference), executions: executions(&inference) })
    }

    /// Answers one request with responses, which are checked as they are sent.
    ///
    /// # Errors
    /// [`CallError`], also where the plugin does not stream.
    pub(crate) async fn predict_stream(
        &mut self,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        responses: ResponseSender,
    ) -> Result<Streamed, CallError> {
        let Some(function) = self.streaming()? else {
            return Err(CallError::ContractViolation { reason: "it does not stream".to_owned() });
        };
        let handles = self.handles(inputs)?;
        let parameters = contract_parameters(parameters);
        let state = self.store.data_mut();
        let responses = state.push(responses).map_err(|trap| explain(&trap, self.store.data()))?;
        let borrowed = Resource::new_borrow(responses.rep());
        let ended = function.call_async(&mut self.store, (&handles, &parameters, borrowed)).await;
        let (answer,) = ended.map_err(|trap| explain(&trap, self.store.data()))?;
        answer.map_err(CallError::from)?;
        let state = self.store.data();
        let waited = state.table.get(&responses).map_or(Duration::ZERO, ResponseSender::waited);
        let inference = state.inference;
        let mut times = call_times(self.began, &inference);
        // Whether it was before or after the first inference; most plugins send nothing before.
        times.after_inference = times.after_inference.saturating_sub(waited);
        Ok(Streamed { times, waited, executions: executions(&inference) })
    }

    fn streaming<'a>(&mut self) -> Result<Option<PredictStream<'a>>, CallError> {
        let Some(index) = &self.predict_stream else { return Ok(None) };
        let function = predict_stream(&mut self.store, &self.instance, index);
        let wrong = |error| CallError::ContractViolation { reason: last_sentence(&error) };
        function.map(Some).map_err(wrong)
    }

    /// Gives the plugin its inputs.
    fn handles(&mut self, inputs: NamedTensors) -> Result<Vec<(String, Resource<PluginTensor>)>, CallError> {
        let mut handles = Vec::with_capacity(inputs.len());
        for (name, tensor) in inputs {
            let pushed = self.store.data_mut().push_tensor(tensor, PluginTensor);
            handles.push((name, pushed.map_err(|trap| explain(&trap, self.store.data()))?));
        }
        Ok(handles)
    }
}

fn contract_parameters(parameters: Vec<(String, Parameter)>) -> Vec<(String, predictor::Parameter)> {
    parameters.into_iter().map(|(name, value)| (name, value.into())).collect()
}

/// A plugin that ran no graph is what was executed.
fn executions(inference: &InferenceTime) -> u32 {
    if inference.first.is_some() { inference.executions } else { 1 }
}

fn call_times(began: Instant, inference: &InferenceTime) -> CallTimes {
    let first = inference.first.unwrap_or_else(Instant::now);
    CallTimes {
        before_inference: first.saturating_duration_since(began),
        inference: inference.total.saturating_sub(inference.queued),
        queued: inference.queued,
        after_inference: first.elapsed().saturating_sub(inference.total),
    }
}

pub(crate) fn take_outputs(
    state: &mut CallState,
    outputs: Vec<(String, Resource<PluginTensor>)>,
) -> Result<NamedTensors, CallError> {
    let limit = state.limits().output_bytes;
    let mut total = 0_usize;
    let mut tensors = Vec::with_capacity(outputs.len());
    for (name, handle) in outputs {
        let tensor = state
            .take_plugin_tensor(handle)
            .map_err(|_| CallError::ContractViolation { reason: "an output is not a tensor".to_owned() })?;
        total = total.saturating_add(tensor.data().len());
        if total > limit {
            return Err(CallError::LimitExceeded(LimitExceeded::Output { limit }));
        }
        tensors.push((name, tensor));
    }
    Ok(tensors)
}

/// What a trap means to somebody who cannot see into the sandbox.
fn explain(error: &wasmtime::Error, state: &CallState) -> CallError {
    if let Some(error) = error.downcast_ref::<CallError>() {
        return error.clone();
    }
    if let Some(limit) = error.downcast_ref::<LimitExceeded>().or(state.exceeded.as_ref()) {
        return CallError::LimitExceeded(limit.clone());
    }
    match error.downcast_ref::<InferenceEnded>() {
        Some(InferenceEnded::Overloaded) => return CallError::GraphOverloaded,
        Some(InferenceEnded::DeadlineExceeded) => {
            return CallError::DeadlineExceeded {
                milliseconds: state.time_limit().as_micros().div_ceil(1_000),
            };
        }
        None => {}
    }
    if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
        return CallError::Trapped { reason: trap.to_string() };
    }
    if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some() {
        return CallError::Trapped { reason: "it called exit".to_owned() };
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return CallError::Overloaded;
    }
    CallError::Trapped { reason: last_sentence(error) }
}

/// Whether the plugin's own code ended it.
fn is_from_inside(error: &wasmtime::Error) -> bool {
    error.is::<wasmtime::Trap>() || error.is::<wasmtime_wasi::I32Exit>()
}

/// The last cause says what is wrong; the outer ones and the backtrace say where, in terms of the host.
pub(crate) fn last_sentence(error: &wasmtime::Error) -> String {
    error.chain().last().map_or_else(|| error.to_string(), ToString::to_string)
}

impl From<predictor::Error> for CallError {
    fn from(error: predictor::Error) -> CallError {
        match error {
            predictor::Error::InvalidInput(message) => {
                CallError::InvalidInput { message: shortened(message) }
            }
            predictor::Error::Unavailable(message) => CallError::Unavailable { message: shortened(message) },
            predictor::Error::Internal(message) => CallError::Internal { message: shortened(message) },
        }
    }
}

/// A plugin's sentence reaches clients and the log; it may be of any length and content.
fn shortened(message: String) -> String {
    const MAX_CHARACTERS: usize = 1_000;
    message.chars().take(MAX_CHARACTERS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl From<Parameter> for predictor::Parameter {
    fn from(parameter: Parameter) -> predictor::Parameter {
        match parameter {
            Parameter::Boolean(value) => predictor::Parameter::Boolean(value),
            Parameter::Integer(value) => predictor::Parameter::Integer(value),
            Parameter::Number(value) => predictor::Parameter::Number(value),
            Parameter::Text(value) => predictor::Parameter::Text(value),
        }
    }
}

impl From<predictor::Signature> for Signature {
    fn from(signature: predictor::Signature) -> Signature {
        Signature {
            inputs: signature.inputs.into_iter().map(TensorDescription::from).collect(),
            outputs: signature.outputs.into_iter().map(TensorDescription::from).collect(),
        }
    }
}
