//! What one call owns: its handles, its budget of memory and tensors, and its log. It is made for a call and
//! dropped with it, so that nothing of a request outlives the request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use modelhost_core::Tensor;
use modelhost_inference::{BatchingPolicy, CallerThreads, Graph, Priority};
use wasmtime::ResourceLimiter;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::wasi::nn::errors::ErrorCode;
use crate::log::CallLog;
use crate::memory_budget::{MemoryBudget, MemoryShare};
use crate::predictions::Grants;
use crate::recorder::Recorder;
use crate::scheduling::Scheduling;
use crate::services::Services;
use crate::settings::CallLimits;

/// The networks of a plugin, by the names under which it carries them.
pub type Graphs = BTreeMap<String, Arc<Graph>>;

/// A tensor of the contract.
pub struct PluginTensor(pub Tensor);
/// A tensor of wasi:nn.
pub struct NnTensor(pub Tensor);
/// A network of wasi:nn.
pub struct NnGraph {
    /// The network.
    pub graph: Arc<Graph>,
    /// How its calls are put together.
    pub batching: BatchingPolicy,
}
/// A network of wasi:nn, ready to compute. It keeps nothing between computations.
pub struct NnContext {
    /// The network.
    pub graph: Arc<Graph>,
    /// How its calls are put together.
    pub batching: BatchingPolicy,
}
/// An error of wasi:nn.
pub struct NnError {
    /// The kind.
    pub code: ErrorCode,
    /// One sentence.
    pub message: String,
}

/// The limit that a call went over. It ends the call: as an error through a host function, or as the
/// explanation of the trap that follows a refused growth.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// What all sandboxes of the model, or of the host, may hold together.
    #[error("the sandboxes of this host hold all the memory that they may: try again later")]
    HostMemory,
    /// Linear memories and tables.
    #[error("memory limit of {limit} bytes exceeded")]
    Memory {
        /// Bytes.
        limit: usize,
    },
    /// Elements of a table.
    #[error("table limit of {limit} elements exceeded")]
    Table {
        /// Elements.
        limit: usize,
    },
    /// Bytes of tensors.
    #[error("tensor limit of {limit} bytes exceeded")]
    Tensors {
        /// Bytes.
        limit: usize,
    },
    /// Resource handles.
    #[error("limit of {limit} resource handles exceeded")]
    Handles {
        /// Handles.
        limit: usize,
    },
    /// Responses of one call.
    #[error("limit of {limit} responses exceeded")]
    Responses {
        /// Responses.
        limit: u32,
    },
    /// Bytes of outputs.
    #[error("output limit of {limit} bytes exceeded")]
    Output {
        /// Bytes.
        limit: usize,
    },
}

/// The data of a call's store.
pub struct CallState {
    /// All handles of the call.
    pub table: ResourceTable,
    /// The networks that the call may use by name.
    pub graphs: Arc<Graphs>,
    /// What all calls share.
    pub services: Arc<Services>,
    /// How the call shares the machine with others.
    pub scheduling: Arc<Scheduling>,
    /// Where it runs, and takes turns with other calls.
    pub threads: Arc<dyn CallerThreads>,
    /// Which prediction tables it may read.
    pub grants: Arc<Grants>,
    /// When the call began.
    began: Instant,
    /// When the call has to be over.
    pub deadline: Instant,
    /// Which calls of a graph go first.
    pub priority: Priority,
    /// Takes down what is computed, where that is wanted.
    pub recorder: Option<Arc<Recorder>>,
    /// What the plugin writes.
    pub log: CallLog,
    /// The first limit that was hit.
    pub exceeded: Option<LimitExceeded>,
    /// When the first inference began, how long all of them took, and what counts for this call.
    pub inference: InferenceTime,
    wasi: WasiCtx,
    budget: Budget,
}

/// What a call gets from its plugin and its request.
pub struct CallContext {
    /// The networks that it may use by name.
    pub graphs: Arc<Graphs>,
    /// Model and version, such as `income/3`, for the log.
    pub origin: Arc<str>,
    /// What all calls of the plugin may hold together.
    pub memory: Arc<MemoryBudget>,
    /// How the plugin's calls share the machine with others.
    pub scheduling: Arc<Scheduling>,
    /// Where they run, and take turns.
    pub threads: Arc<dyn CallerThreads>,
    /// Which prediction tables it may read.
    pub grants: Arc<Grants>,
    /// When it has to be over.
    pub deadline: Instant,
    /// Which calls of a graph go first.
    pub priority: Priority,
    /// Takes down what is computed, where that is wanted.
    pub recorder: Option<Arc<Recorder>>,
}

/// The part of a call that was inference.
#[derive(Clone, Copy, Debug, Default)]
pub struct InferenceTime {
    /// When the first one began.
    pub first: Option<Instant>,
    /// All of them together.
    pub total: Duration,
    /// The part of that which was waiting for a turn.
    pub queued: Duration,
    /// Executions of graphs that are counted for this call.
    pub executions: u32,
}

/// Why a call ends in the middle of an inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferenceEnded {
    /// Too many calls wait for the graph.
    #[error("too many calls wait for a graph of the plugin: try again later")]
    Overloaded,
    /// There is no time for it any more.
    #[error("there is no time left for inference")]
    DeadlineExceeded,
}

/// Counts what a call holds.
struct Budget {
    memory_bytes: usize,
    tensor_bytes: usize,
    /// Of what all calls may hold together.
    share: MemoryShare,
}

