//! Looking keys up in one version of a table: which of them have a row, and the rows, as Arrow, tensors or JSON.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use modelhost_core::{ErrorCode, TableKey};
use modelhost_serving::{FoundRows, LookupError};
use serde_json::value::RawValue;

use super::file::{Place, TableFile};
use super::live_table::{Snapshot, State};
use super::{json, tensors};
use crate::Error;

/// Keys, and where the row of each is.
pub(super) struct Rows<'a> {
    snapshot: &'a Snapshot,
    file: &'a TableFile,
    places: Vec<Option<Place>>,
}

impl<'a> Rows<'a> {
    /// Looks keys up.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for a key of another kind than the table's, [`ErrorCode::Unavailable`] for a file
    /// that cannot be read.
    pub(super) fn find(snapshot: &'a Snapshot, keys: &[TableKey]) -> Result<Rows<'a>, Error> {
        let file = snapshot.file()?;
        let expects_integers = file.has_integer_keys();
        let is_wrong = |key: &&TableKey| matches!(key, TableKey::Integer(_)) != expects_integers;
        if let Some(key) = keys.iter().find(is_wrong) {
            let expected = if expects_integers { "whole numbers" } else { "strings" };
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("key {key} is {}: table {} has {expected} as keys", key.kind(), snapshot.name()),
            ));
        }
        let find = |key| file.find(key).map_err(|damaged| snapshot.damaged(&damaged));
        Ok(Rows { snapshot, file, places: keys.iter().map(find).collect::<Result<_, _>>()? })
    }

    /// For each key, whether it has a row.
    pub(super) fn found(&self) -> impl Iterator<Item = bool> {
        self.places.iter().map(Option::is_some)
    }

    /// About how many bytes the rows take, whatever they are made into.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`].
    pub(super) fn size(&self) -> Result<usize, Error> {
        let mut size = 0_usize;
        for place in self.places.iter().flatten() {
            let rows = self.batch(place.batch)?;
            let sizes = rows.columns().iter().map(|column| tensors::size_of_rows(column, place.row, 1));
            size = size.saturating_add(sizes.sum());
        }
        Ok(size)
    }

    /// The row of the key at this place, without the key, as a JSON object.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`].
    pub(super) fn json(&self, index: usize) -> Result<Option<Box<RawValue>>, Error> {
        let Some(place) = self.places.get(index).copied().flatten() else { return Ok(None) };
        json::row(self.batch(place.batch)?, place.row).map(Some)
    }

    /// All rows that were found, without their keys.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`].
    pub(super) fn rows(&self) -> Result<RecordBatch, Error> {
        let values: Vec<usize> = (1..self.file.schema().fields().len()).collect();
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut numbers: Vec<usize> = Vec::new();
        let mut places: Vec<(usize, usize)> = Vec::new();
        for place in self.places.iter().flatten() {
            let known = numbers.iter().position(|number| *number == place.batch);
            let index = match known {
                Some(index) => index,
                None => {
                    numbers.push(place.batch);
                    batches.push(self.batch(place.batch)?);
                    batches.len() - 1
                }
            };
            places.push((index, place.row));
        }
        let rows = match places.as_slice() {
            [] => RecordBatch::new_empty(self.file.schema().clone()),
            // One row is looked at where it lies.
            [(index, row)] => batches[*index].slice(*row, 1),
            places => interleave_record_batch(&batches, places).map_err(Error::internal)?,
        };
        rows.project(&values).map_err(Error::internal)
    }

    fn batch(&self, index: usize) -> Result<&RecordBatch, Error> {
        self.file.batch(index).map_err(|damaged| self.snapshot.damaged(&damaged))
    }
}

/// The answer to a plugin.
///
/// # Errors
/// As [`Rows::find`], and [`LookupError::TooLarge`] before more than `most_bytes` of rows are put together.
pub(super) fn for_plugin(
    state: Arc<State>,
    keys: &[TableKey],
    most_bytes: usize,
) -> Result<FoundRows, LookupError> {
    let snapshot = Snapshot::new(state).map_err(lookup_error)?;
    let rows = Rows::find(&snapshot, keys).map_err(lookup_error)?;
    let size = rows.size().map_err(lookup_error)?;
    if size > most_bytes {
        return Err(LookupError::TooLarge(format!(
            "the rows of {} keys are {size} bytes: at most {most_bytes} are left for tensors",
            keys.len()
        )));
    }
    let columns = tensors::columns(&rows.rows().map_err(lookup_error)?, most_bytes).map_err(|refused| match refused {
        tensors::Refused::Failed(error) => lookup_error(error),
        tensors::Refused::TooLarge { column } => LookupError::TooLarge(format!(
            "with column {column:?}, its lists all as long as the longest, the rows are more than the {most_bytes} bytes that \
             are left for tensors: look up fewer keys"
        )),
    })?;
    let age = snapshot.age();
    Ok(FoundRows {
        version: snapshot.version().number.0,
        age,
        is_stale: snapshot.is_stale(age),
        found: rows.found().collect(),
        columns,
    })
}

/// A refusal as a plugin is told it.
pub(super) fn lookup_error(error: Error) -> LookupError {
    match error.code {
        ErrorCode::InvalidArgument => LookupError::InvalidKey(error.message),
        ErrorCode::NotFound => LookupError::NoSuchTable(error.message),
        _ => LookupError::Unavailable(error.message),
    }
}
