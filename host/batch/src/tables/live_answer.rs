//! What a table's model answers where the table cannot, and how much of that one lookup may have. Knows nothing of when it
//! is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use arrow::array::RecordBatch;
use modelhost_core::{ErrorCode, ModelName, Parameter, Signature, TableKey, VersionNumber};
use modelhost_serving::{ModelHost, NamedTensors, RequestOptions};
use serde_json::value::RawValue;

use super::live_table::{LiveTables, Snapshot};
use super::rows::Rows;
use super::settings::LiveSettings;
use super::{features, json};
use crate::Error;

/// Keys of one lookup that the model is asked about.
pub const MAX_LIVE_KEYS: usize = 128;

/// Bytes of tensors that are written as JSON on the thread that reads sockets.
const MAX_INLINE_BYTES: usize = 128 << 10;

/// A client's own inputs for the model, where the table does not know a key.
#[derive(Clone, Debug, Default)]
pub struct LiveRequest {
    /// The tensors: one row.
    pub inputs: NamedTensors,
    /// Beside those that the table's settings name, which give way.
    pub parameters: Vec<(String, Parameter)>,
    /// How long it may take, and how urgent it is.
    pub options: RequestOptions,
}

/// What the model said.
#[derive(Debug)]
pub(super) struct LiveAnswer {
    pub(super) model: ModelName,
    pub(super) version: VersionNumber,
    pub(super) values: Box<RawValue>,
}

/// The model of a table, as far as one lookup may ask it.
pub(super) struct LiveModel<'a> {
    host: &'a ModelHost,
    tables: &'a LiveTables,
    settings: &'a LiveSettings,
    deadline: Instant,
    keys_left: AtomicUsize,
    bytes_left: Arc<AtomicUsize>,
}

impl<'a> LiveModel<'a> {
    /// The model, to be asked until then for at most so many bytes.
    pub(super) fn new(
        host: &'a ModelHost,
        tables: &'a LiveTables,
        settings: &'a LiveSettings,
        deadline: Instant,
        most_bytes: usize,
    ) -> LiveModel<'a> {
        let (keys_left, bytes_left) =
            (AtomicUsize::new(MAX_LIVE_KEYS), Arc::new(AtomicUsize::new(most_bytes)));
        LiveModel { host, tables, settings, deadline, keys_left, bytes_left }
    }

    /// Asks the model, with the inputs of the client, or else with those of the feature table. None: there are no inputs.
    ///
    /// # Errors
    /// Whatever asking the model says; [`ErrorCode::Unprocessable`] for features that are no inputs,
    /// [`ErrorCode::InvalidArgument`] for inputs that are not one row, or where too many keys were asked about before,
    /// [`ErrorCode::TooLarge`], [`ErrorCode::DeadlineExceeded`].
    pub(super) async fn ask(
        &self,
        key: &TableKey,
        request: Option<LiveRequest>,
    ) -> Result<Option<LiveAnswer>, Error> {
        let late = || {
            Error::new(
                ErrorCode::DeadlineExceeded,
                "the deadline of the lookup passed before the model answered",
            )
        };
        if self.deadline <= Instant::now() {
            return Err(late());
        }
        // The model keeps to it by itself; what goes before it does not.
        let answer = tokio::time::timeout_at(self.deadline.into(), self.ask_in_time(key, request)).await;
        answer.unwrap_or_else(|_| Err(late()))
    }

    async fn ask_in_time(
        &self,
        key: &TableKey,
        request: Option<LiveRequest>,
    ) -> Result<Option<LiveAnswer>, Error> {
        let LiveSettings { model, .. } = self.settings;
        let servable = self.host.servable(model, &self.settings.selector())?;
        let request = match request {
            Some(request) => {
                check_is_one_row(servable.signature(), &request.inputs)?;
                request
            }
            None => match self.features(key).await? {
                Some(row) => LiveRequest {
                    inputs: features::inputs(servable.signature(), &row)?,
                    ..LiveRequest::default()
                },
                None => return Ok(None),
            },
        };
        self.keys_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).map_err(|_| {
            let sentence = format!(
                "the model is asked about at most {MAX_LIVE_KEYS} keys of one lookup: look up fewer at once"
            );
            Error::new(ErrorCode::InvalidArgument, sentence)
        })?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = Some(request.options.timeout.unwrap_or(left).min(left));
        let options = RequestOptions { timeout, ..request.options };
        let outputs =
            servable.infer(request.inputs, with_defaults(request.parameters, self.settings), options).await?;
        let values = self.json(outputs).await?;
        Ok(Some(LiveAnswer { model: model.clone(), version: servable.version(), values }))
    }

    /// The row of the feature table, if there is one.
    async fn features(&self, key: &TableKey) -> Result<Option<RecordBatch>, Error> {
        let Some(features) = &self.settings.features else { return Ok(None) };
        let snapshot = match self.tables.snapshot(features) {
            Ok(snapshot) => snapshot,
            // A table to come.
            Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if snapshot.is_at_hand(std::slice::from_ref(key)) {
            return row_of(&snapshot, key);
        }
        let key = key.clone();
        tokio::task::spawn_blocking(move || row_of(&snapshot, &key)).await?
    }

    async fn json(&self, outputs: NamedTensors) -> Result<Box<RawValue>, Error> {
        let bytes: usize = outputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
        if bytes <= MAX_INLINE_BYTES {
            return json::outputs(&outputs, &self.bytes_left);
        }
        let bytes_left = self.bytes_left.clone();
        tokio::task::spawn_blocking(move || json::outputs(&outputs, &bytes_left)).await?
    }
}

