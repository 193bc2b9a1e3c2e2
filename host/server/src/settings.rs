//! What an operator may set about the HTTP API, with defaults. Knows no files and no flags.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of the HTTP API. Every field has a default. How large an upload may be is a setting of `serving`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// The address and port that are listened on. Default 127.0.0.1:8080. Port 0 is any free one. There is
    /// no authentication yet: everybody who reaches this address may also upload and deploy.
    pub listen: SocketAddr,
    /// Threads that read and write sockets; 0 is one for each four cores, at least one. Default 0. They never
    /// run a model, and one of them serves tens of thousands of requests per second.
    pub threads: usize,
    /// Bytes of the body of an inference request. Default 64 MiB. More is refused with 413, before it is
    /// read where the client says so. Decoding takes up to four times as much memory for a moment.
    pub max_body_bytes: u64,
    /// Bytes of request bodies, uploads apart, that are in memory at one moment, over all connections.
    /// Default 1 GiB. What does not fit is refused with 429. At least `max_body_bytes`.
    pub max_buffered_bytes: u64,
    /// Connections at one moment. Default 10,000. More wait in the kernel's queue until one closes. Each
    /// takes a file descriptor.
    pub max_connections: u32,
    /// Requests at one moment on one HTTP/2 connection. Default 200.
    pub max_streams_per_connection: u32,
    /// Bytes of the head (request line and headers) of a request. Default 64 KiB, at least 8 KiB. More is
    /// refused with 431.
    pub max_header_bytes: u32,
    /// Milliseconds from the first byte of a request's head to its last, and from a connection to its first
    /// head. Default 10,000. Slower clients are cut off, within twice this time.
    pub header_timeout_ms: u64,
    /// Milliseconds without any byte of an unfinished body. Default 30,000. Then 408.
    pub body_idle_timeout_ms: u64,
    /// Milliseconds from the first byte of a body to its last, uploads apart. Default 300,000. Then 408.
    pub body_timeout_ms: u64,
    /// Milliseconds that a connection may stay open without a request. Default 75,000: longer than what
    /// common load balancers keep, so that they close first.
    pub keep_alive_ms: u64,
    /// Milliseconds that requests in flight have to finish once the server is told to stop. Default 30,000.
    pub shutdown_grace_ms: u64,
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        ServerSettings {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            threads: 0,
            max_body_bytes: 64 << 20,
            max_buffered_bytes: 1 << 30,
            max_connections: 10_000,
            max_streams_per_connection: 200,
            max_header_bytes: 64 << 10,
            header_timeout_ms: 10_000,
            body_idle_timeout_ms: 30_000,
            body_timeout_ms: 300_000,
            keep_alive_ms: 75_000,
            shutdown_grace_ms: 30_000,
        }
    }
}

/// Settings that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}: expected {expected}")]
pub struct InvalidSetting {
    name: &'static str,
    value: u64,
    expected: &'static str,
}

impl ServerSettings {
    /// Threads that read and write sockets, on a machine with so many cores.
    pub fn threads_for(&self, cores: usize) -> usize {
        match self.threads {
            0 => (cores / 4).max(1),
            threads => threads,
        }
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let at_least = |name, value: u64, minimum: u64, expected| {
            if value < minimum { Err(InvalidSetting { name, value, expected }) } else { Ok(()) }
        };
        at_least("max_body_bytes", self.max_body_bytes, 1, "at least 1")?;
        at_least(
            "max_buffered_bytes",
            self.max_buffered_bytes,
            self.max_body_bytes,
            "at least max_body_bytes",
        )?;
        at_least("max_connections", self.max_connections.into(), 1, "at least 1")?;
        at_least("max_streams_per_connection", self.max_streams_per_connection.into(), 1, "at least 1")?;
        at_least("max_header_bytes", self.max_header_bytes.into(), 8192, "at least 8192")?;
        at_least("header_timeout_ms", self.header_timeout_ms, 1, "at least 1")?;
        at_least("body_idle_timeout_ms", self.body_idle_timeout_ms, 1, "at least 1")?;
        at_least("body_timeout_ms", self.body_timeout_ms, 1, "at least 1")?;
        at_least("keep_alive_ms", self.keep_alive_ms, 1, "at least 1")
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) fn body_idle_timeout(&self) -> Duration {
        Duration::from_millis(self.body_idle_timeout_ms)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    pub(crate) fn keep_alive(&self) -> Duration {
        Duration::from_millis(self.keep_alive_ms)
    }

    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert_eq!(ServerSettings::default().check(), Ok(()));
        let refused = |settings: ServerSettings| settings.check().unwrap_err().to_string();
        let default = ServerSettings::default;
        assert_eq!(
            refused(ServerSettings { max_buffered_bytes: 1, ..default() }),
            "max_buffered_bytes is 1: expected at least max_body_bytes"
        );
        assert_eq!(
            refused(ServerSettings { max_connections: 0, ..default() }),
            "max_connections is 0: expected at least 1"
        );
    }

    #[test]
    fn settings_are_read_by_name() {
        let settings: ServerSettings =
            serde_json::from_str(r#"{"listen":"[::1]:0","keep_alive_ms":5}"#).unwrap();
        let expected =
            ServerSettings { listen: "[::1]:0".parse().unwrap(), keep_alive_ms: 5, ..Default::default() };
        assert_eq!(settings, expected);
        assert!(serde_json::from_str::<ServerSettings>(r#"{"keepalive":5}"#).is_err());
    }
}
