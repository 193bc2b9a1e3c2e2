//! `cargo xtask`: sets a checkout up, runs it, tests it and measures it.
//!
//! This file owns the command line and nothing else: what a command does lives in the module of
//! the same name.

mod answers;
mod bench;
mod cache;
mod environment;
mod guest_target;
mod onnxruntime;
mod plugins;
mod python;
mod steps;
mod test;
mod up;
mod workspace;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets modelhost up, runs it, tests it and measures it")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds every crate under plugins/ as a component, into <target dir>/plugins/NAME.wasm
    Plugins,
    /// Installs ONNX Runtime into the cache folder, with pip: a second engine for the host
    Onnxruntime,
    /// Builds everything, starts the host and deploys the example models
    Up {
        /// Ask every example model once, compare the answers with what is expected, and stop
        #[arg(long)]
        check: bool,
        /// Address that the host listens on
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Where the host keeps its data; by default modelhost-data in the checkout
        #[arg(long)]
        data_dir: Option<PathBuf>,
    },
    /// Runs everything that continuous integration runs, and stops at the first failure
    Test {
        /// Also runs clients of others against the host, which it installs with pip, and writes docs/compatibility.md
        #[arg(long)]
        clients: bool,
    },
    /// Builds everything and measures; arguments after -- go to the benchmark
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Plugins => plugins::run(&workspace),
        Task::Onnxruntime => onnxruntime::run(),
        Task::Up { check, listen, data_dir } => {
            let data_dir = data_dir.unwrap_or_else(|| workspace.root.join("modelhost-data"));
            if check {
                up::check(&workspace, listen, &data_dir)
            } else {
                up::run(&workspace, listen, &data_dir)
            }
        }
        Task::Test { clients } => test::run(&workspace, clients),
        Task::Bench { arguments } => bench::run(&workspace, &arguments),
    }
}
