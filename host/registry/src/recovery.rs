//! What happens at every start: sled and the journal are brought together, and what an interrupted change left
//! on the disk is removed.

use std::collections::HashSet;

use modelhost_core::{Digest, ModelName, VersionNumber};

use crate::artifacts::Artifacts;
use crate::data_dir::DataDir;
use crate::error::RegistryError;
use crate::journal::{self, Journal, Placed};
use crate::manifests;
use crate::model::Version;
use crate::records::{self, APPLIED, Applied, Head};
use crate::replay;
use crate::store::Store;

/// A store and a journal that agree.
pub(crate) struct Recovered {
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    pub(crate) next_sequence: u64,
}

/// Opens both and makes in the store what only the journal has.
pub(crate) fn recover(data: &DataDir) -> Result<Recovered, RegistryError> {
    let store = Store::open_or_create(data)?;
    let applied = store.get::<Applied>(APPLIED)?;
    let start = applied.map_or(0, |applied| applied.offset);
    let scan = journal::scan(&journal::read_from(&data.journal(), start)?, start);
    let intact_length = scan.intact_length;
    let entries = scan.sound()?;
    let last_applied = applied.map_or(0, |applied| applied.sequence);
    let missing = after_applied(&entries, last_applied)?;
    for placed in missing {
        replay::replay(&mut &store, placed)?;
    }
    if !missing.is_empty() {
        store.flush()?;
        tracing::info!(changes = missing.len(), "made changes that only the journal had");
    }
    refuse_lost_end(data, &store)?;
    let journal = Journal::open(data.journal(), intact_length)?;
    Ok(Recovered { store, journal, next_sequence: last_applied + missing.len() as u64 + 1 })
}

/// The entries that the store does not have. The first entry read is the last that it has, if it has any.
fn after_applied(entries: &[Placed], last_applied: u64) -> Result<&[Placed], RegistryError> {
    let first = entries.first().map(|placed| placed.entry.sequence);
    match (last_applied, first) {
        (0, None) => Ok(&[]),
        (0, Some(1)) => Ok(entries),
        (0, Some(first)) => Err(RegistryError::Corrupt(format!("the journal begins with change {first}"))),
        (last, Some(first)) if first == last => Ok(entries.get(1..).unwrap_or_default()),
        (last, _) => Err(RegistryError::Corrupt(format!(
            "the registry has made change {last}, which the journal does not hold: it was damaged or replaced"
        ))),
    }
}

/// An interrupted upload leaves one manifest ahead of the journal at most. More of them are versions that the
/// journal has lost, and whose files must not be swept.
fn refuse_lost_end(data: &DataDir, store: &Store) -> Result<(), RegistryError> {
    let mut ahead = Vec::new();
    for (model, number) in manifests::list(data)? {
        let head = replay::head(&store, &model)?;
        if head.is_none_or(|head| number >= head.next_version) {
            ahead.push(format!("version {number} of model {model}"));
        }
    }
    match ahead.len() {
        0 | 1 => Ok(()),
        _ => Err(RegistryError::Corrupt(format!(
            "the journal has lost its end: there are manifests of versions that it does not hold ({})",
            ahead.join(", ")
        ))),
    }
}

/// Counts what the versions need, and removes manifests and artifacts that none of them needs.
pub(crate) fn sweep(data: &DataDir, store: &Store, artifacts: &Artifacts) -> Result<(), RegistryError> {
    data.empty_staging()?;
    let versions = live_versions(store, artifacts)?;
    for (model, number) in manifests::list(data)? {
        if !versions.contains(&(model.clone(), number)) {
            tracing::info!(%model, version = %number, "removed the manifest of a version that does not exist");
            manifests::remove(data, &model, number);
        }
    }
    artifacts.references().sweep()
}

fn live_versions(
    store: &Store,
    artifacts: &Artifacts,
) -> Result<HashSet<(ModelName, VersionNumber)>, RegistryError> {
    let mut live = HashSet::new();
    for record in store.scan::<Version>(records::VERSIONS) {
        let (key, version) = record?;
        artifacts.references().hold(&digests_of(&version));
        live.insert((records::model_of_version(&key)?, version.number));
    }
    Ok(live)
}

/// The artifacts that a version needs, each once.
pub(crate) fn digests_of(version: &Version) -> Vec<Digest> {
    let mut digests: Vec<Digest> = version.graphs.iter().map(|graph| graph.digest).collect();
    digests.push(version.digest);
    digests.sort_unstable();
    digests.dedup();
    digests
}

/// Whether anybody can see a model: one whose versions were all deleted keeps only its numbers.
pub(crate) fn is_visible(head: &Head) -> bool {
    !head.versions.is_empty()
}
