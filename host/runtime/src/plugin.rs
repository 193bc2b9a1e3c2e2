//! A version that is ready to be called: compiled code, linked, with its graphs. Each call gets a sandbox of
//! its own and leaves nothing behind.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use modelhost_core::{Signature, Tensor, TensorDescription};
use wasmtime::Store;
use wasmtime::component::{Component, Resource};

use crate::bindings::exports::modelhost::plugin::predictor;
use crate::bindings::{Plugin as Bindings, PluginPre};
use crate::call::{CallError, Parameter};
use crate::log::CallLog;
use crate::refusal::Refusal;
use crate::runtime::Runtime;
use crate::signature::check_signature;
use crate::state::{CallState, Graphs, LimitExceeded, PluginTensor};

/// Named tensors, in the order in which they came.
pub type NamedTensors = Vec<(String, Tensor)>;

/// A version that is ready to be called. Shared by all its calls.
pub struct Plugin {
    runtime: Arc<Runtime>,
    pre: PluginPre<CallState>,
    graphs: Arc<Graphs>,
    /// Model and version, such as `income/3`, for the log.
    origin: Arc<str>,
}

impl Plugin {
    /// Loads compiled code and links it. `origin` marks the plugin's lines in the log.
    ///
    /// # Safety
    /// `compiled` must be a file that this host's [`crate::Compiler`] wrote and that nobody has changed
    /// since: its machine code is run as it is.
    ///
    /// # Errors
    /// [`Refusal`] where the component does not fit the contract or no sandbox is large enough for it.
    pub unsafe fn load(
        runtime: Arc<Runtime>,
        compiled: &Path,
        graphs: Graphs,
        origin: &str,
    ) -> Result<Plugin, Refusal> {
        // SAFETY: the caller vouches for the file.
        let component = unsafe { Component::deserialize_file(runtime.engine(), compiled) }
            .map_err(|error| Refusal::WrongWorld { reason: format!("{error:#}") })?;
        check_resources(&component, &runtime)?;
        let pre = runtime
            .linker()
            .instantiate_pre(&component)
            .and_then(PluginPre::new)
            .map_err(|error| Refusal::WrongWorld { reason: last_sentence(&error) })?;
        // A failure here only makes the first call slower, and will be met there again.
        let _ = component.initialize_copy_on_write_image();
        Ok(Plugin { runtime, pre, graphs: Arc::new(graphs), origin: origin.into() })
    }

    /// Starts the plugin once and asks what it takes and answers.
    ///
    /// # Errors
    /// [`Refusal::DoesNotStart`] or [`Refusal::InvalidSignature`].
    pub async fn signature(self: &Arc<Self>) -> Result<Signature, Refusal> {
        let plugin = self.clone();
        let limit = self.runtime.settings().limits.wall_time();
        let answer = self.runtime.run(limit, move |deadline| async move {
            let (mut store, bindings) = plugin.instantiate(deadline).await?;
            let answer = bindings.modelhost_plugin_predictor().call_signature(&mut store).await;
            let signature = answer.map_err(|trap| explain(&trap, store.data()))?.map_err(CallError::from)?;
            Ok(Signature::from(signature))
        });
        let signature = answer.await.map_err(|error| Refusal::DoesNotStart { reason: error.to_string() })?;
        check_signature(&signature)?;
        Ok(signature)
    }

