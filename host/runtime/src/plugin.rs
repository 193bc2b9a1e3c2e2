//! A version that is ready to be called: compiled code, linked, with its graphs. Each call gets a sandbox of
//! its own and leaves nothing behind.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use modelhost_core::{Parameter, Signature};
use modelhost_inference::{Graph, GraphHold, Priority};
use wasmtime::component::Component;

use crate::call::{CallError, CallOptions};
use crate::linked::Linked;
use crate::memory_budget::MemoryBudget;
use crate::recorder::Recorder;
use crate::refusal::Refusal;
use crate::runtime::Runtime;
use crate::sandbox::{Answer, NamedTensors, Sandbox, last_sentence};
use crate::scheduling::{Scheduling, Share};
use crate::signature::{check_signature, in_signature_order};
use crate::state::{CallContext, CallState, Graphs};
use crate::streaming::{ResponseSender, Streamed};

/// A version that is ready to be called. Shared by all its calls.
pub struct Plugin {
    runtime: Arc<Runtime>,
    linked: Linked,
    graphs: Arc<Graphs>,
    /// Model and version, such as `income/3`, for the log.
    origin: Arc<str>,
    memory: Arc<MemoryBudget>,
    /// The part of it that calls which nobody waits for may hold.
    background_memory: Arc<MemoryBudget>,
    /// Says of each graph that it has a user.
    _holds: Vec<GraphHold>,
    share: Share,
}

