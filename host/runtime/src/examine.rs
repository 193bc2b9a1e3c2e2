//! Examines and compiles an upload, in a process of its own: everything whose cost the author of a hostile
//! component controls happens here, under limits of the operating system. The host starts it through
//! [`crate::compiler`]; this side only reads one file and writes into one folder.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modelhost_core::{Capabilities, ComponentMetadata, Digest, EngineName, GraphDescription, SampleSection};
use modelhost_inference::{Engine, Engines, ExecutableGraph};
use serde::{Deserialize, Serialize};
use wasmtime::component::Component;

use crate::confinement::{end_with_the_host, limit_this_process};
use crate::engine::compiling_engine;
use crate::inspect::{Inspection, Sections, inspect};
use crate::refusal::{Refusal, RefusalReport};
use crate::sandbox::last_sentence;
use crate::settings::CompilationLimits;

/// The file in the output folder that holds the compiled code.
pub const COMPILED_FILE: &str = "component.cwasm";

/// A component that may become a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The graphs that it carries.
    pub graphs: Vec<ExaminedGraph>,
    /// The requests that it brings along.
    pub samples: Vec<SampleSection>,
    /// What it can do beside answering one request with one response.
    pub capabilities: Capabilities,
    /// What it says about itself.
    pub metadata: ComponentMetadata,
    /// Bytes of compiled code.
    pub compiled_size_bytes: u64,
}

/// A graph that at least one engine takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExaminedGraph {
    /// What it is called and takes and answers.
    pub description: GraphDescription,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size_bytes: u64,
    /// The file in the output folder that holds the bytes.
    pub file: String,
    /// What each engine of this host says of it, the built-in one first. An engine that refused it here must not be
    /// given it without the limits of this process.
    pub engines: Vec<EngineVerdict>,
}

/// Whether an engine takes a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineVerdict {
    /// The engine.
    pub engine: EngineName,
    /// Why it does not take it, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl EngineVerdict {
    /// Whether the engine takes the graph, and why not.
    ///
    /// # Errors
    /// The reason.
    pub fn outcome(&self) -> Result<(), String> {
        self.error.clone().map_or(Ok(()), Err)
    }
}

/// What the process prints: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The component is accepted.
    Accepted(Box<Examination>),
    /// It is not.
    Refused(RefusalReport),
}

/// The whole work of the process: sets its own limits, examines `component`, writes the compiled code and the
/// graphs into `output`, prints a [`Report`]. `onnxruntime` is the shared library that the host uses, if it does.
///
/// # Errors
/// Where the machine fails, not the component.
pub fn run(
    component: &Path,
    output: &Path,
    limits: &CompilationLimits,
    onnxruntime: Option<&Path>,
) -> anyhow::Result<()> {
    limit_this_process(limits.memory_bytes, limits.seconds)?;
    end_with_the_host()?;
    let bytes = fs::read(component)?;
    let report = match examine(&bytes, output, onnxruntime)? {
        Ok(examination) => Report::Accepted(Box::new(examination)),
        Err(refusal) => Report::Refused(RefusalReport::from(&refusal)),
    };
    serde_json::to_writer(std::io::stdout().lock(), &report)?;
    std::io::stdout().flush()?;
    Ok(())
}

fn examine(
    bytes: &[u8],
    output: &Path,
    onnxruntime: Option<&Path>,
) -> anyhow::Result<Result<Examination, Refusal>> {
    let inspection = match inspect(bytes) {
        Ok(inspection) => inspection,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let compiled = match compile(bytes)? {
        Ok(compiled) => compiled,
        Err(refusal) => return Ok(Err(refusal)),
    };
    fs::write(output.join(COMPILED_FILE), &compiled)?;
    let engines = match onnxruntime {
        Some(library) if !inspection.graphs.is_empty() => Engines::with_onnxruntime(library),
        _ => Engines::embedded_only(),
    };
    let graphs = match examine_graphs(&engines, bytes, &inspection, output)? {
        Ok(graphs) => graphs,
        Err(refusal) => return Ok(Err(refusal)),
    };
    Ok(Ok(Examination {
        imports: inspection.imports,
        graphs,
        samples: samples(&inspection.samples),
        capabilities: inspection.capabilities,
        metadata: inspection.metadata,
        compiled_size_bytes: compiled.len() as u64,
    }))
}

fn compile(bytes: &[u8]) -> anyhow::Result<Result<Vec<u8>, Refusal>> {
    let engine = compiling_engine()?;
    let compiled = Component::new(&engine, bytes).and_then(|component| component.serialize());
    Ok(compiled.map_err(|error| Refusal::Malformed { reason: last_sentence(&error) }))
}

fn examine_graphs(
    engines: &Engines,
    bytes: &[u8],
    inspection: &Inspection,
    output: &Path,
) -> anyhow::Result<Result<Vec<ExaminedGraph>, Refusal>> {
    let mut graphs = Vec::with_capacity(inspection.graphs.len());
    for (index, (name, range)) in inspection.graphs.iter().enumerate() {
        let onnx = &bytes[range.clone()];
        let (loaded, verdicts) = ask_engines(engines, onnx);
        let Some(loaded) = loaded else {
            return Ok(Err(Refusal::Graph { name: name.clone(), reason: refusals(&verdicts) }));
        };
        let file = format!("graph-{index}.onnx");
        fs::write(output.join(&file), onnx)?;
        graphs.push(ExaminedGraph {
            description: GraphDescription {
                name: name.clone(),
                inputs: loaded.inputs().to_vec(),
                outputs: loaded.outputs().to_vec(),
            },
            digest: Digest::of(onnx),
            size_bytes: onnx.len() as u64,
            file,
            engines: verdicts,
        });
    }
    Ok(Ok(graphs))
}

fn samples(sections: &Sections) -> Vec<SampleSection> {
    let section = |(name, range): &(String, std::ops::Range<usize>)| SampleSection {
        name: name.clone(),
        offset: range.start as u64,
        size_bytes: range.len() as u64,
    };
    sections.iter().map(section).collect()
}

/// What each engine says of a graph, and the graph as the first loads it that takes it.
fn ask_engines(engines: &Engines, onnx: &[u8]) -> (Option<Arc<dyn ExecutableGraph>>, Vec<EngineVerdict>) {
    let mut first = None;
    let mut ask = |engine: &Arc<dyn Engine>| {
        let error = match engine.load(onnx) {
            Ok(loaded) => {
                first.get_or_insert(loaded);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        EngineVerdict { engine: engine.name(), error }
    };
    let verdicts = engines.available().map(&mut ask).collect();
    (first, verdicts)
}

/// One sentence for a graph that no engine takes. With one engine its name would only be one more word.
fn refusals(verdicts: &[EngineVerdict]) -> String {
    let said = |verdict: &EngineVerdict| {
        let error = verdict.error.as_deref().unwrap_or_default();
        if verdicts.len() == 1 { error.to_owned() } else { format!("{}: {error}", verdict.engine) }
    };
    verdicts.iter().map(said).collect::<Vec<_>>().join("; ")
}

/// Where the process put a graph.
pub fn graph_file(output: &Path, graph: &ExaminedGraph) -> PathBuf {
    output.join(&graph.file)
}
