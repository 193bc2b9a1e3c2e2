//! A `modelhost serve` process with a data folder and settings of its own.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::artifacts;
use crate::http::{Connection, Request, Response};
use crate::process;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a host is started.
#[derive(Clone, Debug)]
pub struct Setup {
    data: Arc<TempDir>,
    settings: Vec<(String, String)>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup::new()
    }
}

impl Setup {
    /// A new data folder, and the defaults.
    pub fn new() -> Setup {
        Setup { data: Arc::new(tempfile::tempdir().unwrap()), settings: Vec::new() }
    }

    /// The same with one more setting, by its key in the configuration file, such as `runtime.limits.handles`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Setup {
        let variable = format!("MODELHOST_{}", key.replace('.', "_").to_uppercase());
        self.settings.push((variable, value.to_string()));
        self
    }

    /// The same with an environment variable that is no setting of modelhost's.
    pub fn variable(mut self, name: &str, value: &str) -> Setup {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Starts a host and waits until it is ready.
    pub fn start(&self) -> Host {
        let began = Instant::now();
        let mut process = self
            .command("serve")
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.data_dir())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.read_from(process.stderr.take().unwrap());
        match ready_address(&mut process) {
            Some(address) => Host { setup: self.clone(), process, address, log, start_time: began.elapsed() },
            None => {
                let status = process.wait();
                panic!("the host did not start: {status:?}\n{}", log.text());
            }
        }
    }

    /// Any other command of the binary, with the same settings.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(artifacts::binary());
        // What the shell that runs the tests has set is not meant for these hosts.
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(|variable| variable.starts_with("MODELHOST_")) {
                command.env_remove(variable);
            }
        }
        // Which engines there are must not depend on what else this machine has.
        command.env("MODELHOST_INFERENCE_ONNXRUNTIME", "off");
        command.arg(name).envs(self.settings.iter().cloned()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// `modelhost check` on the data folder of a host that does not run.
    pub fn check(&self, arguments: &[&str]) -> Output {
        self.command("check").arg("--data-dir").arg(self.data_dir()).args(arguments).output().unwrap()
    }
}

/// The line that a host prints when it is ready names its address.
fn ready_address(process: &mut Child) -> Option<SocketAddr> {
    let mut output = BufReader::new(process.stdout.take()?);
    let mut line = String::new();
    output.read_line(&mut line).ok()?;
    // Nobody reads on: a host must not depend on it.
    line.trim().rsplit("http://").next()?.parse().ok()
}

/// What a host writes to its log, while it writes.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn read_from(&self, mut source: impl Read + Send + 'static) {
        let Log(shared) = self.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = source.read(&mut piece) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..length]);
            }
        });
    }

    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A host that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Host {
    setup: Setup,
    process: Child,
    address: SocketAddr,
    log: Log,
    /// From the start of the process to its readiness.
    pub start_time: Duration,
}

impl Host {
    /// A host with the defaults.
    pub fn start() -> Host {
        Setup::new().start()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it was started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.setup.data_dir().to_owned()
    }

    /// Everything that it logged.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// A connection to it.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address).unwrap()
    }

    /// Sends a request on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.connect().send(request).unwrap_or_else(|error| panic!("{error}\n{request:?}"))
    }

    /// `GET`, on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target))
    }

    /// A command of the binary as a client of this host.
    pub fn client(&self, arguments: &[&str]) -> Output {
        let url = format!("http://{}", self.address);
        let mut command = self.setup.command(arguments[0]);
        command.args(&arguments[1..]).env("MODELHOST_URL", url).env("USER", "ada").output().unwrap()
    }

    /// Uploads a component.
    #[track_caller]
    pub fn upload(&self, model: &str, component: &[u8]) -> Response {
        self.send(&Request::post(format!("/v1/models/{model}/versions"), component))
    }

    /// Uploads a component, deploys it, and answers the version's number.
    #[track_caller]
    pub fn deploy_new(&self, model: &str, component: &[u8]) -> u64 {
        let target = format!("/v1/models/{model}/versions?deploy=true");
        let uploaded = self.send(&Request::post(target, component)).expect(201);
        uploaded["number"].as_u64().unwrap()
    }

    /// Deploys a version that is there.
    #[track_caller]
    pub fn deploy(&self, model: &str, version: u64) -> Value {
        self.send(&deployment(model, version)).expect(200)
    }

    /// Kills it at once, as a power failure would, and answers how to start it again.
    pub fn kill(mut self) -> Setup {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.setup.clone()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        process::terminate(self.pid());
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the host ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Asks it to end, waits for it, and answers how to start it again.
    #[track_caller]
    pub fn stop(mut self) -> Setup {
        self.terminate();
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
        self.setup.clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of the host's log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// The request that deploys a version.
pub fn deployment(model: &str, version: u64) -> Request {
    let traffic = serde_json::json!({ "traffic": [{ "version": version, "percent": 100 }] });
    Request::put(format!("/v1/models/{model}/deployment"), &traffic)
}

/// Waits until something is the case.
///
/// # Panics
/// Where it is not after a minute.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
