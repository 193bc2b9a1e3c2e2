//! Why a row has no prediction. Knows no job: who counts it and where it is written is not said here.

use serde::{Deserialize, Serialize};

/// A row that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedRow {
    /// Its number in the dataset version, from 0.
    pub row: u64,
    /// Its key, where the job has a key column and the row a value in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<serde_json::Value>,
    /// A stable name of the reason.
    pub code: String,
    /// The reason, a sentence.
    pub reason: String,
}

/// The reason without the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

impl Fault {
    /// A null where a value is needed.
    pub(crate) const NULL: &'static str = "null";
    /// A value that the datatype does not have.
    pub(crate) const TYPE: &'static str = "type";
    /// A list of another length than the input takes, or of more elements than a call may have.
    pub(crate) const SHAPE: &'static str = "shape";
    /// A SQL expression that has no value for the row.
    pub(crate) const EXPRESSION: &'static str = "expression";
    /// An answer that is no text.
    pub(crate) const NOT_TEXT: &'static str = "output_not_utf8";
    /// An answer that has another number of rows than was asked for.
    pub(crate) const CONTRACT: &'static str = "contract_violation";

    pub(crate) fn new(code: &'static str, reason: impl Into<String>) -> Fault {
        Fault { code, reason: reason.into() }
    }
}
