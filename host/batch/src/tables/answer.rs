//! An answer to a lookup: where it comes from, how old it is, and what it says. Decides when the model is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use modelhost_core::{ErrorCode, ModelName, TableKey, VersionNumber};
use modelhost_serving::ModelHost;
use serde::Serialize;
use serde_json::value::RawValue;

pub use super::live_answer::MAX_LIVE_KEYS;
use super::live_answer::{LiveAnswer, LiveModel, LiveRequest};
use super::live_table::{LiveTables, Snapshot, State};
use super::metrics::Counts;
use super::rows::Rows;
use super::settings::{Table, WhenStale};
use crate::Error;

/// Bytes of the answers to one lookup.
const MAX_BYTES: usize = 64 << 20;

/// More keys are looked up on another thread.
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

/// What is known about keys.
#[derive(Debug)]
pub struct Answers {
    /// Keys that were asked for in the same way have one answer.
    distinct: Vec<Answer>,
    /// For each key that was asked for, its answer.
    places: Vec<usize>,
}

/// What is known about a key.
#[derive(Debug)]
pub struct Answer {
    /// The key.
    pub key: TableKey,
    /// What is predicted for it, or why nothing is.
    pub outcome: Result<Prediction, Error>,
}

/// What is predicted for a key.
#[derive(Debug, Serialize)]
pub struct Prediction {
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
    /// Why the model was asked, where it was because the table cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_error: Option<String>,
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

impl Answers {
    /// For each key that was asked for its answer, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Answer> {
        self.places.iter().filter_map(|place| self.distinct.get(*place))
    }

    /// About how long they are as JSON.
    pub fn bytes(&self) -> usize {
        let values = |answer: &Answer| answer.outcome.as_ref().map_or(0, |known| known.values.get().len());
        self.iter().map(values).fold(0, usize::saturating_add)
    }

    /// Counts each of them.
    pub(super) fn count(&self, counts: &Counts) {
        for Answer { outcome, .. } in self.iter() {
            let counter = match outcome {
                Ok(Prediction { source: Source::Live { .. }, .. }) => &counts.live,
                Ok(Prediction { stale: true, .. }) => &counts.stale,
                Ok(_) => &counts.table,
                Err(error) if error.code == ErrorCode::NotFound => &counts.missing,
                Err(_) => &counts.error,
            };
            counter.inc();
        }
    }
}

/// Answers keys, each on its own: one that fails does not fail the others. All that comes from the table comes from one
/// version of it.
///
/// # Errors
/// [`ErrorCode::NotFound`] for a table that is empty and has no model, [`ErrorCode::InvalidArgument`] for a key of the wrong
/// kind or answers that are too large, [`ErrorCode::Unavailable`] for a file that cannot be read, where there is no model.
pub(super) async fn answer(
    host: &ModelHost,
    tables: &LiveTables,
    state: Arc<State>,
    asked: Vec<Asked>,
    deadline: Instant,
) -> Result<Answers, Error> {
    let (asked, places) = distinct(asked);
    let Looked { asked, values, published, table_error } = look_up(&state, asked).await?;
    let table = &state.table;
    let live = table.settings.live.as_ref();
    let live = live.map(|settings| LiveModel::new(host, tables, settings, deadline, MAX_BYTES));
    let answering = Answering { table, live, table_error };
    let one = |(asked, values): (Asked, Option<Box<RawValue>>)| {
        let Asked { key, request } = asked;
        let (answering, known) = (&answering, published.zip(values));
        async move {
            let outcome = answering.one(&key, request, known).await;
            Answer { key, outcome }
        }
    };
    let distinct =
        stream::iter(asked.into_iter().zip(values)).map(one).buffered(LIVE_AT_ONCE).collect().await;
    let answers = Answers { distinct, places };
    check_size(answers.bytes())?;
    Ok(answers)
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let sentence = format!(
        "the answers to these keys are {bytes} bytes or more: at most {MAX_BYTES} are given at once, look up fewer"
    );
    Err(Error::new(ErrorCode::InvalidArgument, sentence))
}

/// Those that are to be answered, and for each that was asked for, which of them. What comes with inputs of its own may
/// have another answer than the next with the same key.
fn distinct(asked: Vec<Asked>) -> (Vec<Asked>, Vec<usize>) {
    let mut known: HashMap<TableKey, usize> = HashMap::new();
    let mut distinct: Vec<Asked> = Vec::with_capacity(asked.len());
    let mut places = Vec::with_capacity(asked.len());
    for asked in asked {
        let known_place = known.get(&asked.key).copied().filter(|_| asked.request.is_none());
        places.push(known_place.unwrap_or(distinct.len()));
        if known_place.is_none() {
            if asked.request.is_none() {
                known.insert(asked.key.clone(), distinct.len());
            }
            distinct.push(asked);
        }
    }
    (distinct, places)
}

/// The version that answers.
#[derive(Clone, Copy)]
struct Published {
    version: VersionNumber,
    age: Duration,
    is_stale: bool,
}

/// What a table says of some keys.
struct Looked {
    asked: Vec<Asked>,
    values: Vec<Option<Box<RawValue>>>,
    /// None where nothing is published, or what is cannot be read.
    published: Option<Published>,
    /// Why it cannot be read.
    table_error: Option<String>,
}