/// What a plugin takes of the host's memory, beside its compiled code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginMemory {
    /// Of networks that nobody else runs.
    pub graph_bytes: u64,
    /// Of networks that other plugins run too.
    pub shared_graph_bytes: u64,
    /// Of sandboxes and tensors, now.
    pub in_use_bytes: u64,
    /// The same, at most.
    pub peak_in_use_bytes: u64,
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
            .map_err(|error| Refusal::TooLargeForSandbox { reason: last_sentence(&error) })?;
        let linked = Linked::new(runtime.linker(), &component)
            .map_err(|error| Refusal::WrongWorld { reason: last_sentence(&error) })?;
        // A failure here only makes the first call slower, and will be met there again.
        let _ = component.initialize_copy_on_write_image();
        let memory = MemoryBudget::of_plugin(&runtime.services().memory);
        let scheduling = Scheduling {
            weight: NonZeroU32::MIN,
            batching: runtime.services().batching,
            graphs: BTreeMap::new(),
        };
        Ok(Plugin {
            share: runtime.share(scheduling),
            runtime,
            linked,
            _holds: distinct(&graphs).map(|graph| graph.hold()).collect(),
            graphs: Arc::new(graphs),
            origin: origin.into(),
            background_memory: MemoryBudget::of_background(&memory),
            memory,
        })
    }

    /// What it takes of the host's memory.
    pub fn memory(&self) -> PluginMemory {
        let (mut graph_bytes, mut shared_graph_bytes) = (0, 0);
        for graph in distinct(&self.graphs) {
            let bytes = if graph.holders() > 1 { &mut shared_graph_bytes } else { &mut graph_bytes };
            *bytes += graph.resident_bytes();
        }
        PluginMemory {
            graph_bytes,
            shared_graph_bytes,
            in_use_bytes: self.memory.used() as u64,
            peak_in_use_bytes: self.memory.peak() as u64,
        }
    }

    /// The networks that it carries.
    pub fn graphs(&self) -> &Graphs {
        &self.graphs
    }

    /// What runs it.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// The same plugin as one of those that have this share of the machine together.
    #[must_use]
    pub fn sharing(self, share: Share) -> Plugin {
        Plugin { share, ..self }
    }

    /// Starts the plugin once and asks what it takes and answers.
    ///
    /// # Errors
    /// [`Refusal::DoesNotStart`] or [`Refusal::InvalidSignature`].
    pub async fn signature(self: &Arc<Self>) -> Result<Signature, Refusal> {
        let plugin = self.clone();
        let limit = self.runtime.settings().limits.wall_time();
        let call = move |deadline| async move {
            plugin.sandbox(deadline, Priority::default()).await?.signature().await
        };
        let signature = self.runtime.run(&self.share, Priority::default(), limit, call).await.map_err(
            |error| match error {
                CallError::ContractViolation { reason } => Refusal::WrongWorld { reason },
                error => Refusal::DoesNotStart { reason: error.to_string() },
            },
        )?;
        check_signature(&signature)?;
        Ok(signature)
    }

    /// Answers one request in a fresh sandbox, within its timeout and the limits of a call. Dropping the future
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
        options: CallOptions,
    ) -> Result<Answer, CallError> {
        self.predict_recorded(signature, inputs, parameters, options, None).await
    }

    /// The same, and takes down what is computed.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn predict_recorded(
        self: &Arc<Self>,
        signature: &Arc<Signature>,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        options: CallOptions,
        recorder: Option<Arc<Recorder>>,
    ) -> Result<Answer, CallError> {
        let plugin = self.clone();
        let signature = signature.clone();
        let call = move |deadline| async move {
            let mut sandbox = plugin.sandbox_with(deadline, options.priority, recorder).await?;
            let mut answer = sandbox.predict(inputs, parameters).await?;
            answer.outputs = in_signature_order(&signature, answer.outputs)?;
            Ok(answer)
        };
        let limit = options.timeout.min(self.runtime.settings().limits.wall_time());
        self.runtime.run(&self.share, options.priority, limit, call).await
    }

    /// Answers one request with as many responses as the plugin likes, or with one where it does not stream. Each is
    /// checked against the signature of the channel. The limit of time is that of any call, waiting for the client
    /// included. Dropping the future ends the call.
    ///
    /// # Errors
    /// [`CallError`], after the responses that were sent before.
    pub async fn predict_stream(
        self: &Arc<Self>,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        options: CallOptions,
        mut responses: ResponseSender,
    ) -> Result<Streamed, CallError> {
        let plugin = self.clone();
        let call = move |deadline| async move {
            let mut sandbox = plugin.sandbox(deadline, options.priority).await?;
            if plugin.linked.predict_stream.is_some() {
                return sandbox.predict_stream(inputs, parameters, responses).await;
            }
            let Answer { outputs, times, executions } = sandbox.predict(inputs, parameters).await?;
            // Nothing but the answer has to wait for the client.
            drop(sandbox);
            responses.send(outputs).await?;
            Ok(Streamed { times, waited: responses.waited(), executions })
        };
        let limit = options.timeout.min(self.runtime.settings().limits.wall_time());
        self.runtime.run(&self.share, options.priority, limit, call).await
    }

    /// Makes a sandbox for a call that has to be over at `deadline`.
    ///
    /// # Errors
    /// [`CallError::Overloaded`] where all sandboxes are taken; a plugin that traps when it starts.
    pub async fn sandbox(&self, deadline: Instant, priority: Priority) -> Result<Sandbox, CallError> {
        self.sandbox_with(deadline, priority, None).await
    }

    async fn sandbox_with(
        &self,
        deadline: Instant,
        priority: Priority,
        recorder: Option<Arc<Recorder>>,
    ) -> Result<Sandbox, CallError> {
        let memory = if priority.is_background() { &self.background_memory } else { &self.memory };
        let call = CallContext {
            graphs: self.graphs.clone(),
            origin: self.origin.clone(),
            memory: memory.clone(),
            scheduling: self.share.scheduling(),
            threads: self.share.turns().clone(),
            grants: self.share.grants(),
            deadline,
            priority,
            recorder,
        };
        let state = CallState::new(self.runtime.services(), call);
        Sandbox::start(self.runtime.engine(), &self.linked, state).await
    }
}

/// Each network once, whatever the number of names that it has.
fn distinct(graphs: &Graphs) -> impl Iterator<Item = &Arc<Graph>> {
    let is_first = |(index, graph): &(usize, &Arc<Graph>)| {
        graphs.values().take(*index).all(|earlier| !Arc::ptr_eq(earlier, graph))
    };
    graphs.values().enumerate().filter(is_first).map(|(_, graph)| graph)
}
