//! A server on a free port, and a client that writes and reads bytes as they are on the wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use modelhost_batch::Batch;
use modelhost_server::{LogControl, LogState, Server, ServerSettings, Stopped};
use modelhost_serving::{ModelHost, Settings};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct TestServer {
    pub address: SocketAddr,
    pub data_dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Stopped>,
}

/// These servers do not log.
struct NoLog;

impl LogControl for NoLog {
    fn state(&self) -> LogState {
        LogState { errors: false, warnings: false, information: false, ..LogState::default() }
    }

    fn change(&self, _wanted: LogState) -> Result<(), String> {
        Err("there is no log".to_owned())
    }
}

/// Settings with a free port.
pub fn settings() -> ServerSettings {
    ServerSettings { listen: ([127, 0, 0, 1], 0).into(), ..ServerSettings::default() }
}

impl TestServer {
    pub async fn start(settings: ServerSettings) -> TestServer {
        let data_dir = tempfile::tempdir().unwrap();
        let host = ModelHost::open(Settings {
            data_dir: data_dir.path().to_owned(),
            executable: std::env::current_exe().unwrap(),
            serving: Default::default(),
            inference: Default::default(),
            runtime: Default::default(),
        });
        let host: Arc<ModelHost> = host.await.unwrap();
        let batch = Batch::open(host, Default::default()).await.unwrap();
        let server = Server::bind(settings, batch, Arc::new(NoLog)).await.unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        TestServer { address, data_dir, stop: Some(stop), running }
    }

    pub async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), buffer: Vec::new() }
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    pub fn begin_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub async fn stopped(self) -> Stopped {
        timeout(PATIENCE, self.running).await.unwrap().unwrap()
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut headers = lines.filter_map(|line| line.split_once(": "));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The sentence of an error, whose form is checked.
    pub fn error(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        let fields = body.as_object().unwrap();
        assert_eq!(fields.len(), 1, "{self:?}");
        fields["error"].as_str().unwrap().to_owned()
    }
}

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Sends text with a newline wherever HTTP wants CRLF in a head: only heads have newlines here.
    pub async fn send(&mut self, text: &str) {
        self.send_bytes(text.replace('\n', "\r\n").as_bytes()).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next response; its length must be declared.
    pub async fn answer(&mut self) -> Answer {
        self.read_answer(true).await
    }

    /// The next response, which answers a HEAD.
    pub async fn answer_to_head(&mut self) -> Answer {
        self.read_answer(false).await
    }

    async fn read_answer(&mut self, has_body: bool) -> Answer {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(self.read_more().await > 0, "closed after {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length = match answer.header("content-length") {
            Some(length) if has_body => length.parse().unwrap(),
            _ => 0,
        };
        while self.buffer.len() < length {
            assert!(self.read_more().await > 0, "closed within a body");
        }
        answer.body = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        answer
    }

    pub async fn read_more(&mut self) -> usize {
        timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.unwrap().unwrap_or(0)
    }

    /// Waits until the server closes the connection; what it sent before.
    pub async fn closed(&mut self) -> Vec<u8> {
        while self.read_more().await > 0 {}
        std::mem::take(&mut self.buffer)
    }

    pub fn received(&self) -> &[u8] {
        &self.buffer
    }
}
