//! A closed loop of HTTP clients: each connection sends the next request when the last one is answered.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::timing::{Effort, Times};

/// What a load came to.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    /// Over all connections.
    pub requests_per_second: f64,
    /// Of single requests.
    pub times: Times,
}

/// Where and what to post.
#[derive(Clone, Debug)]
pub struct Target {
    /// Such as `127.0.0.1:8080`.
    pub address: String,
    /// The path.
    pub path: String,
    /// The body.
    pub body: Bytes,
}

/// Sends requests over `connections` connections at once.
pub async fn run(target: &Target, connections: usize, effort: Effort) -> Result<Throughput> {
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(client(target.clone(), effort));
    }
    let mut samples = Vec::new();
    while let Some(client) = clients.join_next().await {
        samples.extend(client??);
    }
    let requests_per_second = samples.len() as f64 / effort.measure.as_secs_f64();
    Ok(Throughput { requests_per_second, times: Times::of(samples) })
}

/// The body of one answer.
pub async fn answer(target: &Target) -> Result<Bytes> {
    post(&mut connect(target).await?, target).await
}

async fn client(target: Target, effort: Effort) -> Result<Vec<Duration>> {
    let mut connection = connect(&target).await?;
    let warm = Instant::now();
    while warm.elapsed() < effort.warm_up {
        post(&mut connection, &target).await?;
    }
    let began = Instant::now();
    let mut samples = Vec::new();
    while began.elapsed() < effort.measure {
        let started = Instant::now();
        post(&mut connection, &target).await?;
        samples.push(started.elapsed());
    }
    Ok(samples)
}

async fn connect(target: &Target) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(&target.address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn post(connection: &mut SendRequest<Full<Bytes>>, target: &Target) -> Result<Bytes> {
    let request = Request::post(&target.path)
        .header("host", &target.address)
        .header("content-type", "application/json")
        .body(Full::new(target.body.clone()))?;
    connection.ready().await?;
    let response = connection.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}
