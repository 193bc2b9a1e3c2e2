//! Starts the servers that are measured, and stops them.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// A server in a process of its own, which ends with this value.
pub struct Server {
    process: Child,
    /// Such as `127.0.0.1:8080`.
    pub address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself needs no killing.
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

/// A modelhost with its default settings, and its log in the folder `data`.
pub fn modelhost(binary: &Path, data: &Path) -> Result<Server> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let log = std::fs::File::create(data.join("host.log"))?;
    let process = Command::new(binary)
        .args(["serve", "--listen", &address, "--data-dir"])
        .arg(data.join("data"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let mut server = Server { process, address };
    let started = Instant::now();
    while std::net::TcpStream::connect(&server.address).is_err() {
        if let Some(status) = server.process.try_wait()? {
            bail!("modelhost ended by itself: {status}");
        }
        ensure!(started.elapsed() < Duration::from_secs(20), "modelhost does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

/// Uploads and deploys an ONNX file under a name.
pub fn push(binary: &Path, server: &Server, model: &str, onnx: &Path) -> Result<()> {
    let status = Command::new(binary)
        .args(["push", "--url", &format!("http://{}", server.address)])
        .arg(onnx)
        .args(["--model", model, "--deploy"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "push of {model} failed: {status}");
    Ok(())
}
