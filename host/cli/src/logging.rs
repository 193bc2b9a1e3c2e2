//! The log of a host, on standard error.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::log_writer::LogWriter;

/// What is logged, and how it looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,modelhost_server=debug`.
    /// Default `info`.
    pub level: String,
    /// Lines for people or objects for programs. Default text.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Begins to log. To be called once; what is given back has to be flushed at the end.
///
/// # Errors
/// A level that is none.
pub fn start(settings: &LogSettings) -> anyhow::Result<LogWriter> {
    let writer = LogWriter::start().context("the log cannot be started")?;
    let log = fmt().with_env_filter(filter(&settings.level)?).with_writer(writer.clone());
    let started = match settings.format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.with_ansi(is_coloured()).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))?;
    Ok(writer)
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let expected = "log.level: expected error, warn, info, debug, trace, or directives";
    EnvFilter::builder().parse(level).with_context(|| format!("{expected}; {level:?} was given"))
}

/// As <https://no-color.org> asks for.
fn is_coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked() {
        assert!(filter("info").is_ok());
        assert!(filter("warn,modelhost_server=debug").is_ok());
        let complaint = format!("{:#}", filter("modelhost=loud").unwrap_err());
        assert!(complaint.contains("log.level") && complaint.contains("loud"), "{complaint}");
    }
}
