//! Has files of datasets looked into, in a process of its own: nothing that hostile files do to that process reaches the
//! host, not its memory, its time, nor its crashes.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use modelhost_core::ErrorCode;
use modelhost_serving::confinement;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::inspect::Contents;
use super::inspect::process::{Message, Request};
use crate::Error;
use crate::settings::BatchSettings;

/// The hidden subcommand of the `modelhost` binary that calls [`super::run_inspection`].
pub const SUBCOMMAND: &str = "inspect-dataset";
/// Longest line that the process writes: a schema of as many columns as there may be, and the rows of as many files.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// Of what it complains about, for the log.
const MAX_COMPLAINT_BYTES: u64 = 4 << 10;

/// Starts inspecting processes.
pub(super) struct Inspector {
    executable: PathBuf,
    staging: PathBuf,
    memory_bytes: u64,
    seconds: u64,
    turns: Semaphore,
}

impl Inspector {
    /// One that starts `executable`, a `modelhost` binary, for files in the folder `staging`.
    pub(super) fn new(executable: PathBuf, staging: PathBuf, settings: &BatchSettings) -> Inspector {
        Inspector {
            executable,
            staging,
            memory_bytes: settings.inspection_memory_bytes,
            seconds: settings.inspection_seconds,
            turns: Semaphore::new(settings.concurrent_inspections.max(1)),
        }
    }

    /// What is in the files that the request names.
    ///
    /// # Errors
    /// [`ErrorCode::Unprocessable`]: what is wrong with them, or that they take more than looking into them may.
    pub(super) async fn inspect(&self, request: &Request) -> Result<Contents, Error> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let mut written = NamedTempFile::new_in(&self.staging)?;
        written.write_all(&serde_json::to_vec(request).map_err(Error::internal)?)?;
        let child = self.command(written.path()).spawn().map_err(Error::internal)?;
        // Processor time is limited inside; this is for a process that waits without using any.
        let grace = Duration::from_secs(self.seconds.saturating_mul(2).saturating_add(10));
        let mut said = Said::default();
        match tokio::time::timeout(grace, said.listen(child)).await {
            Err(_) => Err(self.too_slow(&said)),
            Ok(status) => self.answer(status.map_err(Error::internal)?, said),
        }
    }

    fn command(&self, request: &Path) -> Command {
        let option = |name: &str, value: u64| OsString::from(format!("--{name}={value}"));
        let mut command = confinement::command(&self.executable);
        command
            .arg(SUBCOMMAND)
            .arg(request)
            .arg(option("memory-bytes", self.memory_bytes))
            .arg(option("seconds", self.seconds))
            .current_dir(&self.staging);
        command
    }

    fn answer(&self, status: ExitStatus, said: Said) -> Result<Contents, Error> {
        const SIGABRT: i32 = 6;
        const SIGKILL: i32 = 9;
        const SIGSEGV: i32 = 11;
        const SIGXCPU: i32 = 24;
        /// Of a Rust process that panics, as the libraries that read files do on some that are broken.
        const PANICKED: i32 = 101;
        match said.answer {
            Some(Ok(contents)) if status.success() => return Ok(contents),
            Some(Err(problem)) if status.success() => return Err(unprocessable(problem)),
            _ => {}
        }
        tracing::warn!(%status, complaint = %said.complaint, "files of a dataset ended the process that looked into them");
        match (status.signal(), status.code()) {
            (Some(SIGXCPU | SIGKILL), _) => Err(self.too_slow(&said)),
            (Some(SIGSEGV), _) => Err(said.too_much("a deeper nesting than there may be")),
            (Some(SIGABRT), _) if said.complaint.contains("overflowed its stack") => {
                Err(said.too_much("a deeper nesting than there may be"))
            }
            // Rust's answer to a failed allocation.
            (Some(SIGABRT), _) => {
                Err(said.too_much(&format!("more than {} bytes of memory", self.memory_bytes)))
            }
            (_, Some(PANICKED)) => {
                let place = said.place();
                Err(unprocessable(format!("{place} is damaged in a way that cannot be described")))
            }
            _ => Err(Error::internal(format!("the inspecting process failed: {status}: {}", said.complaint))),
        }
    }

    fn too_slow(&self, said: &Said) -> Error {
        said.too_much(&format!("more than {} seconds of processor time", self.seconds))
    }
}

/// What a process said so far.
#[derive(Default)]
struct Said {
    at: Option<(String, u64)>,
    answer: Option<Result<Contents, String>>,
    complaint: String,
}

impl Said {
    /// Listens until the process ends.
    async fn listen(&mut self, mut child: Child) -> std::io::Result<ExitStatus> {
        // It reads its standard input to know that this process lives.
        let _alive = child.stdin.take();
        let (output, complaints) = (child.stdout.take(), child.stderr.take());
        let mut complaint = Vec::new();
        let (read, complained) = tokio::join!(self.read(output), read_beginning(complaints, &mut complaint));
        read.and(complained)?;
        self.complaint = String::from_utf8_lossy(&complaint).into_owned();
        child.wait().await
    }

    async fn read(&mut self, output: Option<impl AsyncRead + Unpin>) -> std::io::Result<()> {
        let Some(output) = output else { return Ok(()) };
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        while (&mut lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await? > 0 {
            match serde_json::from_slice(&line) {
                Ok(Message::At { file, row }) => self.at = Some((file, row)),
                Ok(Message::Found(contents)) => self.answer = Some(Ok(contents)),
                Ok(Message::Wrong(problem)) => self.answer = Some(Err(problem)),
                Err(error) => tracing::warn!(%error, "an inspecting process says what is not understood"),
            }
            line.clear();
        }
        Ok(())
    }

    /// Where it was.
    fn place(&self) -> String {
        match &self.at {
            Some((file, 0)) => format!("file {file:?}"),
            Some((file, row)) => format!("file {file:?}, row {row} or after it,"),
            None => "a file of the dataset".to_owned(),
        }
    }

    fn too_much(&self, what: &str) -> Error {
        unprocessable(format!("{} takes {what} to be looked into", self.place()))
    }
}

/// Reads to the end, and keeps the beginning.
async fn read_beginning(
    complaints: Option<impl AsyncRead + Unpin>,
    kept: &mut Vec<u8>,
) -> std::io::Result<()> {
    let Some(mut complaints) = complaints else { return Ok(()) };
    (&mut complaints).take(MAX_COMPLAINT_BYTES).read_to_end(kept).await?;
    tokio::io::copy(&mut complaints, &mut tokio::io::sink()).await?;
    Ok(())
}

fn unprocessable(problem: String) -> Error {
    Error::new(ErrorCode::Unprocessable, problem)
}
