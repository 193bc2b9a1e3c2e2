//! `serve`: a host, from its configuration to its last answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use modelhost_batch::Batch;
use modelhost_server::Server;
use modelhost_serving::{ModelHost, Settings};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, ConfigArguments};
use crate::failure::Failure;
use crate::logging::Log;
use crate::{allocator, logging, output};

/// How long work that nobody waits for may hold up the end of the process.
const LAST_WORK_TIMEOUT: Duration = Duration::from_secs(1);

/// Flags, which win over the environment, which wins over the file.
#[derive(Debug, Args)]
#[command(after_help = "\
Every setting of the file has an environment variable, such as MODELHOST_SERVER_MAX_BODY_BYTES
for max_body_bytes in [server]. Ctrl-C or SIGTERM finishes what is in flight; a second one ends at once.")]
pub struct Serve {
    /// The address and port to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "MODELHOST_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    config: ConfigArguments,
    /// Print the configuration that all sources together give, as TOML, and end
    #[arg(long)]
    print_config: bool,
}

/// Serves until a signal comes.
///
/// # Errors
/// A configuration, a data folder or an address that cannot be used.
pub fn run(arguments: &Serve) -> Result<(), Failure> {
    let loaded = Config::load_with(&arguments.config, arguments.listen, std::env::vars_os())?;
    if arguments.print_config {
        return output::print(&loaded.config.to_toml()?);
    }
    allocator::give_memory_back_soon().context("no thread for the allocator")?;
    let log = Arc::new(logging::start(&loaded.config.log)?);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(loaded.config.server.threads_for(cores))
        .thread_name("http")
        .enable_all()
        .build()
        .context("threads cannot be started")?;
    let served = runtime.block_on(serve(loaded.config, Arc::clone(&log)));
    end(runtime);
    log.flush();
    served
}

/// Work that still runs leaves nothing half-done if the process ends, so it is not waited for long.
fn end(runtime: Runtime) {
    runtime.shutdown_timeout(LAST_WORK_TIMEOUT);
}

async fn serve(config: Config, log: Arc<Log>) -> Result<(), Failure> {
    // Before anything that takes long, so that no signal is lost.
    let signals = Signals::watch().context("signals cannot be watched")?;
    let settings = Settings {
        data_dir: config.data_dir,
        executable: own_executable()?,
        serving: config.serving,
        inference: config.inference,
        runtime: config.runtime,
    };
    let host = ModelHost::open(settings).await.map_err(|error| anyhow::anyhow!(error.message))?;
    let batch = Batch::open(host, config.batch).await.map_err(|error| anyhow::anyhow!(error.message))?;
    // Its message holds its cause already.
    let server = Server::bind(config.server, batch, log).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    output::print(&format!("modelhost is ready on http://{}", server.local_addr()))?;
    server.run(signals.first()).await;
    Ok(())
}

/// The binary that compiles uploads: this very one, even where a newer one has taken its place on the disk,
/// whose machine code this process would not run.
fn own_executable() -> anyhow::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok("/proc/self/exe".into());
    }
    std::env::current_exe().context("the path of this binary is not known")
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn watch() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the first signal; the second ends the process.
    async fn first(mut self) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("ended by a second signal");
            process::exit(1);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
