//! `pack`: networks and samples into a finished component, for authors whose language knows no custom sections.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use indicatif::BinaryBytes;
use modelhost_inference::external_data;
use modelhost_runtime::{add_graph_section, add_sample_section};

use crate::component_file;
use crate::failure::Failure;
use crate::output;

/// What goes where.
#[derive(Clone, Debug, Args)]
pub struct Pack {
    /// The component
    component: PathBuf,
    /// A network, under the name by which the component loads it; may be repeated
    #[arg(long = "graph", required_unless_present = "samples", value_name = "NAME=FILE", value_parser = graph)]
    graphs: Vec<Graph>,
    /// A request that the component answers, in JSON; the host warms it up with this; may be repeated
    #[arg(long = "sample", value_name = "FILE")]
    samples: Vec<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
struct Graph {
    name: String,
    file: PathBuf,
}

fn graph(argument: &str) -> Result<Graph, String> {
    match argument.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok(Graph { name: name.to_owned(), file: file.into() })
        }
        _ => Err("expected NAME=FILE".to_owned()),
    }
}

/// Writes the component with its networks.
///
/// # Errors
/// Files that cannot be read or written, and a name that is given twice.
pub fn run(arguments: &Pack, is_json: bool) -> Result<(), Failure> {
    if let Some(name) = repeated_name(&arguments.graphs) {
        return Err(Failure::Usage(format!("--graph {name} is given more than once")));
    }
    let mut component = component_file::read_component(&arguments.component)?;
    for Graph { name, file } in &arguments.graphs {
        let network = external_data::read_whole(file).map_err(anyhow::Error::from)?;
        component = add_graph_section(component, name, &network);
    }
    for sample in component_file::read_samples(&arguments.samples)? {
        component = add_sample_section(component, &sample.name, &sample.json);
    }
    let path = arguments.output.display();
    fs::write(&arguments.output, &component).with_context(|| format!("cannot write {path}"))?;
    let size_bytes = component.len() as u64;
    output::print(&if is_json {
        serde_json::json!({ "file": path.to_string(), "size_bytes": size_bytes }).to_string()
    } else {
        let (graphs, samples) = (arguments.graphs.len(), arguments.samples.len());
        format!("{path}: {}, {graphs} graph(s) and {samples} sample(s) added", BinaryBytes(size_bytes))
    })
}

fn repeated_name(graphs: &[Graph]) -> Option<&str> {
    let is_repeated =
        |(index, graph): &(usize, &Graph)| graphs.iter().take(*index).any(|other| other.name == graph.name);
    graphs.iter().enumerate().find(is_repeated).map(|(_, graph)| graph.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_has_a_name_and_a_file() {
        assert_eq!(graph("a=b=c.onnx").unwrap(), Graph { name: "a".to_owned(), file: "b=c.onnx".into() });
        for wrong in ["a", "=b", "a="] {
            assert!(graph(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn graphs_and_samples_are_added_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("in.wasm"), b"\0asm\x0d\0\x01\0").unwrap();
        fs::write(path("a.onnx"), b"first").unwrap();
        let graphs = vec![Graph { name: "a".to_owned(), file: path("a.onnx") }];
        fs::write(path("usual.json"), b"{}").unwrap();
        let samples = vec![path("usual.json")];
        let pack = Pack { component: path("in.wasm"), graphs, samples, output: path("out.wasm") };
        run(&pack, true).unwrap();
        let expected = add_graph_section(fs::read(path("in.wasm")).unwrap(), "a", b"first");
        let expected = add_sample_section(expected, "usual", b"{}");
        assert_eq!(fs::read(path("out.wasm")).unwrap(), expected);
        let samples = [pack.samples.clone(), pack.samples.clone()].concat();
        let refused = run(&Pack { samples, ..pack.clone() }, true).unwrap_err();
        assert!(refused.to_string().contains("two samples are named \"usual\""), "{refused}");
        let twice = Pack { graphs: [pack.graphs.clone(), pack.graphs.clone()].concat(), ..pack };
        assert!(matches!(run(&twice, true), Err(Failure::Usage(_))));
    }
}
