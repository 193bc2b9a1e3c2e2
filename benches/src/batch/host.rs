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
    share: CoreShare,
}

/// How much of the cores batch work may use.
#[derive(Clone, Copy, Debug)]
pub enum CoreShare {
    /// What the host does where nothing is set.
    Default,
    /// All of them.
    All,
}

impl CoreShare {
    async fn serve(self, binary: &Path, folder: &Path) -> Result<Server> {
        match self {
            CoreShare::Default => servers::modelhost(binary, folder).await,
            CoreShare::All => {
                let all = [("MODELHOST_RUNTIME_BACKGROUND_SHARE_PERCENT", "100")];
                servers::modelhost_with(binary, folder, &all).await
            }
        }
    }
}

impl Host {
    /// Starts a host whose only model is this plugin.
    pub async fn start(
        binary: &Path,
        plugins: &Path,
        plugin: &str,
        folder: &Path,
        share: CoreShare,
    ) -> Result<Host> {
        let host = Host { server: share.serve(binary, folder).await?, binary: binary.to_owned(), share };
        let component = plugins.join(format!("{plugin}.wasm"));
        host.command(&["push", &component.to_string_lossy(), "--model", plugin, "--deploy"])?;
        Ok(host)
    }

    /// The same data folder in a new process.
    pub async fn restart(self, folder: &Path) -> Result<Host> {
        let Host { server, binary, share } = self;
        drop(server);
        Ok(Host { server: share.serve(&binary, folder).await?, binary, share })
    }

    /// Makes a dataset of a file, so many times over.
    pub fn put(&self, name: &str, file: &Path, times: usize) -> Result<()> {
        let file = file.to_string_lossy();
        let files = std::iter::repeat_n(&*file, times);
        self.command(&["datasets", "put", name].into_iter().chain(files).collect::<Vec<_>>()).map(|_| ())
    }

    fn command(&self, arguments: &[&str]) -> Result<String> {
        self.server.command(&self.binary, arguments)
    }

    /// Runs a job to its end, and answers how long it worked.
    pub async fn run_job(&self, case: &Case, output: &str) -> Result<Duration> {
        let began = Instant::now();
        let job = self.start_job(case, output)?;
        loop {
            match self.state(job).await?.as_str() {
                "succeeded" => return Ok(began.elapsed()),
                "queued" | "running" => tokio::time::sleep(Duration::from_millis(20)).await,
                state => bail!("the job is {state}: {}", self.job(job).await?),
            }
        }
    }

    /// Starts a job.
    pub fn start_job(&self, case: &Case, output: &str) -> Result<u64> {
        let specification = json!({
            "dataset": "rows", "model": case.plugin, "key": "id", "inputs": case.rows.mapping(),
            "output": { "dataset": output },
        });
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