/// Where there is a model, it answers for a table in which nothing can be found.
async fn look_up(state: &Arc<State>, asked: Vec<Asked>) -> Result<Looked, Error> {
    let has_model = state.table.settings.live.is_some();
    let without_table = |asked: Vec<Asked>, table_error| {
        let values = asked.iter().map(|_| None).collect();
        Looked { asked, values, published: None, table_error }
    };
    let snapshot = match Snapshot::new(state.clone()) {
        Ok(snapshot) => snapshot,
        Err(error) if error.code == ErrorCode::NotFound && has_model => {
            return Ok(without_table(asked, None));
        }
        Err(error) => return Err(error),
    };
    let (asked, read) = read_where_it_may_wait(snapshot, asked).await?;
    match read {
        Ok((published, values)) => {
            Ok(Looked { asked, values, published: Some(published), table_error: None })
        }
        Err(error) if error.code == ErrorCode::Unavailable && has_model => {
            Ok(without_table(asked, Some(error.message)))
        }
        Err(error) => Err(error),
    }
}

type Read = Result<(Published, Vec<Option<Box<RawValue>>>), Error>;

/// Here, where it neither waits for the disk nor takes long.
async fn read_where_it_may_wait(snapshot: Snapshot, asked: Vec<Asked>) -> Result<(Vec<Asked>, Read), Error> {
    // Where a key is looked up is known by the key alone.
    let keys = |asked: &[Asked]| -> Vec<TableKey> { asked.iter().map(|asked| asked.key.clone()).collect() };
    if asked.len() <= MAX_INLINE_KEYS {
        let keys = keys(&asked);
        if snapshot.is_at_hand(&keys) {
            return Ok((asked, read(&snapshot, &keys)));
        }
    }
    let reading = move || {
        let read = read(&snapshot, &keys(&asked));
        (asked, read)
    };
    Ok(tokio::task::spawn_blocking(reading).await?)
}

fn read(snapshot: &Snapshot, keys: &[TableKey]) -> Read {
    let rows = Rows::find(snapshot, keys)?;
    check_size(rows.size()?)?;
    let mut bytes = 0_usize;
    let mut values = Vec::with_capacity(keys.len());
    for index in 0..keys.len() {
        let row = rows.json(index)?;
        bytes = bytes.saturating_add(row.as_ref().map_or(0, |row| row.get().len()));
        // Written out, a row may be several times as long.
        check_size(bytes)?;
        values.push(row);
    }
    let age = snapshot.age();
    let published = Published { version: snapshot.version().number, age, is_stale: snapshot.is_stale(age) };
    Ok((published, values))
}

/// What the keys of a lookup have in common.
struct Answering<'a> {
    table: &'a Table,
    live: Option<LiveModel<'a>>,
    table_error: Option<String>,
}

impl Answering<'_> {
    async fn one(
        &self,
        key: &TableKey,
        request: Option<LiveRequest>,
        known: Option<(Published, Box<RawValue>)>,
    ) -> Result<Prediction, Error> {
        let is_stale = known.as_ref().is_some_and(|(published, _)| published.is_stale);
        let wants_live = known.is_none() || (is_stale && self.table.settings.when_stale == WhenStale::Live);
        let live = match &self.live {
            Some(live) if wants_live => live.ask(key, request).await,
            _ => Ok(None),
        };
        match (live, known) {
            (Ok(Some(answer)), _) => Ok(self.of_model(answer)),
            (live, Some((published, values))) => {
                let without_inputs =
                    || "neither the request nor the feature table has inputs for the model".to_owned();
                let live_error = (wants_live && self.live.is_some())
                    .then(|| live.err().map_or_else(without_inputs, |error| error.message));
                Ok(Prediction {
                    source: Source::Table { version: published.version },
                    age_seconds: published.age.as_secs_f64(),
                    stale: published.is_stale,
                    live_error,
                    table_error: None,
                    values,
                })
            }
            (Err(error), None) => Err(error),
            (Ok(None), None) => Err(self.missing(key)),
        }
    }

    fn of_model(&self, LiveAnswer { model, version, values }: LiveAnswer) -> Prediction {
        Prediction {
            source: Source::Live { model, model_version: version },
            age_seconds: 0.0,
            stale: false,
            live_error: None,
            table_error: self.table_error.clone(),
            values,
        }
    }

    fn missing(&self, key: &TableKey) -> Error {
        let (code, mut sentence) = match &self.table_error {
            // It may well be in there.
            Some(error) => (ErrorCode::Unavailable, error.clone()),
            None => (ErrorCode::NotFound, format!("table {} has no key {key}", self.table.name)),
        };
        if let Some(live) = &self.table.settings.live {
            sentence.push_str(&format!(
                ", and neither the request nor the feature table has inputs for its model {}",
                live.model
            ));
        }
        Error::new(code, sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_twice_is_answered_once_unless_it_brings_its_inputs() {
        let asked = |key: i64, has_inputs: bool| Asked {
            key: TableKey::Integer(key),
            request: has_inputs.then(LiveRequest::default),
        };
        let all = [(7, false), (7, true), (5, false), (7, false), (7, true), (5, false)];
        let (distinct, places) = distinct(all.map(|(key, has_inputs)| asked(key, has_inputs)).into());
        let keys: Vec<(String, bool)> =
            distinct.iter().map(|asked| (asked.key.to_string(), asked.request.is_some())).collect();
        let expected = [("7", false), ("7", true), ("5", false), ("7", true)];
        assert_eq!(keys, expected.map(|(key, has_inputs)| (key.to_owned(), has_inputs)));
        assert_eq!(places, [0, 1, 2, 0, 3, 2]);
    }
}
