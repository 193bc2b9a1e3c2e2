//! Clients that send too much, too slowly, or nothing.

use std::time::{Duration, Instant};

use modelhost_server::ServerSettings;

use crate::client::{PATIENCE, TestServer, settings};

const DEPLOYMENT: &str = "PUT /v1/models/m/deployment HTTP/1.1\nHost: x\n";

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large() {
    let server = TestServer::start(settings()).await;
    let declared = server.ask(&format!("{DEPLOYMENT}Content-Length: 1000000000000000\n\n{{")).await;
    assert_eq!(declared.status, 413, "{declared:?}");
    assert!(declared.error().contains("65536"));
    let mut client = server.connect().await;
    client.send(&format!("{DEPLOYMENT}Transfer-Encoding: chunked\n\n")).await;
    for _ in 0..40 {
        client.send(&format!("800\n{}\n", " ".repeat(0x800))).await;
    }
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_for_a_body_that_is_not_wanted() {
    let server = TestServer::start(settings()).await;
    let mut client = server.connect().await;
    client.send(&format!("{DEPLOYMENT}Expect: 100-continue\nContent-Length: 1000000\n\n")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    client.closed().await;
}

/// The client sends all before it reads anything; it must see the answer, not a broken connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upload_still_gets_its_answer() {
    let server = TestServer::start(settings()).await;
    let mut client = server.connect().await;
    let length = 16 << 20;
    client.send(&format!("POST /v1/models/-/versions HTTP/1.1\nHost: x\nContent-Length: {length}\n\n")).await;
    client.send_bytes(&vec![0; length]).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.error().contains("model name"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let server = TestServer::start(settings()).await;
    let mut client = server.connect().await;
    client.send("POST /v1/models/m/versions HTTP/1.1\nHost: x\nContent-Length: 2000000\n\n").await;
    client.send_bytes(&vec![0; 1_000_000]).await;
    let staging = server.data_dir.path().join("staging");
    // Beside files there is the folder for what queries put on the disk.
    let is_file = |entry: &std::fs::DirEntry| entry.file_type().unwrap().is_file();
    let count = || std::fs::read_dir(&staging).unwrap().filter_map(Result::ok).filter(is_file).count();
    let deadline = Instant::now() + PATIENCE;
    while count() == 0 {
        assert!(Instant::now() < deadline, "the upload never began");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    while count() > 0 {
        assert!(Instant::now() < deadline, "the upload is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let models = server.ask("GET /v1/models HTTP/1.1\nHost: x\n\n").await;
    assert_eq!(models.body, r#"{"models":[],"object":"list","data":[]}"#);
    let metrics = server.ask("GET /metrics HTTP/1.1\nHost: x\n\n").await.body;
    let counted = |status| {
        let labels = r#"method="POST",route="/v1/models/{model}/versions""#;
        metrics.contains(&format!("http_server_requests_total{{{labels},status=\"{status}\"}} 1"))
    };
    assert!(counted(499) || counted(400), "{metrics}");
    assert!(metrics.contains("http_server_requests_in_flight 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large() {
    let server = TestServer::start(settings()).await;
    let mut client = server.connect().await;
    client.send(&format!("GET /v2 HTTP/1.1\nHost: x\nX-Long: {}\n\n", "x".repeat(100_000))).await;
    assert_eq!(client.answer().await.status, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_never_end() {
    let server = TestServer::start(ServerSettings { header_timeout_ms: 200, ..settings() }).await;
    for start in ["", "G", "GET /v2 HTTP/1.1\nHost: x\n", "PRI * HT"] {
        let mut client = server.connect().await;
        client.send(start).await;
        assert_eq!(client.closed().await, b"", "{start:?}");
    }
    let mut client = server.connect().await;
    client.send("GET /v2/health/live HTTP/1.1\nHost: x\n\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET /v2").await;
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_stay_for_a_while() {
    let server =
        TestServer::start(ServerSettings { header_timeout_ms: 100, keep_alive_ms: 700, ..settings() }).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.send("GET /v2/health/live HTTP/1.1\nHost: x\n\n").await;
        assert_eq!(client.answer().await.status, 200);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    client.send("GET /v2/health/live HTTP/1.1\nHost: x\n\n").await;
    assert_eq!(client.answer().await.status, 200);
    let started = Instant::now();
    client.closed().await;
    assert!(started.elapsed() > Duration::from_millis(600), "closed after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_end() {
    let patient = Duration::from_millis(2000);
    let idle = TestServer::start(ServerSettings { body_idle_timeout_ms: 200, ..settings() }).await;
    let answer = idle.ask(&format!("{DEPLOYMENT}Content-Length: 10\n\n{{")).await;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(answer.error().contains("in time"));

    let dripping = TestServer::start(ServerSettings { body_timeout_ms: 500, ..settings() }).await;
    let mut client = dripping.connect().await;
    client.send(&format!("{DEPLOYMENT}Content-Length: 1000\n\n")).await;
    let started = Instant::now();
    while started.elapsed() < patient && client.received().is_empty() {
        client.send("x").await;
        let _ = tokio::time::timeout(Duration::from_millis(50), client.read_more()).await;
    }
    assert_eq!(client.answer().await.status, 408);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait() {
    let server = TestServer::start(ServerSettings { max_connections: 1, ..settings() }).await;
    let mut first = server.connect().await;
    first.send("GET /v2/health/live HTTP/1.1\nHost: x\n\n").await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = server.connect().await;
    second.send("GET /v2/health/live HTTP/1.1\nHost: x\n\n").await;
    let waited = tokio::time::timeout(Duration::from_millis(200), second.read_more()).await;
    assert!(waited.is_err(), "the second connection was served beside the first");
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}
