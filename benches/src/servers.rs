//! Starts the servers that are measured, and stops them.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use modelhost_core::EngineName;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::client::Target;
use crate::load;

/// How long a server may take until it answers: Python loads its libraries first.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to end when it is asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A server in a process of its own, which ends with this value.
pub struct Server {
    process: Child,
    /// Such as `127.0.0.1:8080`.
    pub address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first, because one with processes of its own has to end those. One that has ended by itself needs
        // neither.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < STOP_TIMEOUT && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A bare hyper server.
pub fn bare_hyper(answer_bytes: usize) -> Result<Server> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["bare-hyper", &answer_bytes.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    let output = process.stdout.take().context("its output is a pipe")?;
    BufReader::new(output).read_line(&mut address)?;
    Ok(Server { process, address: address.trim().to_owned() })
}

/// The server in Python: its interpreter, which has what the script needs, and the script.
#[derive(Clone, Debug)]
pub struct Python {
    /// The interpreter.
    pub interpreter: PathBuf,
    /// The script.
    pub script: PathBuf,
}

impl Python {
    /// Serves an ONNX file under the name `bench`; it answers when `target` does.
    pub async fn serve(&self, onnx: &Path) -> Result<Server> {
        let address = free_address()?;
        let (host, port) = address.split_once(':').context("an address has a port")?;
        let process = Command::new(&self.interpreter)
            .arg(&self.script)
            .arg(onnx)
            .args(["--name", "bench", "--host", host, "--port", port])
            .stdout(Stdio::null())
            .spawn()?;
        let mut server = Server { process, address };
        let live = Target::new(&server.address, "GET", "/v2/health/live", b"");
        server.wait_until(&live).await?;
        Ok(server)
    }
}

/// A modelhost with its default settings, and its log in the folder `data`.
pub async fn modelhost(binary: &Path, data: &Path) -> Result<Server> {
    modelhost_with(binary, data, &[]).await
}

/// The same, with environment variables that set it up.
pub async fn modelhost_with(binary: &Path, data: &Path, settings: &[(&str, &str)]) -> Result<Server> {
    let address = free_address()?;
    let log = std::fs::File::create(data.join("host.log"))?;
    let process = Command::new(binary)
        .args(["serve", "--listen", &address, "--data-dir"])
        .arg(data.join("data"))
        .envs(settings.iter().copied())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let mut server = Server { process, address };
    let live = Target::new(&server.address, "GET", "/v2/health/live", b"");
    server.wait_until(&live).await?;
    Ok(server)
}

impl Server {
    async fn wait_until(&mut self, target: &Target) -> Result<()> {
        let started = Instant::now();
        while load::answer(target).await.is_err() {
            if let Some(status) = self.process.try_wait()? {
                bail!("a server ended by itself: {status}");
            }
            ensure!(started.elapsed() < START_TIMEOUT, "a server does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Makes a model of an ONNX file, which runs on this engine, alone or in batches of the default size.
    pub async fn deploy(&self, binary: &Path, model: &Deployment, onnx: &Path) -> Result<()> {
        let name = model.name();
        self.command(binary, &["push", &onnx.to_string_lossy(), "--model", &name])?;
        let mut configuration = json!({"engine": model.engine});
        if !model.batching {
            configuration["dynamic_batching"] = json!({"max_batch_size": 1});
        }
        let path = format!("/v1/models/{name}/configuration");
        let configure = Target::new(&self.address, "PUT", &path, configuration.to_string().as_bytes());
        load::answer(&configure).await.with_context(|| format!("cannot configure {name}"))?;
        self.command(binary, &["deploy", &name, "1"]).map(|_| ())
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Runs a command of the binary as a client, and answers what it prints.
    pub fn command(&self, binary: &Path, arguments: &[&str]) -> Result<String> {
        let (command, rest) = arguments.split_first().context("there is no command")?;
        let output = Command::new(binary)
            .args([*command, "--url", &format!("http://{}", self.address)])
            .args(rest)
            .output()?;
        ensure!(
            output.status.success(),
            "modelhost {command}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// How a model is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The engine that runs it.
    pub engine: EngineName,
    /// Whether requests run together.
    pub batching: bool,
}

impl Deployment {
    /// The name of the model.
    pub fn name(&self) -> String {
        format!("{}-{}", self.engine, if self.batching { "batched" } else { "alone" })
    }
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
