//! What plugins may look up: the tables of precomputed predictions, seen from here. Whoever keeps them implements
//! [`PredictionTables`]; this crate says which calls may ask, and how much at once.

use std::collections::BTreeSet;
use std::time::Duration;

use modelhost_core::{TableKey, TableName, Tensor};

/// Keys of one lookup.
pub const MAX_KEYS: usize = 1_024;

/// The tables that the plugins of a model may read.
pub type Grants = BTreeSet<TableName>;

/// Tables of predictions, by name.
pub trait PredictionTables: Send + Sync {
    /// Whether these keys can be looked up at once, without waiting for the disk.
    fn is_at_hand(&self, table: &TableName, keys: &[TableKey]) -> bool;

    /// Looks keys up in the version of the table that is current now. It may read files, and nothing else that waits.
    ///
    /// # Errors
    /// [`LookupError`]; [`LookupError::TooLarge`] before more than `most_bytes` of rows are put together.
    fn lookup(
        &self,
        table: &TableName,
        keys: &[TableKey],
        most_bytes: usize,
    ) -> Result<FoundRows, LookupError>;
}

/// What a lookup found, all of it in one version of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundRows {
    /// The number of the version.
    pub version: u64,
    /// How old its predictions are.
    pub age: Duration,
    /// Whether they are older than they may be.
    pub is_stale: bool,
    /// For each key, whether there is a row.
    pub found: Vec<bool>,
    /// All columns but the key, with as many rows as were found.
    pub columns: Vec<FoundColumn>,
}

/// A column of the rows that were found, as the contract has it.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundColumn {
    /// What it is called.
    pub name: String,
    /// One element for each row, or one list, the shorter ones padded.
    pub values: Tensor,
    /// The lengths of the lists, where they differ.
    pub lengths: Option<Vec<u32>>,
    /// Which rows hold no value, where there are any.
    pub nulls: Option<Vec<bool>>,
}

/// Why a lookup has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The model may not read the table.
    #[error("table {0:?} is not granted to this model: its operator can add it to prediction_tables")]
    NotGranted(String),
    /// There is nothing to read.
    #[error("{0}")]
    NoSuchTable(String),
    /// A key that the table cannot have.
    #[error("{0}")]
    InvalidKey(String),
    /// Too much at once.
    #[error("{0}")]
    TooLarge(String),
    /// It cannot be read.
    #[error("{0}")]
    Unavailable(String),
}
