//! What a request costs in modelhost, layer by layer, beside what it would cost without. All figures come
//! from one run on one machine; read the ratios. `cargo xtask bench` builds everything and starts this.

mod bare_hyper;
mod batch;
mod client;
mod direct;
mod http;
mod load;
mod networks;
mod onnx;
mod open_loop;
mod report;
mod sandbox;
mod servers;
mod tables;
mod timing;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};
use modelhost_core::EngineName;
use modelhost_inference::{Engines, InferenceSettings};

use crate::http::Field;
use crate::networks::{Network, NetworkName};
use crate::report::{OnEngine, Report};
use crate::sandbox::Loader;
use crate::servers::Python;
use crate::timing::Effort;

#[derive(Parser)]
#[command(about = "Measures what a request costs, layer by layer")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Seconds that each measurement runs
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Parts to measure, beside the engines alone; all of them where none is named
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Networks; all of them where none is named
    #[arg(long, value_delimiter = ',')]
    network: Vec<NetworkName>,
    /// Keys of the prediction table
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Engines: tract, onnxruntime; all that this machine has where none is named
    #[arg(long, value_delimiter = ',', value_parser = engine)]
    engine: Vec<EngineName>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves as the yardstick. Started by the benchmark itself.
    #[command(hide = true)]
    BareHyper {
        /// Bytes of each answer.
        answer_bytes: usize,
    },
    /// Measure batch jobs
    Batch(batch::Arguments),
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The engines and nothing else.
    Engine,
    /// Through wasi-nn, in this process.
    Sandbox,
    /// Through HTTP, beside other servers.
    Http,
    /// Looking predictions up. No network takes part.
    Tables,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::BareHyper { answer_bytes }) => return bare_hyper::serve(*answer_bytes).await,
        Some(Command::Batch(arguments)) => return batch::run(arguments).await,
        None => {}
    }
    let began = Instant::now();
    let bench = Bench::new(&arguments)?;
    let mut report = Report::default();
    if bench.parts != [Part::Tables] {
        for name in selected(&arguments.network, NetworkName::value_variants()) {
            bench.measure(&Network::make(name), &mut report).await?;
        }
    }
    if bench.parts.contains(&Part::Tables) {
        eprintln!("measuring a prediction table …");
        let modelhost = &bench.loader.modelhost;
        report.add_tables(&tables::measure(modelhost, arguments.keys, bench.effort).await?);
    }
    report.print();
    println!("All of it took {} seconds.", began.elapsed().as_secs());
    Ok(())
}

/// What is measured, and with what.
struct Bench {
    effort: Effort,
    parts: Vec<Part>,
    engines: Vec<EngineName>,
    loader: Loader,
    python: Option<Python>,
}

impl Bench {
    fn new(arguments: &Arguments) -> Result<Bench> {
        let generic = built("MODELHOST_PLUGINS")?.join("onnx.wasm");
        let engines = Engines::discover(&InferenceSettings::default()).map_err(anyhow::Error::msg)?;
        Ok(Bench {
            effort: Effort::of_seconds(arguments.seconds),
            parts: selected(&arguments.only, Part::value_variants()),
            engines: selected(&arguments.engine, &EngineName::ALL),
            loader: Loader {
                engines,
                modelhost: built("MODELHOST_BINARY")?,
                generic: std::fs::read(&generic)
                    .with_context(|| format!("cannot read {}", generic.display()))?,
            },
            python: python(),
        })
    }

    async fn measure(&self, network: &Network, report: &mut Report) -> Result<()> {
        let mut engines = Vec::new();
        for engine in self.engines.iter().copied() {
            eprintln!("measuring {} on {engine} …", network.title);
            match self.loader.engines.get(engine) {
                Err(reason) => report.add_missing(network, engine, reason),
                Ok(library) => {
                    let graph = library.load(&network.onnx)?;
                    let direct = direct::measure(&graph, network, self.effort)?;
                    engines.push(OnEngine { engine, direct });
                }
            }
        }
        for on in &engines {
            report.add_direct(network, on);
            if self.parts.contains(&Part::Sandbox) {
                let times = self.loader.measure(network, on.engine, self.effort).await?;
                report.add_sandbox(network, on, &times);
            }
        }
        if self.parts.contains(&Part::Http) {
            eprintln!("measuring {} over HTTP …", network.title);
            let names: Vec<EngineName> = engines.iter().map(|on| on.engine).collect();
            let modelhost = &self.loader.modelhost;
            let field = Field { modelhost, python: self.python.as_ref(), engines: &names };
            report.add_servers(network, &engines, &field.measure(network, self.effort).await?);
        }
        Ok(())
    }
}

/// What was named, or everything.
fn selected<T: Copy>(named: &[T], all: &[T]) -> Vec<T> {
    if named.is_empty() { all.to_vec() } else { named.to_vec() }
}

fn engine(name: &str) -> Result<EngineName, String> {
    let known = EngineName::ALL.into_iter().find(|engine| engine.as_str() == name);
    known.ok_or_else(|| "expected tract or onnxruntime".to_owned())
}

fn built(variable: &str) -> Result<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set: run `cargo xtask bench`"))
}

/// The server in Python, where `cargo xtask bench` could prepare one.
fn python() -> Option<Python> {
    let path = |variable| std::env::var_os(variable).map(PathBuf::from);
    Some(Python {
        interpreter: path("MODELHOST_BENCH_PYTHON")?,
        script: path("MODELHOST_BENCH_PYTHON_SERVER")?,
    })
}
