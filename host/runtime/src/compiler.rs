//! Starts the compiling process, waits for it within limits, and reads what it found. Nothing that a hostile
//! component does to that process reaches the host: not its memory, its time, nor its crashes.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::confinement;
use crate::examine::{Examination, Report};
use crate::refusal::{Refusal, RefusalReport};
use crate::settings::CompilationLimits;

/// The hidden subcommand of the `modelhost` binary that calls [`crate::examine::run`].
pub const SUBCOMMAND: &str = "examine";

/// How a process complains that runs into its limit of memory: a mapping, an allocation, a thread's stack.
const OUT_OF_MEMORY: [&str; 3] =
    ["Cannot allocate memory", "memory allocation", "Resource temporarily unavailable"];

/// Compiles uploads, each in a process of its own.
pub struct Compiler {
    executable: PathBuf,
    onnxruntime: Option<PathBuf>,
    limits: CompilationLimits,
    turn: Semaphore,
}

/// Why there is no [`Examination`].
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component is not accepted.
    #[error(transparent)]
    Refused(#[from] RefusalReport),
    /// The process could not be started, or failed by itself.
    #[error("the compiling process failed: {0}")]
    Process(String),
}

impl From<Refusal> for CompileError {
    fn from(refusal: Refusal) -> CompileError {
        CompileError::Refused(RefusalReport::from(&refusal))
    }
}

impl Compiler {
    /// A compiler that starts `executable`, a `modelhost` binary, and has graphs tried on the built-in engine and on
    /// the ONNX Runtime of this file, where there is one.
    pub fn new(executable: PathBuf, limits: CompilationLimits, onnxruntime: Option<PathBuf>) -> Compiler {
        Compiler { executable, onnxruntime, turn: Semaphore::new(limits.concurrent.max(1)), limits }
    }

    /// Examines and compiles the component in the file `component`, into the folder `output`.
    ///
    /// # Errors
    /// [`CompileError`].
    pub async fn compile(&self, component: &Path, output: &Path) -> Result<Examination, CompileError> {
        // The semaphore is never closed.
        let _turn = self.turn.acquire().await;
        let child = run(self.command(component, output));
        // Processor time is limited inside; this is for a process that waits without using any.
        let grace = Duration::from_secs(self.limits.seconds.saturating_add(5));
        match tokio::time::timeout(grace, child).await {
            Err(_) => Err(self.too_slow().into()),
            Ok(Err(error)) => Err(CompileError::Process(error.to_string())),
            Ok(Ok(output)) => self.read(&output),
        }
    }

    fn command(&self, component: &Path, output: &Path) -> Command {
        let option = |name: &str, value: &dyn std::fmt::Display| OsString::from(format!("--{name}={value}"));
        let mut command = confinement::command(&self.executable);
        command
            .arg(SUBCOMMAND)
            .arg(component)
            .arg(output)
            .arg(option("memory-bytes", &self.limits.memory_bytes))
            .arg(option("seconds", &self.limits.seconds))
            .args(self.onnxruntime.iter().map(|library| {
                let mut option = OsString::from("--onnxruntime=");
                option.push(library);
                option
            }));
        command
    }

    fn read(&self, output: &Output) -> Result<Examination, CompileError> {
        const SIGABRT: i32 = 6;
        const SIGKILL: i32 = 9;
        const SIGSEGV: i32 = 11;
        const SIGXCPU: i32 = 24;
        match output.status.signal() {
            Some(SIGXCPU | SIGKILL) => return Err(self.too_slow().into()),
            // Rust's answer to a failed allocation.
            Some(SIGABRT) => return Err(self.too_much_memory().into()),
            Some(SIGSEGV) => {
                return Err(Refusal::TooExpensive { limit: "the compiler's stack".to_owned() }.into());
            }
            _ => {}
        }
        match serde_json::from_slice(&output.stdout) {
            Ok(Report::Accepted(examination)) => Ok(*examination),
            Ok(Report::Refused(report)) => Err(report.into()),
            Err(_) => {
                let complaint = String::from_utf8_lossy(&output.stderr);
                if OUT_OF_MEMORY.iter().any(|words| complaint.contains(words)) {
                    return Err(self.too_much_memory().into());
                }
                let start: String = complaint.chars().take(500).collect();
                Err(CompileError::Process(format!("{}: {start}", output.status)))
            }
        }
    }

    fn too_slow(&self) -> Refusal {
        Refusal::TooExpensive { limit: format!("{} seconds", self.limits.seconds) }
    }

    fn too_much_memory(&self) -> Refusal {
        Refusal::TooExpensive { limit: format!("{} bytes of memory", self.limits.memory_bytes) }
    }
}

/// Runs the process to its end. It reads its standard input to know that this process lives.
async fn run(mut command: Command) -> std::io::Result<Output> {
    let mut child = command.spawn()?;
    // Kept open until the process has ended, whoever drops this future.
    let _alive = child.stdin.take();
    child.wait_with_output().await
}
