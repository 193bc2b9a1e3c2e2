//! The file of one version of a table: an Arrow IPC file ("Feather") whose rows are sorted by key, written once and
//! then only read, where it lies, through the page cache. Any tool that reads Arrow reads it.
//!
//! A lookup is two binary searches: in the first keys of all batches, which are in the footer, and in the key column of
//! one batch. Nothing is decoded or copied but what is found. The footer has the checksum of each batch, and whoever
//! keeps the file that of the footer. This module knows no names, versions or records.

mod build;
mod checksum;
mod columns;
mod key_column;
mod read;

pub(super) use build::{Built, Limits, build};
pub(super) use columns::Columns;
pub(super) use read::{Damaged, Place, TableFile};

use modelhost_core::TableKey;
use serde::{Deserialize, Serialize};

/// The entry of the footer that says of each batch, in a JSON array of [`BatchEntry`], what a lookup has to know of it.
const BATCHES: &str = "modelhost:batches";

#[derive(Debug, Serialize, Deserialize)]
struct BatchEntry {
    first_key: TableKey,
    /// CRC-32 of its bytes in the file.
    checksum: u32,
}

#[cfg(test)]
mod tests;
