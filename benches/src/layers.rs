//! The same network through one layer more each time: the engine called directly, through wasi-nn in an
//! instance that is used again, in a fresh instance, and through the whole call path of the host.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use modelhost_core::{Datatype, Digest, EngineName, Tensor};
use modelhost_inference::{Engine as _, Engines, InferenceSettings, Priority, RunLimits, TractEngine};
use modelhost_runtime::{
    CallOptions, Compiler, NamedTensors, Plugin, Runtime, RuntimeSettings, add_graph_section, examine,
};

use crate::networks::Network;
use crate::timing::{Effort, Times, time};

/// What the layers of one network took.
pub struct LayerTimes {
    /// The engine, called directly.
    pub engine: Times,
    /// Through wasi-nn, in one instance that is used again.
    pub reused: Times,
    /// Through wasi-nn, in a fresh instance each time.
    pub fresh: Times,
    /// As a request does it: on the plugin threads, within a deadline, outputs checked.
    pub call: Times,
}

/// A request of one row.
pub fn request(network: &Network) -> Result<NamedTensors> {
    let data: Vec<u8> = (0..network.inputs).flat_map(|index| (index as f32 / 64.0).to_le_bytes()).collect();
    Ok(vec![("x".to_owned(), Tensor::new(Datatype::Fp32, vec![1, network.inputs as u64], data.into())?)])
}

/// Measures all layers. `modelhost` compiles the component, `generic` is the component that runs any graph.
pub async fn measure(
    network: &Network,
    modelhost: &Path,
    generic: &[u8],
    effort: Effort,
) -> Result<LayerTimes> {
    Ok(LayerTimes {
        engine: measure_engine(network, effort).await?,
        ..measure_plugin(network, modelhost, generic, effort).await?
    })
}

async fn measure_engine(network: &Network, effort: Effort) -> Result<Times> {
    let graph = TractEngine::new().load(&network.onnx)?;
    let inputs: Vec<Tensor> = request(network)?.into_iter().map(|(_, tensor)| tensor).collect();
    time(effort, async || {
        let limits = RunLimits::new(Instant::now() + Duration::from_secs(10), 1 << 30);
        Ok(graph.run(inputs.clone(), &limits)?)
    })
    .await
}

async fn measure_plugin(
    network: &Network,
    modelhost: &Path,
    generic: &[u8],
    effort: Effort,
) -> Result<LayerTimes> {
    let runtime = Arc::new(Runtime::new(
        RuntimeSettings::default(),
        &InferenceSettings::default(),
        Engines::embedded_only(),
    )?);
    let plugin = Arc::new(load(&runtime, network, modelhost, generic).await?);
    let inputs = request(network)?;
    let far = || Instant::now() + Duration::from_secs(30);
    let mut sandbox =
        plugin.sandbox(Instant::now() + Duration::from_secs(3_600), Priority::default()).await?;
    let reused = time(effort, async || Ok(sandbox.predict(inputs.clone(), vec![]).await?)).await?;
    let fresh = time(effort, async || {
        Ok(plugin.sandbox(far(), Priority::default()).await?.predict(inputs.clone(), vec![]).await?)
    })
    .await?;
    let signature = Arc::new(plugin.signature().await?);
    let options = CallOptions { timeout: Duration::from_secs(30), priority: Priority::default() };
    let call =
        time(effort, async || Ok(plugin.predict(&signature, inputs.clone(), vec![], options).await?)).await?;
    Ok(LayerTimes { engine: reused, reused, fresh, call })
}

async fn load(runtime: &Arc<Runtime>, network: &Network, modelhost: &Path, generic: &[u8]) -> Result<Plugin> {
    let folder = tempfile::tempdir()?;
    let component = folder.path().join("component.wasm");
    std::fs::write(&component, add_graph_section(generic.to_vec(), "model", &network.onnx))?;
    let compiler = Compiler::new(modelhost.to_owned(), RuntimeSettings::default().compilation, None);
    compiler.compile(&component, folder.path()).await?;
    let graph = runtime
        .graph_cache()
        .get_or_load(&Digest::of(&network.onnx), EngineName::Tract, || Ok(network.onnx.clone()))
        .context("the network does not load")?;
    let graphs = BTreeMap::from([("model".to_owned(), graph)]);
    let compiled = folder.path().join(examine::COMPILED_FILE);
    // SAFETY: the compiling process wrote the file a moment ago, in a folder of this process.
    Ok(unsafe { Plugin::load(runtime.clone(), &compiled, graphs, "bench") }?)
}
