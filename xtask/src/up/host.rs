//! Owns the host's process: starting it, waiting for it, and its end.
//!
//! Ctrl-C reaches the host by itself, since a terminal sends it to the whole process group; then
//! this program only waits. It must not know what the host serves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::client;
use crate::steps;
use crate::workspace::Workspace;

const PAUSE: Duration = Duration::from_millis(50);
const READY_LIMIT: Duration = Duration::from_secs(120);
/// How long a host may take to finish what it is answering.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Which signals this program got. It does not end by them any more.
pub struct Interrupts {
    by_terminal: Arc<AtomicBool>,
    by_others: Arc<AtomicBool>,
}

impl Interrupts {
    pub fn watch() -> Result<Self> {
        let interrupts = Self { by_terminal: Arc::default(), by_others: Arc::default() };
        signal_hook::flag::register(SIGINT, Arc::clone(&interrupts.by_terminal))
            .context("cannot watch Ctrl-C")?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&interrupts.by_others))
            .context("cannot watch SIGTERM")?;
        Ok(interrupts)
    }

    pub fn any(&self) -> bool {
        self.reached_the_host() || self.by_others.load(Ordering::Relaxed)
    }

    fn reached_the_host(&self) -> bool {
        self.by_terminal.load(Ordering::Relaxed)
    }
}

/// A running host. It ends with this value.
pub struct Host {
    child: Child,
    url: String,
}

impl Host {
    pub fn start(workspace: &Workspace, listen: SocketAddr, data_dir: &Path) -> Result<Self> {
        let mut command = Command::new(workspace.host_binary());
        command.arg("serve").arg("--listen").arg(listen.to_string()).arg("--data-dir").arg(data_dir);
        command.stdin(Stdio::null());
        let child =
            command.spawn().with_context(|| format!("cannot start {}", workspace.host_binary().display()))?;
        Ok(Self { child, url: url(listen) })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn wait_until_ready(&mut self, interrupts: &Interrupts) -> Result<()> {
        let ready = format!("{}/v2/health/ready", self.url);
        steps::loud("waiting for the host", || {
            let deadline = Instant::now() + READY_LIMIT;
            while !client::get(&ready).is_ok_and(|(status, _)| status == 200) {
                ensure!(!interrupts.any(), "interrupted");
                self.ensure_running()?;
                ensure!(Instant::now() < deadline, "not ready after {} s", READY_LIMIT.as_secs());
                thread::sleep(PAUSE);
            }
            // The answer might be another server's, had that one taken the port first.
            self.ensure_running()
        })
    }

    /// Returns when a signal came; the host's own end is an error.
    pub fn wait_until_interrupted(&mut self, interrupts: &Interrupts) -> Result<()> {
        steps::note(&format!("serving on {}; Ctrl-C stops", self.url));
        while !interrupts.any() {
            if let Some(status) = self.exited()? {
                // A terminal's Ctrl-C may be handled there before it is seen here.
                thread::sleep(PAUSE);
                ensure!(interrupts.any(), "the host has exited by itself: {status}");
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Lets the host finish, asking it to unless it knows already.
    pub fn stop(&mut self, interrupts: &Interrupts) -> Result<()> {
        if !interrupts.reached_the_host() {
            self.signal()?;
        }
        if self.wait(STOP_LIMIT / 2)? {
            return Ok(());
        }
        // A signal sent to this program alone did not reach the host.
        self.signal()?;
        if self.wait(STOP_LIMIT / 2)? {
            return Ok(());
        }
        self.child.kill().context("cannot end the host")?;
        self.child.wait().context("cannot wait for the host")?;
        bail!("the host did not stop within {} s and was ended", STOP_LIMIT.as_secs());
    }

    fn wait(&mut self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        while self.exited()?.is_none() {
            if Instant::now() > deadline {
                return Ok(false);
            }
            thread::sleep(PAUSE);
        }
        Ok(true)
    }

    fn signal(&mut self) -> Result<()> {
        if self.exited()?.is_some() {
            return Ok(());
        }
        let process = i32::try_from(self.child.id()).context("the host's process number is out of range")?;
        kill(Pid::from_raw(process), Signal::SIGINT).context("cannot signal the host")
    }

    fn ensure_running(&mut self) -> Result<()> {
        match self.exited()? {
            None => Ok(()),
            Some(status) => bail!("the host has exited: {status}"),
        }
    }

    fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for the host")
    }
}

impl Drop for Host {
    /// For the ways out that did not stop it; a host that has ended already makes both calls fail,
    /// which is as good.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a client on this machine finds it.
fn url(listen: SocketAddr) -> String {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        let local = match listen.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        address.set_ip(local);
    }
    format!("http://{address}")
}

#[cfg(test)]
mod proofs {
    use super::url;

    #[test]
    fn a_wildcard_is_reached_on_the_loopback() {
        assert_eq!(url("0.0.0.0:8080".parse().unwrap()), "http://127.0.0.1:8080");
        assert_eq!(url("[::]:8080".parse().unwrap()), "http://[::1]:8080");
        assert_eq!(url("10.0.0.1:80".parse().unwrap()), "http://10.0.0.1:80");
    }
}
