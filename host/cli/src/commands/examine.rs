//! `examine`: the compiling process, started by the host for each upload. Nothing happens here before it limits
//! itself: no thread, no log.

use std::path::PathBuf;

use clap::Args;
use modelhost_runtime::{CompilationLimits, examine};

use crate::failure::Failure;

/// What the host passes on.
#[derive(Debug, Args)]
pub struct Examine {
    /// The uploaded component
    component: PathBuf,
    /// The folder for what comes out
    output: PathBuf,
    /// Bytes of address space
    #[arg(long)]
    memory_bytes: u64,
    /// Seconds of processor time
    #[arg(long)]
    seconds: u64,
    /// The shared library of ONNX Runtime that the host uses
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
}

/// Examines and compiles.
///
/// # Errors
/// Where the machine fails, not the component.
pub fn run(arguments: &Examine) -> Result<(), Failure> {
    let limits = CompilationLimits {
        memory_bytes: arguments.memory_bytes,
        seconds: arguments.seconds,
        ..CompilationLimits::default()
    };
    Ok(examine::run(&arguments.component, &arguments.output, &limits, arguments.onnxruntime.as_deref())?)
}
