//! What a running process logs, for clients that ask and change it. How that is done is for whoever keeps the log.

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Failures of the host.
    pub errors: bool,
    /// What an operator should see.
    pub warnings: bool,
    /// What happens, the line of each request included.
    pub information: bool,
    /// What helps to find a fault: 0 nothing, 1 some, 2 and more everything.
    pub verbose_level: u32,
    /// How the time of a line is written.
    pub time: LogTime,
}

/// How the time of a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogTime {
    /// Month, day and time, as Triton does by default: `1124 21:05:00.123456`.
    Short,
    /// As ISO 8601 says, in UTC.
    #[default]
    Iso8601,
}

impl Default for LogState {
    fn default() -> LogState {
        LogState { errors: true, warnings: true, information: true, verbose_level: 0, time: LogTime::Iso8601 }
    }
}

/// The log of the process.
pub trait LogControl: Send + Sync {
    /// What is logged now.
    fn state(&self) -> LogState;

    /// Logs this from now on.
    ///
    /// # Errors
    /// A sentence, where it cannot be changed.
    fn change(&self, wanted: LogState) -> Result<(), String>;
}
