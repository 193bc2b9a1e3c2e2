//! A plain HTTP/1.1 client on one connection: nothing is retried, nothing is hidden, and a broken connection is an
//! error that a test sees.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer of a test may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A request with any method.
    pub fn new(method: &'static str, target: impl Into<String>, body: impl Into<Vec<u8>>) -> Request {
        Request { method, target: target.into(), headers: Vec::new(), body: body.into() }
    }

    /// `GET`.
    pub fn get(target: impl Into<String>) -> Request {
        Request::new("GET", target, [])
    }

    /// `POST`.
    pub fn post(target: impl Into<String>, body: impl Into<Vec<u8>>) -> Request {
        Request::new("POST", target, body)
    }

    /// `PUT`, with JSON.
    pub fn put(target: impl Into<String>, body: &Value) -> Request {
        Request::new("PUT", target, body.to_string())
    }

    /// `DELETE`.
    pub fn delete(target: impl Into<String>) -> Request {
        Request::new("DELETE", target, [])
    }

    /// The same request with one more header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Request {
        self.headers.push((name, value.into()));
        self
    }

    fn head(&self) -> String {
        let Request { method, target, headers, body } = self;
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: modelhost\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head
    }
}

/// A response, read whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{} is answered with no JSON ({error}): {:?}", self.status, self.text())
        })
    }

    /// The body as JSON, of an answer with this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The sentence of an error with this status. An error is a JSON object with that one string and nothing else.
    #[track_caller]
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        let body = self.json();
        let sentence = body["error"].as_str().unwrap_or_default().to_owned();
        assert!(!sentence.is_empty() && body.as_object().is_some_and(|object| object.len() == 1), "{body}");
        for leak in ["/tmp/", "/src/", ".rs:", "panicked", "backtrace"] {
            assert!(!sentence.contains(leak), "an internal leaks out: {sentence}");
        }
        sentence
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// Sends a request and reads its response.
    ///
    /// # Errors
    /// A connection that breaks, whatever of the response came before.
    pub fn send(&mut self, request: &Request) -> io::Result<Response> {
        self.write(&[request.head().as_bytes(), &request.body].concat())?;
        self.read_response()
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    /// A connection that breaks.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one response.
    ///
    /// # Errors
    /// A connection that breaks, and what is no HTTP.
    pub fn read_response(&mut self) -> io::Result<Response> {
        loop {
            let response = self.read_any_response()?;
            if response.status != 100 {
                return Ok(response);
            }
        }
    }

    /// Reads until the other side closes the connection.
    ///
    /// # Errors
    /// A connection that stays open for longer than anybody waits.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(rest),
        }
    }

    /// Reads exactly this many bytes.
    ///
    /// # Errors
    /// A connection that breaks.
    pub fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn read_any_response(&mut self) -> io::Result<Response> {
        let status_line = self.read_line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => break,
            }
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if response.header("transfer-encoding") == Some("chunked") {
            response.body = self.read_chunks()?;
            return Ok(response);
        }
        let length = response.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        response.body = self.read_exactly(length)?;
        Ok(response)
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.read_line()?;
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            body.extend(self.read_exactly(size)?);
            self.read_line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}
