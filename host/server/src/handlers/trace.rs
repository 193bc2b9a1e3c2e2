//! `/v2[/models/{model}]/trace/setting`: Triton's extension "trace". Settings are texts there, numbers too.

use std::collections::BTreeMap;

use http::StatusCode;
use modelhost_core::ModelName;
use modelhost_serving::{TraceChange, TraceLevel, TraceSettings};
use serde::Serialize;
use serde_json::Value;

use super::{model_name, read_change};
use crate::error::{ApiError, shortened};
use crate::reply::{Reply, json};
use crate::service::Call;

/// Names and values as Triton has them.
#[derive(Serialize)]
struct Settings {
    trace_level: [&'static str; 1],
    trace_rate: String,
    trace_count: String,
    /// Always `0`: a trace is logged as soon as it is there.
    log_frequency: &'static str,
    /// Always empty: traces go into the log.
    trace_file: &'static str,
    trace_mode: &'static str,
}

/// `GET`: the settings of a model, or of the host.
pub(super) fn settings(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = named_model(call)?;
    let settings = call.shared.host.trace_settings(model.as_ref())?;
    call.record.model = model;
    Ok(reply(settings))
}

/// `POST`: changes what is named, and answers with all settings. What is null follows the host's setting again, or of the
/// host itself the default.
pub(super) async fn change(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = named_model(call)?;
    let what = "trace settings such as {\"trace_level\": [\"TIMESTAMPS\"], \"trace_rate\": \"100\"}";
    let named: BTreeMap<String, Value> = read_change(call, what).await?;
    let mut change = TraceChange::default();
    for (name, value) in &named {
        set(&mut change, name, value)?;
    }
    let settings = call.shared.host.change_trace_settings(model.as_ref(), change)?;
    call.record.model = model;
    Ok(reply(settings))
}

fn named_model(call: &Call<'_>) -> Result<Option<ModelName>, ApiError> {
    call.route.has_name().then(|| model_name(call)).transpose()
}

fn set(change: &mut TraceChange, name: &str, value: &Value) -> Result<(), ApiError> {
    let expected = |expected: &str| ApiError::invalid(format!("{name}: expected {expected}"));
    match name {
        "trace_level" => {
            change.level = Some(unless_null(value, level, || {
                expected("[\"OFF\"] or [\"TIMESTAMPS\"]: tensors are not traced, they belong to clients")
            })?)
        }
        "trace_rate" => {
            change.rate = Some(unless_null(value, rate, || expected("a whole number from 1 up"))?)
        }
        "trace_count" => {
            change.count =
                Some(unless_null(value, count, || expected("a whole number from 0 up, or -1 for no end"))?);
        }
        "log_frequency" => {
            let is_zero = value.is_null() || number(value) == Some(0);
            is_zero.then_some(()).ok_or_else(|| expected("0: a trace is logged as soon as it is there"))?;
        }
        "trace_file" => {
            let is_fixed = value.is_null() || value == "";
            is_fixed.then_some(()).ok_or_else(|| {
                expected("nothing: traces go into the log, and clients choose no files on the host")
            })?;
        }
        "trace_mode" => {
            let is_known = value.is_null() || value == "triton";
            is_known.then_some(()).ok_or_else(|| expected("\"triton\""))?;
        }
        _ => {
            let name = shortened(name);
            let known = "trace_level, trace_rate, trace_count, log_frequency, trace_file or trace_mode";
            return Err(ApiError::invalid(format!("setting {name:?} is not known: expected {known}")));
        }
    }
    Ok(())
}

fn unless_null<T>(
    value: &Value,
    read: impl FnOnce(&Value) -> Option<T>,
    refused: impl FnOnce() -> ApiError,
) -> Result<Option<T>, ApiError> {
    if value.is_null() { Ok(None) } else { read(value).map(Some).ok_or_else(refused) }
}

/// One text or a list of them.
fn level(value: &Value) -> Option<TraceLevel> {
    let level = |value: &Value| match value.as_str()? {
        "OFF" => Some(TraceLevel::Off),
        "TIMESTAMPS" => Some(TraceLevel::Timestamps),
        _ => None,
    };
    match value {
        Value::Array(levels) => match levels.as_slice() {
            [one] => level(one),
            _ => None,
        },
        one => level(one),
    }
}

fn rate(value: &Value) -> Option<u32> {
    u32::try_from(number(value)?).ok().filter(|rate| *rate > 0)
}

fn count(value: &Value) -> Option<Option<u64>> {
    match number(value)? {
        -1 => Some(None),
        count => u64::try_from(count).ok().map(Some),
    }
}

/// A number, or a text that is one.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_i64(),
    }
}

fn reply(settings: TraceSettings) -> Reply {
    let level = match settings.level {
        TraceLevel::Off => "OFF",
        TraceLevel::Timestamps => "TIMESTAMPS",
    };
    let settings = Settings {
        trace_level: [level],
        trace_rate: settings.rate.to_string(),
        trace_count: settings.count.map_or_else(|| "-1".to_owned(), |count| count.to_string()),
        log_frequency: "0",
        trace_file: "",
        trace_mode: "triton",
    };
    json(StatusCode::OK, &settings)
}
