//! The import `predictions`: a call looks up what was computed before, where its model may. Rows are tensors like any
//! other, counted as such.

use modelhost_core::{TableKey, TableName};

use crate::bindings::modelhost::plugin::predictions::{self, Column, Error, Key, Rows};
use crate::predictions::{FoundColumn, FoundRows, LookupError, MAX_KEYS};
use crate::state::{CallState, PluginTensor};

/// More keys are looked up on another thread, and so are those that may have to wait for the disk: other calls would wait
/// with them.
const MAX_INLINE_KEYS: usize = 16;

impl predictions::Host for CallState {
    async fn lookup(&mut self, table: String, keys: Vec<Key>) -> wasmtime::Result<Result<Rows, Error>> {
        match self.look_up(&table, keys).await? {
            Ok(rows) => Ok(Ok(self.give(rows)?)),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl CallState {
    async fn look_up(
        &mut self,
        table: &str,
        keys: Vec<Key>,
    ) -> wasmtime::Result<Result<FoundRows, LookupError>> {
        // A name that no table can have is granted to nobody.
        let granted = table.parse::<TableName>().ok().filter(|name| self.grants.contains(name));
        let Some(table) = granted else {
            return Ok(Err(LookupError::NotGranted(table.chars().take(64).collect())));
        };
        if keys.len() > MAX_KEYS {
            let sentence =
                format!("{} keys were looked up at once: at most {MAX_KEYS} are allowed", keys.len());
            return Ok(Err(LookupError::TooLarge(sentence)));
        }
        let Some(tables) = self.services.predictions.get().cloned() else {
            return Ok(Err(LookupError::Unavailable("this host has no prediction tables".to_owned())));
        };
        let keys: Vec<TableKey> = keys.into_iter().map(TableKey::from).collect();
        let most_bytes = self.tensor_bytes_left();
        if keys.len() <= MAX_INLINE_KEYS && tables.is_at_hand(&table, &keys) {
            return Ok(tables.lookup(&table, &keys, most_bytes));
        }
        Ok(tokio::task::spawn_blocking(move || tables.lookup(&table, &keys, most_bytes)).await?)
    }

    /// Gives the guest handles to all columns.
    fn give(&mut self, rows: FoundRows) -> wasmtime::Result<Rows> {
        let column = |FoundColumn { name, values, lengths, nulls }| -> wasmtime::Result<Column> {
            Ok(Column { name, values: self.push_tensor(values, PluginTensor)?, lengths, nulls })
        };
        let columns = rows.columns.into_iter().map(column).collect::<wasmtime::Result<_>>()?;
        Ok(Rows {
            version: rows.version,
            age_milliseconds: u64::try_from(rows.age.as_millis()).unwrap_or(u64::MAX),
            stale: rows.is_stale,
            found: rows.found,
            columns,
        })
    }
}

impl From<Key> for TableKey {
    fn from(key: Key) -> TableKey {
        match key {
            Key::Integer(key) => TableKey::Integer(key),
            Key::Text(key) => TableKey::Text(key),
        }
    }
}

impl From<LookupError> for Error {
    fn from(error: LookupError) -> Error {
        let sentence = error.to_string();
        match error {
            LookupError::NotGranted(_) => Error::NotGranted(sentence),
            LookupError::NoSuchTable(_) => Error::NoSuchTable(sentence),
            LookupError::InvalidKey(_) => Error::InvalidKey(sentence),
            LookupError::TooLarge(_) => Error::TooLarge(sentence),
            LookupError::Unavailable(_) => Error::Unavailable(sentence),
        }
    }
}
