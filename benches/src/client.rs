//! One HTTP/1.1 connection of the load generator. It shares the cores with the server that it measures, so it does no
//! more than it must: a request is one text that is made once, and of an answer it reads where it ends.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Where requests go, and what they say.
#[derive(Clone, Debug)]
pub struct Target {
    address: String,
    /// Of which each is as likely to be sent.
    requests: Arc<[Bytes]>,
}

impl Target {
    /// A request with a JSON body. `address` is such as `127.0.0.1:8080`.
    pub fn new(address: &str, method: &str, path: &str, body: &[u8]) -> Target {
        Target::one_of(address, [request(address, method, path, "application/json", body)])
    }

    /// One of these requests, another one each time.
    pub fn one_of(address: &str, requests: impl IntoIterator<Item = Bytes>) -> Target {
        Target { address: address.to_owned(), requests: requests.into_iter().collect() }
    }

    /// The whole request; of several the first.
    pub fn request(&self) -> Bytes {
        self.requests.first().cloned().unwrap_or_default()
    }
}

/// The text of a request.
pub fn request(address: &str, method: &str, path: &str, media_type: &str, body: &[u8]) -> Bytes {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat().into()
}

/// An open connection.
pub struct Connection {
    stream: TcpStream,
    requests: Arc<[Bytes]>,
    random: fastrand::Rng,
    received: BytesMut,
}

impl Connection {
    /// Connects.
    pub async fn open(target: &Target) -> Result<Connection> {
        let stream = TcpStream::connect(&target.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            requests: target.requests.clone(),
            random: fastrand::Rng::new(),
            received: BytesMut::with_capacity(64 << 10),
        })
    }

    /// Sends a request and waits for the whole answer: its body.
    pub async fn ask(&mut self) -> Result<BytesMut> {
        let request = match self.requests.len() {
            1 => 0,
            many => self.random.usize(..many),
        };
        self.stream.write_all(&self.requests[request]).await?;
        self.receive().await
    }

    /// One half that receives, and one for somebody else to send on.
    pub fn split(self) -> Result<(Connection, std::net::TcpStream)> {
        let stream = self.stream.into_std()?;
        let writer = stream.try_clone()?;
        Ok((Connection { stream: TcpStream::from_std(stream)?, ..self }, writer))
    }

    /// Waits for a whole answer: its body.
    pub async fn receive(&mut self) -> Result<BytesMut> {
        loop {
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(read > 0, "the server closed the connection");
            if let Some((head, body)) = whole_answer(&self.received)? {
                let _head = self.received.split_to(head);
                return Ok(self.received.split_to(body));
            }
        }
    }
}

/// The lengths of head and body, once all of it is there.
fn whole_answer(received: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(received)? else { return Ok(None) };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("the answer does not say its length")?.value;
    let length: usize = std::str::from_utf8(length)?.parse()?;
    let Some(body) = received.get(head..head + length) else { return Ok(None) };
    if !matches!(response.code, Some(200 | 201)) {
        bail!("status {}: {}", response.code.unwrap_or_default(), String::from_utf8_lossy(body));
    }
    Ok(Some((head, length)))
}
