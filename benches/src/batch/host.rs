//! A host with a plugin and a dataset, and what is asked of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Case;
use crate::client::Target;
use crate::load::{self, Load};
use crate::open_loop;
use crate::servers::{self, Server};
use crate::timing::Effort;

/// A host that runs.
pub struct Host {
    server: Server,
    binary: PathBuf,
}

impl Host {
    /// Starts a host whose only model is this plugin.
    pub async fn start(binary: &Path, plugins: &Path, plugin: &str, folder: &Path) -> Result<Host> {
        let host = Host { server: servers::modelhost(binary, folder).await?, binary: binary.to_owned() };
        let component = plugins.join(format!("{plugin}.wasm"));
        host.command(&["push", &component.to_string_lossy(), "--model", plugin, "--deploy"])?;
        Ok(host)
    }

    /// The same data folder in a new process.
    pub async fn restart(self, binary: &Path, folder: &Path) -> Result<Host> {
        drop(self);
        Ok(Host { server: servers::modelhost(binary, folder).await?, binary: binary.to_owned() })
    }

    /// Makes a dataset of a file.
    pub fn put(&self, name: &str, file: &Path) -> Result<()> {
        self.command(&["datasets", "put", name, &file.to_string_lossy()]).map(|_| ())
    }

    fn command(&self, arguments: &[&str]) -> Result<String> {
        self.server.command(&self.binary, arguments)
    }

    /// Runs a job to its end, and answers how long it worked.
    pub async fn run_job(&self, case: &Case, output: &str) -> Result<Duration> {
        let began = Instant::now();
        // As the plain loop, on all cores.
        let job = self.start_job(case, output, Some(100))?;
        loop {
            match self.state(job).await?.as_str() {
                "succeeded" => return Ok(began.elapsed()),
                "queued" | "running" => tokio::time::sleep(Duration::from_millis(20)).await,
                state => bail!("the job is {state}: {}", self.job(job).await?),
            }
        }
    }

    /// Starts a job.
    pub fn start_job(&self, case: &Case, output: &str, share_percent: Option<u32>) -> Result<u64> {
        let mut specification = json!({
            "dataset": "rows", "model": case.plugin, "key": "id", "inputs": case.rows.mapping(),
            "output": { "dataset": output },
        });
        if let Some(percent) = share_percent {
            specification["share_percent"] = percent.into();
        }
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), specification.to_string())?;
        let made =
            self.command(&["batch", "run", "--json", "--no-wait", "--file", &file.path().to_string_lossy()])?;
        serde_json::from_str::<Value>(&made)?["id"].as_u64().context("a job has a number")
    }

    async fn job(&self, job: u64) -> Result<Value> {
        let target = Target::new(&self.server.address, "GET", &format!("/v1/jobs/{job}"), b"");
        Ok(serde_json::from_slice(&load::answer(&target).await?)?)
    }

    /// The state of a job.
    pub async fn state(&self, job: u64) -> Result<String> {
        Ok(self.job(job).await?["state"].as_str().unwrap_or_default().to_owned())
    }

    /// Cancels a job, unless it has ended.
    pub async fn cancel(&self, job: u64) -> Result<()> {
        if self.state(job).await? == "running" {
            self.command(&["batch", "cancel", &job.to_string()])?;
        }
        Ok(())
    }

    /// Rows a second of one client that sends row by row.
    pub async fn one_by_one(&self, case: &Case, effort: Effort) -> Result<f64> {
        Ok(load::run(&self.infer(case)?, 1, effort).await?.requests_per_second)
    }

    /// What requests of one row take that arrive at this rate.
    pub async fn requests(&self, case: &Case, rate: f64, effort: Effort) -> Result<Load> {
        open_loop::run(&self.infer(case)?, rate, effort).await
    }

    fn infer(&self, case: &Case) -> Result<Target> {
        let path = format!("/v2/models/{}/infer", case.plugin);
        Ok(Target::new(&self.server.address, "POST", &path, case.rows.request()?.to_string().as_bytes()))
    }

    /// The most resident memory of the process so far, in bytes.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1_024)
    }
}