    /// Answers one request in a fresh sandbox, within `timeout` and the limits of a call. Dropping the future
    /// ends the call.
    ///
    /// The outputs are checked against `signature`, and come in its order.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn predict(
        self: &Arc<Self>,
        signature: &Arc<Signature>,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        timeout: Duration,
    ) -> Result<NamedTensors, CallError> {
        let plugin = self.clone();
        let signature = signature.clone();
        let call = move |deadline| async move {
            let outputs = plugin.call_predict(inputs, parameters, deadline).await?;
            in_signature_order(&signature, outputs)
        };
        self.runtime.run(timeout.min(self.runtime.settings().limits.wall_time()), call).await
    }

    async fn call_predict(
        &self,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        deadline: Instant,
    ) -> Result<NamedTensors, CallError> {
        let (mut store, bindings) = self.instantiate(deadline).await?;
        let mut handles = Vec::with_capacity(inputs.len());
        for (name, tensor) in inputs {
            let pushed = store.data_mut().push_tensor(tensor, PluginTensor);
            handles.push((name, pushed.map_err(|trap| explain(&trap, store.data()))?));
        }
        let parameters: Vec<_> = parameters.into_iter().map(|(name, value)| (name, value.into())).collect();
        let predictor = bindings.modelhost_plugin_predictor();
        let answer = predictor.call_predict(&mut store, &handles, &parameters).await;
        let outputs = answer.map_err(|trap| explain(&trap, store.data()))?.map_err(CallError::from)?;
        take_outputs(store.data_mut(), outputs)
    }

    async fn instantiate(&self, deadline: Instant) -> Result<(Store<CallState>, Bindings), CallError> {
        let services = self.runtime.services();
        let log = CallLog::new(self.origin.clone(), services.limits.log_bytes);
        let state = CallState::new(services.clone(), self.graphs.clone(), log, deadline);
        let mut store = Store::new(self.runtime.engine(), state);
        store.limiter(|state| state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        // What a guest may pass to the host in one call: its tensors, and some names.
        store.set_hostcall_fuel(services.limits.tensor_bytes.saturating_add(1 << 20));
        store.set_max_component_handles(services.limits.handles);
        match self.pre.instantiate_async(&mut store).await {
            Ok(bindings) => Ok((store, bindings)),
            Err(error) => Err(explain(&error, store.data())),
        }
    }
}

fn check_resources(component: &Component, runtime: &Runtime) -> Result<(), Refusal> {
    let limits = &runtime.settings().limits;
    // A component that instantiates modules it imports has no fixed number; the pool refuses those.
    let Some(needed) = component.resources_required() else {
        return Err(Refusal::TooManyResources {
            needed: "modules from outside".to_owned(),
            available: "none".to_owned(),
        });
    };
    let memory = needed.max_initial_memory_size.unwrap_or(0);
    let table = needed.max_initial_table_size.unwrap_or(0);
    let too_many = |needed: String, available: String| Err(Refusal::TooManyResources { needed, available });
    if needed.num_memories > 2 {
        return too_many(format!("{} memories", needed.num_memories), "at most 2".to_owned());
    }
    if needed.num_tables > 4 {
        return too_many(format!("{} tables", needed.num_tables), "at most 4".to_owned());
    }
    if memory > limits.memory_bytes as u64 {
        return too_many(format!("{memory} bytes of memory"), format!("at most {}", limits.memory_bytes));
    }
    if table > limits.table_elements as u64 {
        return too_many(format!("a table of {table} elements"), format!("at most {}", limits.table_elements));
    }
    Ok(())
}

fn take_outputs(
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

fn in_signature_order(signature: &Signature, mut outputs: NamedTensors) -> Result<NamedTensors, CallError> {
    TensorDescription::check_all(&signature.outputs, "output", &outputs)
        .map_err(|mismatch| CallError::ContractViolation { reason: mismatch.to_string() })?;
    let position = |name: &str| signature.outputs.iter().position(|described| described.name == name);
    outputs.sort_by_key(|(name, _)| position(name));
    Ok(outputs)
}

/// What a trap means to somebody who cannot see into the sandbox.
fn explain(error: &wasmtime::Error, state: &CallState) -> CallError {
    if let Some(limit) = error.downcast_ref::<LimitExceeded>().or(state.exceeded.as_ref()) {
        return CallError::LimitExceeded(limit.clone());
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

/// The last cause says what is wrong; the outer ones and the backtrace say where, in terms of the host.
fn last_sentence(error: &wasmtime::Error) -> String {
    error.chain().last().map_or_else(|| error.to_string(), ToString::to_string)
}

impl From<predictor::Error> for CallError {
    fn from(error: predictor::Error) -> CallError {
        match error {
            predictor::Error::InvalidInput(message) => CallError::InvalidInput { message: shortened(message) },
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

impl From<predictor::Signature> for Signature {
    fn from(signature: predictor::Signature) -> Signature {
        Signature {
            inputs: signature.inputs.into_iter().map(TensorDescription::from).collect(),
            outputs: signature.outputs.into_iter().map(TensorDescription::from).collect(),
        }
    }
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
