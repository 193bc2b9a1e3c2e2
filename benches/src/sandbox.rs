//! A network through wasi-nn, in this process: in an instance that is used again, in a fresh instance, and through the
//! whole call path of the host.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use modelhost_core::{Digest, EngineName};
use modelhost_inference::{Engines, InferenceSettings, Priority};
use modelhost_runtime::{
    CallOptions, Compiler, NamedTensors, Plugin, Runtime, RuntimeSettings, add_graph_section, examine,
};

use crate::networks::Network;
use crate::timing::{Effort, Times, time};

/// What a network took behind wasi-nn, in the generic plugin `onnx`.
#[derive(Clone, Copy, Debug)]
pub struct SandboxTimes {
    /// In one instance that is used again.
    pub reused: Times,
    /// In a fresh instance each time.
    pub fresh: Times,
    /// As a request does it: on the plugin threads, within a deadline, outputs checked.
    pub call: Times,
}

/// What is needed to load a plugin.
pub struct Loader {
    /// The engines of this machine.
    pub engines: Engines,
    /// The binary that compiles components.
    pub modelhost: std::path::PathBuf,
    /// The component that runs any graph.
    pub generic: Vec<u8>,
}

impl Loader {
    /// Measures a network on an engine.
    pub async fn measure(
        &self,
        network: &Network,
        engine: EngineName,
        effort: Effort,
    ) -> Result<SandboxTimes> {
        let settings = InferenceSettings::default();
        let runtime = Arc::new(Runtime::new(RuntimeSettings::default(), &settings, self.engines.clone())?);
        let plugin = Arc::new(self.load(&runtime, network, engine).await?);
        measure(&plugin, vec![("x".to_owned(), network.input(1)?)], effort).await
    }

    async fn load(&self, runtime: &Arc<Runtime>, network: &Network, engine: EngineName) -> Result<Plugin> {
        let folder = tempfile::tempdir()?;
        let compiled = self.compile(network, folder.path()).await?;
        let graph = runtime
            .graph_cache()
            .get_or_load(&Digest::of(&network.onnx), engine, || Ok(network.onnx.clone()))
            .context("the network does not load")?;
        let graphs = BTreeMap::from([("model".to_owned(), graph)]);
        // SAFETY: the compiling process wrote the file a moment ago, in a folder of this process.
        Ok(unsafe { Plugin::load(runtime.clone(), &compiled, graphs, "bench") }?)
    }

    async fn compile(&self, network: &Network, folder: &Path) -> Result<std::path::PathBuf> {
        let component = folder.join("component.wasm");
        std::fs::write(&component, add_graph_section(self.generic.clone(), "model", &network.onnx))?;
        let compiler = Compiler::new(self.modelhost.clone(), RuntimeSettings::default().compilation, None);
        compiler.compile(&component, folder).await?;
        Ok(folder.join(examine::COMPILED_FILE))
    }
}

async fn measure(plugin: &Arc<Plugin>, inputs: NamedTensors, effort: Effort) -> Result<SandboxTimes> {
    let priority = Priority::default();
    let soon = || Instant::now() + Duration::from_secs(30);
    let far = Instant::now() + Duration::from_secs(3_600);
    let mut sandbox = plugin.sandbox(far, priority).await?;
    let reused = time(effort, async || Ok(sandbox.predict(inputs.clone(), vec![]).await?)).await?;
    let fresh = time(effort, async || {
        Ok(plugin.sandbox(soon(), priority).await?.predict(inputs.clone(), vec![]).await?)
    })
    .await?;
    let signature = Arc::new(plugin.signature().await?);
    let options = CallOptions { timeout: Duration::from_secs(30), priority };
    let call =
        time(effort, async || Ok(plugin.predict(&signature, inputs.clone(), vec![], options).await?)).await?;
    Ok(SandboxTimes { reused, fresh, call })
}
