//! The file of one version of a table: an Arrow IPC file ("Feather") whose rows are sorted by key, written once and
//! then only read, where it lies, through the page cache. Any tool that reads Arrow reads it.
//!
//! A lookup is two binary searches: in the first keys of all batches, which are in the footer, and in the key column of
//! one batch. Nothing is decoded or copied but what is found. This module knows no names, versions or records.

mod build;
mod columns;
mod key_column;
mod read;

pub(super) use build::{Built, Limits, build};
pub(super) use columns::Columns;
pub(super) use read::{Damaged, Place, TableFile};

/// The entry of the footer that holds the first key of each batch, as a JSON array.
const FIRST_KEYS: &str = "modelhost:first-keys";

#[cfg(test)]
mod tests;
