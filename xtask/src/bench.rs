//! Owns starting the benchmark with everything built and installed that it measures.
//!
//! It must not know what is measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{cache, environment, onnxruntime, python, steps, test};

/// The command `bench`.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    test::build(workspace)?;
    let folder = workspace.root.join("benches").join("python_server");
    if let Err(error) = onnxruntime::install() {
        steps::note(&format!("ONNX Runtime is not measured unless this machine has it elsewhere: {error:#}"));
    }
    let interpreter = interpreter(&folder.join("requirements.txt"));
    steps::heading("benchmark");
    let mut benchmark = Command::new(workspace.binary("modelhost-bench"));
    if let Some(interpreter) = interpreter {
        benchmark
            .env("MODELHOST_BENCH_PYTHON", interpreter)
            .env("MODELHOST_BENCH_PYTHON_SERVER", folder.join("server.py"));
    }
    environment::run(test::with_artifacts(&mut benchmark, workspace).args(arguments))
}

/// What runs the server in Python; without it the rest is measured all the same.
fn interpreter(requirements: &Path) -> Option<PathBuf> {
    let made = cache::folder("bench-python").and_then(|folder| python::environment(&folder, requirements));
    match made {
        Ok(Some(interpreter)) => return Some(interpreter),
        Ok(None) => steps::note("there is no python3 here: the server in Python is not measured"),
        Err(error) => steps::note(&format!("the server in Python is not measured: {error:#}")),
    }
    None
}