impl Budget {
    fn share_suffices(&mut self) -> bool {
        self.share.grow_to(self.memory_bytes.saturating_add(self.tensor_bytes))
    }
}

impl CallState {
    /// The state of a call.
    pub fn new(services: &Arc<Services>, call: CallContext) -> CallState {
        let log = CallLog::new(call.origin, services.limits.log_bytes);
        let mut table = ResourceTable::new();
        table.set_max_capacity(services.limits.handles);
        let mut wasi = WasiCtx::builder();
        wasi.stdout(log.stdout())
            .stderr(log.stderr())
            .max_random_size(64 << 10)
            .allow_tcp(false)
            .allow_udp(false);
        CallState {
            table,
            graphs: call.graphs,
            services: services.clone(),
            scheduling: call.scheduling,
            threads: call.threads,
            grants: call.grants,
            began: Instant::now(),
            deadline: call.deadline,
            priority: call.priority,
            recorder: call.recorder,
            log,
            exceeded: None,
            inference: InferenceTime::default(),
            wasi: wasi.build(),
            budget: Budget { memory_bytes: 0, tensor_bytes: 0, share: MemoryShare::new(call.memory) },
        }
    }

    /// The limits of the call.
    pub fn limits(&self) -> &CallLimits {
        &self.services.limits
    }

    /// The time that the call has, from its beginning.
    pub fn time_limit(&self) -> Duration {
        self.deadline.saturating_duration_since(self.began)
    }

    /// Remembers the first limit that the call hit, and answers it as an error.
    pub fn exceed(&mut self, limit: LimitExceeded) -> wasmtime::Error {
        self.exceeded.get_or_insert(limit.clone());
        wasmtime::Error::new(limit)
    }

    /// Gives the guest a handle to something.
    ///
    /// # Errors
    /// [`LimitExceeded::Handles`].
    pub fn push<T: Send + 'static>(&mut self, entry: T) -> wasmtime::Result<Resource<T>> {
        let limit = self.limits().handles;
        self.table.push(entry).map_err(|_| self.exceed(LimitExceeded::Handles { limit }))
    }

    /// Gives the guest a handle to a tensor, and counts its bytes. `wrap` makes it a tensor of the contract
    /// or of wasi:nn.
    ///
    /// # Errors
    /// [`LimitExceeded::Tensors`] or [`LimitExceeded::Handles`].
    pub fn push_tensor<T: Send + 'static>(
        &mut self,
        tensor: Tensor,
        wrap: fn(Tensor) -> T,
    ) -> wasmtime::Result<Resource<T>> {
        self.hold(tensor_cost(&tensor))?;
        self.push(wrap(tensor))
    }

    /// Counts memory of the host that the call holds beside its sandbox: tensors, and graphs that it loaded itself.
    ///
    /// # Errors
    /// [`LimitExceeded::Tensors`] or [`LimitExceeded::HostMemory`].
    pub fn hold(&mut self, bytes: usize) -> wasmtime::Result<()> {
        let limit = self.limits().tensor_bytes;
        let held = self.budget.tensor_bytes.saturating_add(bytes);
        if held > limit {
            return Err(self.exceed(LimitExceeded::Tensors { limit }));
        }
        self.budget.tensor_bytes = held;
        if !self.budget.share_suffices() {
            return Err(self.exceed(LimitExceeded::HostMemory));
        }
        Ok(())
    }

    /// Bytes of tensors that the call may still get.
    pub fn tensor_bytes_left(&self) -> usize {
        self.limits().tensor_bytes.saturating_sub(self.budget.tensor_bytes)
    }

    /// Takes a tensor away from the guest.
    pub fn forget_tensor(&mut self, tensor: &Tensor) {
        self.budget.tensor_bytes = self.budget.tensor_bytes.saturating_sub(tensor_cost(tensor));
    }

    /// Takes a tensor of the contract out of the guest's hands.
    ///
    /// # Errors
    /// A handle that is not one, which is a trap.
    pub fn take_plugin_tensor(&mut self, handle: Resource<PluginTensor>) -> wasmtime::Result<Tensor> {
        let PluginTensor(tensor) = self.table.delete(handle)?;
        self.forget_tensor(&tensor);
        Ok(tensor)
    }

    /// Takes a tensor of wasi:nn out of the guest's hands.
    ///
    /// # Errors
    /// A handle that is not one, which is a trap.
    pub fn take_nn_tensor(&mut self, handle: Resource<NnTensor>) -> wasmtime::Result<Tensor> {
        let NnTensor(tensor) = self.table.delete(handle)?;
        self.forget_tensor(&tensor);
        Ok(tensor)
    }
}

/// Small tensors cost their bookkeeping.
fn tensor_cost(tensor: &Tensor) -> usize {
    tensor.data().len().saturating_add(128)
}

impl ResourceLimiter for CallState {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let limit = self.limits().memory_bytes;
        let held = self.budget.memory_bytes.saturating_add(desired.saturating_sub(current));
        if held > limit {
            self.exceed(LimitExceeded::Memory { limit });
            return Ok(false);
        }
        self.budget.memory_bytes = held;
        let suffices = self.budget.share_suffices();
        if !suffices {
            self.exceed(LimitExceeded::HostMemory);
        }
        Ok(suffices)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let limit = self.limits().table_elements;
        if desired > limit {
            self.exceed(LimitExceeded::Table { limit });
            return Ok(false);
        }
        let bytes = desired.saturating_sub(current).saturating_mul(size_of::<usize>());
        self.memory_growing(0, bytes, None)
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
