//! What the host has acknowledged, from which follows what must be there after a crash.

use std::collections::{BTreeMap, BTreeSet};

/// What the host has said, and what it was asked.
#[derive(Default)]
pub struct Ledger {
    /// The output's name in each component that was ever sent, by digest.
    pub sent: BTreeMap<String, String>,
    pub models: BTreeMap<&'static str, Promises>,
    pub acknowledged: u64,
}

/// What was acknowledged about one model.
#[derive(Default)]
pub struct Promises {
    /// Digests by number.
    pub versions: BTreeMap<u64, String>,
    /// Versions whose deletion was begun: they may be there or not.
    pub perhaps_deleted: BTreeSet<u64>,
    /// Versions whose deletion was acknowledged.
    pub deleted: BTreeSet<u64>,
    /// The newest acknowledged revision and its version.
    pub revision: Option<(u64, u64)>,
}
