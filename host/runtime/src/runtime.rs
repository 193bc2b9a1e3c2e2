//! What all plugins of a host share: the engine, the linker, and the threads that run plugins, which are not
//! the threads that read sockets.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use modelhost_core::Signature;
use modelhost_inference::{
    BackgroundThreads, ComputeError, ComputeOptions, Engines, Executor, Graph, GraphCache, InferenceSettings,
    Priority, RunLimits,
};
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::call::CallError;
use crate::engine::{compilation_key, serving_engine};
use crate::host::linker;
use crate::memory_budget::MemoryBudget;
use crate::predictions::PredictionTables;
use crate::sandbox::NamedTensors;
use crate::scheduling::{Scheduling, Share};
use crate::services::Services;
use crate::settings::{RuntimeSettings, threads_or_cores};
use crate::state::CallState;
use crate::streaming::{ResponseReceiver, ResponseSender, response_channel};
use crate::threads::PluginThreads;

/// Runs plugins.
pub struct Runtime {
    engine: Engine,
    linker: Linker<CallState>,
    services: Arc<Services>,
    settings: RuntimeSettings,
    compilation_key: String,
    requests: CallRoom,
    /// For calls that nobody waits for.
    background: CallRoom,
    background_threads: BackgroundThreads,
}

/// Where calls of one kind run. Kinds share nothing here: one that is slow keeps none of the other waiting.
struct CallRoom {
    /// How many may hold a sandbox.
    sandboxes: Semaphore,
    threads: PluginThreads,
}

impl Runtime {
    /// Starts the engine and its threads.
    ///
    /// # Errors
    /// Where the machine does not have what the settings ask for.
    pub fn new(
        settings: RuntimeSettings,
        inference: &InferenceSettings,
        engines: Engines,
    ) -> wasmtime::Result<Runtime> {
        let background_threads = BackgroundThreads::of_share(settings.background_share_percent);
        let request_calls = settings.max_concurrent_calls.max(1) as usize;
        // While one waits for its network another one can go on.
        let background_calls = 2 * background_threads.count();
        let engine = serving_engine(&settings, request_calls + background_calls)?;
        let services = Services {
            limits: settings.limits.clone(),
            memory: MemoryBudget::of_host(settings.sandbox_memory_bytes),
            executor: Executor::new(threads_or_cores(inference.threads), background_threads)?,
            graph_cache: Arc::new(GraphCache::new(engines)),
            batching: inference.dynamic_batching.into(),
            allow_graph_load: settings.allow_graph_load,
            predictions: OnceLock::new(),
        };
        Ok(Runtime {
            linker: linker(&engine)?,
            compilation_key: compilation_key(&engine),
            services: Arc::new(services),
            requests: CallRoom {
                sandboxes: Semaphore::new(request_calls),
                threads: PluginThreads::start(
                    "plugin",
                    settings.plugin_thread_count(),
                    Engine::tls_eager_initialize,
                )?,
            },
            background: CallRoom {
                sandboxes: Semaphore::new(background_calls),
                threads: PluginThreads::start("plugin-batch", background_threads.count(), move || {
                    Engine::tls_eager_initialize();
                    background_threads.enter();
                })?,
            },
            background_threads,
            engine,
            settings,
        })
    }

    /// The settings that it was started with.
    pub fn settings(&self) -> &RuntimeSettings {
        &self.settings
    }

    /// How threads run that do what nobody waits for.
    pub fn background_threads(&self) -> BackgroundThreads {
        self.background_threads
    }

    /// Names the compiler version and settings: compiled code fits only where this is the same.
    pub fn compilation_key(&self) -> &str {
        &self.compilation_key
    }

    /// The networks that are in use.
    pub fn graph_cache(&self) -> &Arc<GraphCache> {
        &self.services.graph_cache
    }

    /// Memory for tensors between calls, of that which sandboxes may hold together.
    pub fn tensor_memory(&self) -> Arc<MemoryBudget> {
        MemoryBudget::of_plugin(&self.services.memory)
    }

    /// Says where calls look predictions up from now on. Only the first who says so is heard.
    pub fn set_prediction_tables(&self, tables: Arc<dyn PredictionTables>) {
        let _ = self.services.predictions.set(tables);
    }

    /// A share of the machine, for plugins that belong to one model.
    pub fn share(&self, scheduling: Scheduling) -> Share {
        let turns = self.requests.threads.share(scheduling.weight);
        let background_turns = self.background.threads.share(scheduling.weight);
        Share::new(scheduling, turns, background_turns)
    }

    /// A way for the responses of one call to its client.
    pub fn response_channel(&self, signature: &Arc<Signature>) -> (ResponseSender, ResponseReceiver) {
        response_channel(signature.clone(), &self.settings.limits)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn linker(&self) -> &Linker<CallState> {
        &self.linker
    }

    pub(crate) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Runs a network by itself, within the limits of a call. One that is known to be quick runs on the calling thread.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn compute(
        &self,
        graph: &Arc<Graph>,
        inputs: NamedTensors,
        timeout: Duration,
        priority: Priority,
    ) -> Result<NamedTensors, ComputeError> {
        let deadline = Instant::now() + timeout.min(self.settings.limits.wall_time());
        let limits = RunLimits::new(deadline, self.settings.limits.graph_memory_bytes);
        let options = ComputeOptions { priority, ..ComputeOptions::alone(limits) };
        let computed = self.services.executor.compute(graph, inputs, options).await?;
        Ok(computed.outputs)
    }

    /// Runs a call on the plugin threads, or those of the background, when a sandbox is free, and ends it when its time
    /// is over or nobody waits for it any more. In the background its time begins with its first turn.
    pub(crate) async fn run<T, F>(
        self: &Arc<Self>,
        share: &Share,
        priority: Priority,
        limit: Duration,
        call: impl FnOnce(Instant) -> F + Send + 'static,
    ) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CallError>> + Send,
    {
        let late =
            move |_| Err(CallError::DeadlineExceeded { milliseconds: limit.as_micros().div_ceil(1_000) });
        let runtime = self.clone();
        let answer = if priority.is_background() {
            let bounded = async move {
                // The semaphore is never closed.
                let _sandbox = runtime.background.sandboxes.acquire().await;
                let deadline = Instant::now() + limit;
                tokio::time::timeout_at(deadline.into(), call(deadline)).await.unwrap_or_else(late)
            };
            self.background.threads.spawn(share.background_turns(), bounded).await
        } else {
            let deadline = Instant::now() + limit;
            let bounded = async move {
                let in_time = async {
                    // More calls than sandboxes wait here; the semaphore is never closed.
                    let _sandbox = runtime.requests.sandboxes.acquire().await;
                    call(deadline).await
                };
                tokio::time::timeout_at(deadline.into(), in_time).await.unwrap_or_else(late)
            };
            self.requests.threads.spawn(share.turns(), bounded).await
        };
        answer.unwrap_or_else(|| Err(CallError::Host { reason: "a call panicked".to_owned() }))
    }
}
