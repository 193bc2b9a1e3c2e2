//! `/v2/logging`: Triton's extension "logging". It changes what the running host logs, until it ends.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::read_change;
use crate::error::ApiError;
use crate::log_control::{LogState, LogTime};
use crate::reply::{Reply, json};
use crate::service::Call;

/// Names and values as Triton has them.
#[derive(Serialize)]
struct Settings {
    /// Always empty: the log goes to standard error.
    log_file: &'static str,
    log_info: bool,
    log_warning: bool,
    log_error: bool,
    log_verbose_level: u32,
    log_format: Format,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    log_file: Option<String>,
    log_info: Option<bool>,
    log_warning: Option<bool>,
    log_error: Option<bool>,
    log_verbose_level: Option<u32>,
    log_format: Option<Format>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "default")]
    Default,
    #[serde(rename = "ISO8601")]
    Iso8601,
}

/// `GET /v2/logging`.
pub(super) fn settings(call: &Call<'_>) -> Reply {
    reply(call.shared.log.state())
}

/// `POST /v2/logging`: changes what is named, and answers with all settings.
pub(super) async fn change(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let what = "log settings such as {\"log_info\": true, \"log_verbose_level\": 1}";
    let change: Change = read_change(call, what).await?;
    if change.log_file.is_some_and(|file| !file.is_empty()) {
        return Err(ApiError::invalid(
            "log_file cannot be set: the log goes to standard error, and clients choose no files on the host",
        ));
    }
    let log = &call.shared.log;
    let before = log.state();
    let wanted = LogState {
        errors: change.log_error.unwrap_or(before.errors),
        warnings: change.log_warning.unwrap_or(before.warnings),
        information: change.log_info.unwrap_or(before.information),
        verbose_level: change.log_verbose_level.unwrap_or(before.verbose_level),
        time: change.log_format.map_or(before.time, LogTime::from),
    };
    log.change(wanted).map_err(ApiError::internal)?;
    Ok(reply(log.state()))
}

fn reply(state: LogState) -> Reply {
    let settings = Settings {
        log_file: "",
        log_info: state.information,
        log_warning: state.warnings,
        log_error: state.errors,
        log_verbose_level: state.verbose_level,
        log_format: state.time.into(),
    };
    json(StatusCode::OK, &settings)
}

impl From<Format> for LogTime {
    fn from(format: Format) -> LogTime {
        match format {
            Format::Default => LogTime::Short,
            Format::Iso8601 => LogTime::Iso8601,
        }
    }
}

impl From<LogTime> for Format {
    fn from(time: LogTime) -> Format {
        match time {
            LogTime::Short => Format::Default,
            LogTime::Iso8601 => Format::Iso8601,
        }
    }
}
