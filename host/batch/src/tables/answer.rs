//! An answer to a lookup: where it comes from, how old it is, and what it says. Decides when the model is asked.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use modelhost_core::{ErrorCode, ModelName, TableKey, TableName, VersionNumber};
use modelhost_serving::ModelHost;
use serde::Serialize;
use serde_json::value::RawValue;

use super::live_answer::{self, LiveAnswer, LiveRequest};
use super::live_table::{LiveTables, Snapshot, State, unknown_table};
use super::rows::Rows;
use super::settings::{Table, WhenStale};
use crate::Error;

/// Keys of one lookup.
pub const MAX_KEYS: usize = 1_024;

/// Bytes of the rows of one lookup.
const MAX_BYTES: usize = 64 << 20;

/// More keys are looked up on another thread: each may have to wait for the disk.
const MAX_INLINE_KEYS: usize = 16;

/// Answers of the model that one lookup waits for at a time.
const LIVE_AT_ONCE: usize = 16;

/// A key, and what to ask the model where the table does not know it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The key.
    pub key: TableKey,
    /// The client's inputs; none where it sent none.
    pub request: Option<LiveRequest>,
}

/// What is known about a key.
#[derive(Debug, Serialize)]
pub struct Prediction {
    /// The key.
    pub key: TableKey,
    /// Where the values come from.
    #[serde(flatten)]
    pub source: Source,
    /// How old they are, in seconds.
    pub age_seconds: f64,
    /// Whether that is older than they may be.
    pub stale: bool,
    /// Why there is no fresh answer of the model, where it was to be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_error: Option<String>,
    /// A field for each column of the table, or for each output of the model.
    pub values: Box<RawValue>,
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Source {
    /// A version of the table.
    Table {
        /// Its number.
        version: VersionNumber,
    },
    /// The model, now.
    Live {
        /// Which model.
        model: ModelName,
        /// Which version of it.
        model_version: VersionNumber,
    },
}

/// What a table says of some keys.
struct Looked {
    /// None where there is nothing in the table.
    snapshot: Option<Snapshot>,
    age: Duration,
    values: Vec<Option<Box<RawValue>>>,
}

/// Answers keys, each on its own: one that fails does not fail the others. All that comes from the table comes from one
/// version of it.
///
/// # Errors
/// [`ErrorCode::NotFound`] for a table that is not there or empty and has no model, [`ErrorCode::InvalidArgument`] for too
/// many keys or one of the wrong kind, [`ErrorCode::Unavailable`] for a file that cannot be read.
pub(super) async fn answer(
    host: &ModelHost,
    tables: &LiveTables,
    name: &TableName,
    asked: Vec<Asked>,
) -> Result<Vec<Result<Prediction, Error>>, Error> {
    let live = tables.get(name).ok_or_else(|| unknown_table(name))?;
    let keys: Vec<TableKey> = asked.iter().map(|asked| asked.key.clone()).collect();
    let state = live.state();
    let Looked { snapshot, age, values } = look_up(&state, keys).await?;
    let is_stale = snapshot.as_ref().is_some_and(|snapshot| snapshot.is_stale(age));
    let of_table = |values| {
        let version = snapshot.as_ref().map_or(VersionNumber(0), |snapshot| snapshot.version().number);
        (Source::Table { version }, values)
    };
    let one = |(asked, values): (Asked, Option<Box<RawValue>>)| {
        let known = values.map(&of_table);
        let table = &state.table;
        async move { answer_one(host, tables, table, asked, known, age, is_stale).await }
    };
    Ok(stream::iter(asked.into_iter().zip(values)).map(one).buffered(LIVE_AT_ONCE).collect().await)
}

async fn look_up(state: &Arc<State>, keys: Vec<TableKey>) -> Result<Looked, Error> {
    if keys.len() > MAX_KEYS {
        let sentence = format!("{} keys were looked up at once: at most {MAX_KEYS} are allowed", keys.len());
        return Err(Error::new(ErrorCode::InvalidArgument, sentence));
    }
    let snapshot = match Snapshot::new(state.clone()) {
        Ok(snapshot) => snapshot,
        Err(error) if error.code == ErrorCode::NotFound && state.table.settings.live.is_some() => {
            let values = keys.iter().map(|_| None).collect();
            return Ok(Looked { snapshot: None, age: Duration::ZERO, values });
        }
        Err(error) => return Err(error),
    };
    if keys.len() <= MAX_INLINE_KEYS {
        return read(snapshot, &keys);
    }
    tokio::task::spawn_blocking(move || read(snapshot, &keys)).await?
}

fn read(snapshot: Snapshot, keys: &[TableKey]) -> Result<Looked, Error> {
    let rows = Rows::find(&snapshot, keys)?;
    let size = rows.size()?;
    if size > MAX_BYTES {
        let sentence = format!("the rows of these keys are {size} bytes: look up fewer at once");
        return Err(Error::new(ErrorCode::InvalidArgument, sentence));
    }
    let values = (0..keys.len()).map(|index| rows.json(index)).collect::<Result<_, _>>()?;
    let age = snapshot.age();
    Ok(Looked { snapshot: Some(snapshot), age, values })
}

async fn answer_one(
    host: &ModelHost,
    tables: &LiveTables,
    table: &Table,
    asked: Asked,
    known: Option<(Source, Box<RawValue>)>,
    age: Duration,
    stale: bool,
) -> Result<Prediction, Error> {
    let Asked { key, request } = asked;
    let wants_live = known.is_none() || (stale && table.settings.when_stale == WhenStale::Live);
    let live = match &table.settings.live {
        Some(live) if wants_live => live_answer::ask(host, tables, live, &key, request).await,
        _ => Ok(None),
    };
    match (live, known) {
        (Ok(Some(LiveAnswer { model, version, values })), _) => {
            let source = Source::Live { model, model_version: version };
            Ok(Prediction { key, source, age_seconds: 0.0, stale: false, live_error: None, values })
        }
        (live, Some((source, values))) => {
            let without_inputs =
                || "neither the request nor the feature table has inputs for the model".to_owned();
            let live_error = (wants_live && table.settings.live.is_some())
                .then(|| live.err().map_or_else(without_inputs, |error| error.message));
            Ok(Prediction { key, source, age_seconds: age.as_secs_f64(), stale, live_error, values })
        }
        (Err(error), None) => Err(error),
        (Ok(None), None) => Err(missing(table, &key)),
    }
}

fn missing(table: &Table, key: &TableKey) -> Error {
    let mut sentence = format!("table {} has no key {key}", table.name);
    if let Some(live) = &table.settings.live {
        sentence.push_str(&format!(
            ", and neither the request nor the feature table has inputs for its model {}",
            live.model
        ));
    }
    Error::new(ErrorCode::NotFound, sentence)
}