fn row_of(features: &Snapshot, key: &TableKey) -> Result<Option<RecordBatch>, Error> {
    let found = Rows::find(features, std::slice::from_ref(key))?;
    if found.found().all(|is_found| !is_found) { Ok(None) } else { found.rows().map(Some) }
}

/// A key has one answer, so what is asked for it is one row, wherever the model takes any number of them.
fn check_is_one_row(signature: &Signature, inputs: &NamedTensors) -> Result<(), Error> {
    for input in signature.inputs.iter().filter(|input| input.shape.first() == Some(&-1)) {
        let given = inputs.iter().find(|(name, _)| *name == input.name);
        let rows = given.and_then(|(_, tensor)| tensor.shape().first().copied());
        if let Some(rows) = rows.filter(|rows| *rows != 1) {
            let sentence = format!("input {:?} has {rows} rows: expected one, for one key", input.name);
            return Err(Error::new(ErrorCode::InvalidArgument, sentence));
        }
    }
    Ok(())
}

fn with_defaults(mut parameters: Vec<(String, Parameter)>, live: &LiveSettings) -> Vec<(String, Parameter)> {
    for (name, value) in &live.parameters {
        if parameters.iter().all(|(given, _)| given != name) {
            parameters.push((name.clone(), value.clone()));
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use modelhost_core::{Datatype, Tensor, TensorDescription};

    use super::*;

    #[test]
    fn a_request_is_one_row() {
        let described = |name: &str, shape: &[i64]| TensorDescription {
            name: name.into(),
            datatype: Datatype::Int8,
            shape: shape.to_vec(),
        };
        let signature = Signature {
            inputs: vec![described("rows", &[-1, 2]), described("whole", &[2])],
            outputs: vec![],
        };
        let tensor = |shape: &[u64]| {
            let bytes = vec![0; usize::try_from(shape.iter().product::<u64>()).unwrap()];
            Tensor::new(Datatype::Int8, shape.to_vec(), bytes.into()).unwrap()
        };
        let check = |rows: &[u64]| {
            let inputs = vec![("rows".to_owned(), tensor(rows)), ("whole".to_owned(), tensor(&[2]))];
            check_is_one_row(&signature, &inputs).map_err(|error| error.message)
        };
        assert_eq!(check(&[1, 2]), Ok(()));
        assert_eq!(check(&[3, 2]), Err("input \"rows\" has 3 rows: expected one, for one key".to_owned()));
        assert_eq!(check(&[0, 2]), Err("input \"rows\" has 0 rows: expected one, for one key".to_owned()));
    }
}
