//! Stopping: what is in flight is finished, what hangs is cut off.

use std::time::Duration;

use modelhost_server::{ServerSettings, Stopped};
use tokio::net::TcpStream;

use crate::client::{TestServer, settings};

const SLOW: &str = "PUT /v1/models/m/deployment HTTP/1.1\nHost: x\nContent-Length: 2\n\n{";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished() {
    let mut server = TestServer::start(settings()).await;
    let mut busy = server.connect().await;
    busy.send(SLOW).await;
    let mut idle = server.connect().await;
    idle.send("GET /v2/health/live HTTP/1.1\nHost: x\n\n").await;
    assert_eq!(idle.answer().await.status, 200);
    tokio::time::sleep(Duration::from_millis(100)).await;

    server.begin_stop();
    idle.closed().await;
    assert!(TcpStream::connect(server.address).await.is_err(), "a new connection was taken");
    busy.send("}").await;
    let answer = busy.answer().await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"));
    busy.closed().await;
    assert_eq!(server.stopped().await, Stopped { cut_off_connections: 0, unfinished_changes: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_is_cut_off() {
    let mut server = TestServer::start(ServerSettings { shutdown_grace_ms: 200, ..settings() }).await;
    let mut busy = server.connect().await;
    busy.send(SLOW).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.begin_stop();
    busy.closed().await;
    assert_eq!(server.stopped().await, Stopped { cut_off_connections: 1, unfinished_changes: 0 });
}
