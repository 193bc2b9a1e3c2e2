//! One connection, HTTP/1.1 or HTTP/2 without TLS: serves its requests, and ends it where it is slow, idle or
//! the server stops.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use http::Version;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::activity::{Activity, Verdict, Watched};
use crate::service::{Shared, answer};
use crate::settings::ServerSettings;

/// How connections speak HTTP.
pub(crate) fn protocol(settings: &ServerSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // The buffer that must hold a head; bodies pass through it in pieces.
        .max_buf_size(usize::try_from(settings.max_header_bytes).unwrap_or(usize::MAX))
        // Would be a timer per request; slow heads are seen by `activity`.
        .header_read_timeout(None);
    builder
        .http2()
        .max_header_list_size(settings.max_header_bytes)
        .max_concurrent_streams(settings.max_streams_per_connection);
    builder
}

/// Serves a connection to its end. When `stopping` is cancelled, requests in flight are finished and no more
/// are taken.
pub(crate) async fn serve(
    stream: TcpStream,
    client: SocketAddr,
    protocol: Arc<Builder<TokioExecutor>>,
    shared: Arc<Shared>,
    stopping: CancellationToken,
) {
    let header_timeout = shared.settings.header_timeout();
    let keep_alive = shared.settings.keep_alive();
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(Watched { stream, activity: Arc::clone(&activity) });
    let requests = Arc::clone(&activity);
    let service = service_fn(move |request| {
        let guard = requests.request(request.version() == Version::HTTP_2);
        let shared = Arc::clone(&shared);
        async move {
            let _guard = guard;
            Ok::<_, Infallible>(answer(shared, client, request).await)
        }
    });
    let mut connection = pin!(protocol.serve_connection(io, service));
    let mut next_look = pin!(sleep(header_timeout.min(keep_alive)));
    let mut stop = pin!(stopping.cancelled());
    let mut is_ending = false;
    loop {
        tokio::select! {
            biased;
            outcome = connection.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(%client, %error, "connection ended early");
                }
                return;
            }
            () = next_look.as_mut() => match activity.look(header_timeout, keep_alive) {
                Verdict::Idle if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                verdict @ (Verdict::Idle | Verdict::SlowHead) => {
                    tracing::debug!(%client, ?verdict, "connection cut off");
                    return;
                }
                Verdict::Alive => {}
            },
            () = stop.as_mut(), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
        if next_look.is_elapsed() {
            next_look.as_mut().reset(Instant::now() + header_timeout.min(keep_alive));
        }
    }
}
