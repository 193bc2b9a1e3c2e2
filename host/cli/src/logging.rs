//! The log of a host, on standard error: as it is configured, and as clients change it while the host runs.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::Context as _;
use modelhost_server::{LogControl, LogState, LogTime};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::DynFilterFn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

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

/// The log of this process, which says less or more while it runs.
pub struct Log {
    writer: LogWriter,
    /// What the configuration asks for, for as long as nobody asked for anything else.
    configured: (LogState, String),
    state: Mutex<LogState>,
    directives: reload::Handle<EnvFilter, Registry>,
    levels: Arc<Levels>,
    has_short_time: Arc<AtomicBool>,
}

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;

/// Begins to log. To be called once; what is given back has to be flushed at the end.
///
/// # Errors
/// A level that is none.
pub fn start(settings: &LogSettings) -> anyhow::Result<Log> {
    let writer = LogWriter::start().context("the log cannot be started")?;
    let filter = filter(&settings.level)?;
    let state = state_of(&filter);
    let (directives, handle) = reload::Layer::new(filter);
    let levels = Arc::new(Levels::new(state));
    let has_short_time = Arc::new(AtomicBool::new(false));
    let time = LogTimer { is_short: has_short_time.clone() };
    let format = fmt::layer::<Filtered>().with_writer(writer.clone()).with_timer(time);
    let format: Box<dyn Layer<Filtered> + Send + Sync> = match settings.format {
        LogFormat::Json => Box::new(format.json().flatten_event(true).with_filter(levels.filter())),
        LogFormat::Text => Box::new(format.with_ansi(is_coloured()).with_filter(levels.filter())),
    };
    let started = tracing_subscriber::registry().with(directives).with(format).try_init();
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))?;
    let configured = (state, settings.level.clone());
    Ok(Log { writer, configured, state: Mutex::new(state), directives: handle, levels, has_short_time })
}

impl Log {
    /// Writes what waits.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// The directives that let through what is wanted, and perhaps more, which [`Levels`] holds back.
    fn directives(&self, wanted: LogState) -> String {
        let (configured, directives) = &self.configured;
        if (LogState { time: configured.time, ..wanted }) == *configured {
            return directives.clone();
        }
        let level = match wanted {
            LogState { information: true, .. } => "info",
            LogState { warnings: true, .. } => "warn",
            LogState { errors: true, .. } => "error",
            _ => "off",
        };
        match wanted.verbose_level {
            0 => level.to_owned(),
            // Only of modelhost itself: libraries say what no operator understands, for every byte.
            1 => format!("{level},modelhost=debug"),
            _ => format!("{level},modelhost=trace"),
        }
    }
}

impl LogControl for Log {
    fn state(&self) -> LogState {
        *self.state.lock()
    }

    fn change(&self, wanted: LogState) -> Result<(), String> {
        let mut state = self.state.lock();
        let filter = filter(&self.directives(wanted)).map_err(|error| format!("{error:#}"))?;
        self.levels.set(wanted);
        self.has_short_time.store(wanted.time == LogTime::Short, Relaxed);
        // Also makes every place that logs ask again whether it is listened to.
        self.directives.reload(filter).map_err(|error| error.to_string())?;
        *state = wanted;
        Ok(())
    }
}

/// What directives let through, in the words of clients.
fn state_of(filter: &EnvFilter) -> LogState {
    let most = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    LogState {
        errors: most >= LevelFilter::ERROR,
        warnings: most >= LevelFilter::WARN,
        information: most >= LevelFilter::INFO,
        verbose_level: u32::from(most >= LevelFilter::DEBUG) + u32::from(most >= LevelFilter::TRACE),
        time: LogTime::Iso8601,
    }
}

/// Which levels are let through, each by itself.
struct Levels {
    errors: AtomicBool,
    warnings: AtomicBool,
    information: AtomicBool,
}

impl Levels {
    fn new(state: LogState) -> Levels {
        Levels {
            errors: state.errors.into(),
            warnings: state.warnings.into(),
            information: state.information.into(),
        }
    }

    fn set(&self, state: LogState) {
        self.errors.store(state.errors, Relaxed);
        self.warnings.store(state.warnings, Relaxed);
        self.information.store(state.information, Relaxed);
    }

    fn lets_through(&self, level: Level) -> bool {
        match level {
            Level::ERROR => self.errors.load(Relaxed),
            Level::WARN => self.warnings.load(Relaxed),
            Level::INFO => self.information.load(Relaxed),
            _ => true,
        }
    }

    /// Asked anew for every event.
    fn filter<S>(
        self: &Arc<Levels>,
    ) -> DynFilterFn<S, impl Fn(&Metadata<'_>, &Context<'_, S>) -> bool + use<S>> {
        let levels = Arc::clone(self);
        DynFilterFn::new(move |event: &Metadata<'_>, _: &Context<'_, S>| levels.lets_through(*event.level()))
    }
}

/// The time of a line, in UTC.
struct LogTimer {
    is_short: Arc<AtomicBool>,
}

impl FormatTime for LogTimer {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        if !self.is_short.load(Relaxed) {
            return SystemTime.format_time(writer);
        }
        let now = jiff::Timestamp::now();
        write!(writer, "{}", now.strftime("%m%d %H:%M:%S%.6f"))
    }
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
    fn what_is_configured_is_told_in_the_words_of_clients() {
        let state = |level: &str| state_of(&filter(level).unwrap());
        assert_eq!(state("info"), LogState::default());
        assert_eq!(state("trace").verbose_level, 2);
        let quiet = state("error");
        assert!(quiet.errors && !quiet.warnings && !quiet.information);
        assert_eq!(state("warn,modelhost_server=debug").verbose_level, 1);
    }

    #[test]
    fn levels_are_checked() {
        assert!(filter("info").is_ok());
        assert!(filter("warn,modelhost_server=debug").is_ok());
        let complaint = format!("{:#}", filter("modelhost=loud").unwrap_err());
        assert!(complaint.contains("log.level") && complaint.contains("loud"), "{complaint}");
    }
}
