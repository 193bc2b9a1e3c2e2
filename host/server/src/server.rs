//! The listening socket: takes connections up to a limit, and stops without dropping a request.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto::Builder;
use modelhost_batch::Batch;
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::BodyBudget;
use crate::connection;
use crate::log_control::LogControl;
use crate::service::Shared;
use crate::settings::{InvalidSetting, ServerSettings};
use crate::telemetry::Telemetry;

/// Where no connection can be taken, for example for want of file descriptors: how long to wait.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The HTTP API before it listens.
#[derive(Debug)]
pub struct Server;

/// The HTTP API with its socket: connections already queue up, and are taken by [`BoundServer::run`].
pub struct BoundServer {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A setting that cannot work.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// The address is in use, not this machine's, or needs more rights.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The host is served already.
    #[error("the metrics of the HTTP API cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were cut off because they did not finish in time.
    pub cut_off_connections: usize,
    /// Changes (uploads, deployments) that still run. They leave nothing half-done if the process ends now.
    pub unfinished_changes: usize,
}

impl Server {
    /// Listens on the address of the settings. What the process logs is changed through `log`.
    ///
    /// # Errors
    /// [`ServerError`]. A host can be served once.
    pub async fn bind(
        settings: ServerSettings,
        batch: Arc<Batch>,
        log: Arc<dyn LogControl>,
    ) -> Result<BoundServer, ServerError> {
        settings.check()?;
        let listen_error = |source| ServerError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let host = batch.host().clone();
        let telemetry = Arc::new(Telemetry::new(host.metrics_registry())?);
        let budget = BodyBudget::new(settings.max_buffered_bytes);
        let shared = Arc::new(Shared {
            host,
            batch,
            settings,
            telemetry,
            budget,
            log,
            stopping: CancellationToken::new(),
            changes: TaskTracker::new(),
        });
        Ok(BoundServer { listener, address, shared })
    }
}

impl BoundServer {
    /// The address that is listened on, with the port that was chosen where the settings leave it open.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready; then takes no more connections, finishes what is in flight within
    /// the grace of the settings, and cuts off the rest.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Stopped {
        let BoundServer { listener, address, shared } = self;
        let mut accepting = Accepting::new(listener, shared.clone());
        let mut shutdown = pin!(shutdown);
        tracing::info!(%address, "listening");
        loop {
            tokio::select! {
                biased;
                () = shutdown.as_mut() => break,
                Some(ended) = accepting.connections.join_next() => log_panic(ended),
                accepted = accept(&accepting.listener, &accepting.places) => accepting.serve_or_pause(accepted).await,
            }
        }
        accepting.stop().await
    }
}

/// The state of the accept loop.
struct Accepting {
    listener: TcpListener,
    protocol: Arc<Builder<TokioExecutor>>,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    connections: JoinSet<()>,
    stopping: CancellationToken,
}

type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

impl Accepting {
    fn new(listener: TcpListener, shared: Arc<Shared>) -> Accepting {
        let places = usize::try_from(shared.settings.max_connections).unwrap_or(Semaphore::MAX_PERMITS);
        Accepting {
            listener,
            protocol: Arc::new(connection::protocol(&shared.settings)),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            connections: JoinSet::new(),
            stopping: shared.stopping.clone(),
            shared,
        }
    }

    async fn serve_or_pause(&mut self, accepted: io::Result<Accepted>) {
        match accepted {
            Ok((stream, client, place)) => self.serve(stream, client, place),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn serve(&mut self, stream: TcpStream, client: SocketAddr, place: OwnedSemaphorePermit) {
        // A response is one write: waiting for more to send would only delay it.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%client, %error, "TCP_NODELAY cannot be set");
        }
        let gauge = ConnectionGauge::new(&self.shared.telemetry.connections);
        let serving = connection::serve(
            stream,
            client,
            Arc::clone(&self.protocol),
            Arc::clone(&self.shared),
            self.stopping.clone(),
        );
        self.connections.spawn(async move {
            let _held = (place, gauge);
            serving.await;
        });
    }

    async fn stop(self) -> Stopped {
        let Accepting { listener, shared, mut connections, stopping, .. } = self;
        let deadline = Instant::now() + shared.settings.shutdown_grace();
        drop(listener);
        stopping.cancel();
        tracing::info!(connections = connections.len(), "stopping: finishing what is in flight");
        while let Ok(Some(ended)) = timeout_at(deadline, connections.join_next()).await {
            log_panic(ended);
        }
        let cut_off_connections = connections.len();
        connections.shutdown().await;
        shared.changes.close();
        // Nothing waits any longer, or too long already: what counts is whether changes still run.
        let _ = timeout_at(deadline, shared.changes.wait()).await;
        let stopped = Stopped { cut_off_connections, unfinished_changes: shared.changes.len() };
        tracing::info!(cut_off_connections, unfinished_changes = stopped.unfinished_changes, "stopped");
        stopped
    }
}

/// Waits for a place first: connections beyond the limit stay in the kernel's queue.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, client) = listener.accept().await?;
    Ok((stream, client, place))
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection failed");
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Counts a connection until it is dropped.
struct ConnectionGauge(IntGauge);

impl ConnectionGauge {
    fn new(gauge: &IntGauge) -> ConnectionGauge {
        gauge.inc();
        ConnectionGauge(gauge.clone())
    }
}

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}
