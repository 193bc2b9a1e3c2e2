//! Making the registry anew: `modelhost check --rebuild`.
//!
//! From a sound journal the same registry comes out. From a damaged one, what can be saved: every intact
//! line that still makes sense, and versions whose manifests and artifacts are whole though the
//! journal has lost them. Then a new journal is written, which says just that. Manifests hold versions and nothing
//! else: of aliases, revisions, configurations and records what the journal has lost is lost, and a model whose
//! newest configuration is in a damaged line gets back the one before.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use modelhost_core::{ModelName, VersionNumber};

use crate::check::{self, Verdicts, artifact_problems};
use crate::data_dir::DataDir;
use crate::durable;
use crate::error::{IoContext as _, RegistryError};
use crate::journal::{self, Change, Entry, Scan};
use crate::manifests::{self, Manifest};
use crate::records::{Records as _, Replica};
use crate::registry::Registry;
use crate::replay::{self, Failure};
use crate::sealed;

/// What is in the file that says that there was a rebuild.
const MARK: &[u8] = b"The journal was rebuilt. The next start sets files aside that no record names, and removes this file.\n";

/// What a rebuild did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebuildReport {
    /// Changes in the journal now.
    pub changes: u64,
    /// Models that have a version.
    pub models: u64,
    /// Versions.
    pub versions: u64,
    /// What was lost, dropped or taken from manifests, a sentence each; empty where the journal was sound.
    pub findings: Vec<String>,
    /// What was moved aside; to be deleted by hand.
    pub moved_aside: Vec<PathBuf>,
}

pub(crate) fn rebuild(data: DataDir) -> Result<RebuildReport, RegistryError> {
    let scan = journal::scan(&journal::read_from(&data.journal(), 0)?, 0);
    scan.refuse_newer()?;
    let mut salvage = Salvage::new(&data, &scan)?;
    for placed in &scan.entries {
        salvage.take(&placed.entry)?;
    }
    salvage.adopt(&|_, _| true)?;
    salvage.settle()?;
    let Salvage { entries, records, findings, .. } = salvage;
    let mut report = RebuildReport { changes: entries.len() as u64, findings, ..RebuildReport::default() };
    let is_unchanged =
        scan.damage.is_empty() && entries.iter().eq(scan.entries.iter().map(|placed| &placed.entry));
    let versions = check::versions_in(&records)?;
    report.versions = versions.len() as u64;
    report.models = versions.iter().map(|(model, _)| model).collect::<BTreeSet<_>>().len() as u64;
    // Before anything else, and also for a journal that is whole: the store may have known more, and whoever is
    // interrupted here must not take files for left over whose records are lost.
    durable::write(&data.staging(), MARK, &data.rebuilt_mark())?;
    // The store first: without one, an interrupted rebuild can only end in the whole journal being read.
    let number = first_free_number(&data);
    report.moved_aside.extend(move_store(&data, number)?);
    if !is_unchanged {
        report.moved_aside.extend(replace_journal(&data, number, &entries)?);
    }
    drop(Registry::open_locked(data)?);
    Ok(report)
}

/// The changes that can be saved, with the records they lead to.
struct Salvage<'a> {
    data: &'a DataDir,
    entries: Vec<Entry>,
    records: Replica,
    /// Versions that have manifests and that no line of the journal deletes.
    manifests: Vec<(ModelName, VersionNumber)>,
    verdicts: Verdicts,
    findings: Vec<String>,
}

impl<'a> Salvage<'a> {
    fn new(data: &'a DataDir, scan: &Scan) -> Result<Salvage<'a>, RegistryError> {
        let deleted: BTreeSet<_> =
            scan.entries.iter().filter_map(|placed| deleted_by(&placed.entry)).collect();
        let mut manifests = manifests::list(data)?;
        manifests.retain(|listed| !deleted.contains(listed));
        let findings = scan.damage.clone();
        Ok(Salvage {
            data,
            entries: Vec::new(),
            records: Replica::new(),
            manifests,
            verdicts: Verdicts::new(),
            findings,
        })
    }

    /// Takes a line of the old journal, if need be after versions that it relies on and that only have manifests.
    fn take(&mut self, entry: &Entry) -> Result<(), RegistryError> {
        let mut failure = self.try_take(entry.clone())?;
        if failure.is_some() {
            let added = match &entry.change {
                Change::VersionAdded(version) => version.ensemble.as_ref(),
                _ => None,
            };
            self.adopt(&|model, number| {
                Some(model) == entry.model.as_ref()
                    || added.is_some_and(|ensemble| ensemble.names(model, number))
            })?;
            failure = self.try_take(entry.clone())?;
        }
        if let Some(reason) = failure {
            let of_what =
                entry.model.as_ref().map_or("of records".into(), |model| format!("of model {model}"));
            self.findings.push(format!(
                "change {} of the old journal, {of_what}, was dropped: {reason}",
                entry.sequence
            ));
        }
        Ok(())
    }

    /// Takes an entry, with the next sequence number; or says why it cannot follow.
    fn try_take(&mut self, mut entry: Entry) -> Result<Option<String>, RegistryError> {
        if let Some(model) = &entry.model {
            let generation = replay::head(&self.records, model)?.map_or(0, |head| head.generation);
            entry.generation = entry.generation.max(generation + 1);
        }
        entry.sequence = self.entries.len() as u64 + 1;
        match replay::apply(&self.records, &entry, 0) {
            Ok(writes) => self.records.write(&writes)?,
            Err(Failure::Inapplicable(reason)) => return Ok(Some(reason)),
            Err(Failure::Unreadable(error)) => return Err(error),
        }
        self.entries.push(entry);
        Ok(None)
    }

    /// Takes these versions where they only have manifests; those that are steps of others first.
    fn adopt(&mut self, is_wanted: &dyn Fn(&ModelName, VersionNumber) -> bool) -> Result<(), RegistryError> {
        for (model, number) in self.manifests.clone() {
            let head = replay::head(&self.records, &model)?;
            let is_known = head.is_some_and(|head| head.versions.contains_key(&number));
            // Meanwhile it may have been taken as a step of another.
            let is_left = self.manifests.contains(&(model.clone(), number));
            if is_wanted(&model, number) && is_left && !is_known {
                self.manifests.retain(|(listed, version)| (listed, version) != (&model, &number));
                let outcome = self.adopt_version(&model, number)?;
                self.findings.push(format!("version {number} of model {model} {outcome}"));
            }
        }
        Ok(())
    }

    /// Deletes versions whose files and manifests are gone, for then the journal has lost their deletion; and
    /// writes manifests that are missing or differ.
    fn settle(&mut self) -> Result<(), RegistryError> {
        for (model, version) in check::versions_in(&self.records)? {
            let number = version.number;
            let problems = artifact_problems(self.data, &version, &mut self.verdicts);
            let is_gone = !problems.is_empty() && !manifests::path(self.data, &model, number).exists();
            if is_gone {
                let deletion = new_entry(&model, Timestamp::now(), Change::VersionDeleted(number));
                let outcome = self
                    .try_take(deletion)?
                    .map_or("was deleted".into(), |reason| format!("stays: {reason}"));
                self.findings
                    .push(format!("version {number} of model {model}, whose files are gone, {outcome}"));
            } else if manifests::read(self.data, &model, number)?
                .is_none_or(|manifest| manifest.version != version)
            {
                manifests::write(self.data, &model, &version)?;
                self.findings
                    .push(format!("the manifest of version {number} of model {model} was written anew"));
            }
        }
        Ok(())
    }

    /// Answers what became of it, for the report.
    fn adopt_version(&mut self, model: &ModelName, number: VersionNumber) -> Result<String, RegistryError> {
        let Some(Manifest { version, .. }) = manifests::read(self.data, model, number)? else {
            return Ok("was not taken from its manifest, which is damaged".into());
        };
        let problems = artifact_problems(self.data, &version, &mut self.verdicts);
        if !problems.is_empty() {
            return Ok(format!("was not taken from its manifest: {}", problems.join(", ")));
        }
        if let Some(ensemble) = version.ensemble.clone() {
            self.adopt(&|model, number| ensemble.names(model, number))?;
        }
        let entry = new_entry(model, version.created, Change::VersionAdded(Box::new(version)));
        Ok(match self.try_take(entry)? {
            None => "was taken from its manifest".into(),
            Some(reason) => format!("was not taken from its manifest: {reason}"),
        })
    }
}

/// An entry that the old journal does not have; its numbers are given when it is taken.
fn new_entry(model: &ModelName, time: Timestamp, change: Change) -> Entry {
    let model = Some(model.clone());
    Entry { format: change.format(), sequence: 0, time, model, generation: 0, change }
}

fn deleted_by(entry: &Entry) -> Option<(ModelName, VersionNumber)> {
    match entry.change {
        Change::VersionDeleted(number) => entry.model.clone().map(|model| (model, number)),
        _ => None,
    }
}

fn store_aside(data: &DataDir, number: u64) -> PathBuf {
    data.root().join(format!("registry.before-rebuild-{number}"))
}

fn journal_aside(data: &DataDir, number: u64) -> PathBuf {
    data.root().join(format!("journal.before-rebuild-{number}.jsonl"))
}

fn first_free_number(data: &DataDir) -> u64 {
    let is_taken =
        |number: &u64| store_aside(data, *number).exists() || journal_aside(data, *number).exists();
    (1..).find(|number| !is_taken(number)).unwrap_or(u64::MAX)
}

fn move_store(data: &DataDir, number: u64) -> Result<Option<PathBuf>, RegistryError> {
    let store = data.store();
    if !store.exists() {
        return Ok(None);
    }
    let aside = store_aside(data, number);
    fs::rename(&store, &aside).when("move aside", &store)?;
    durable::sync_dir(data.root())?;
    Ok(Some(aside))
}

/// Writes a journal of these entries in place of the old one, which is kept aside. At every moment there is one or the other.
fn replace_journal(data: &DataDir, number: u64, entries: &[Entry]) -> Result<Option<PathBuf>, RegistryError> {
    let journal = data.journal();
    let aside = journal_aside(data, number);
    let is_there = journal.exists();
    if is_there {
        fs::hard_link(&journal, &aside).when("keep a second name for", &journal)?;
    }
    let lines: Vec<u8> = entries.iter().flat_map(sealed::seal).collect();
    durable::write(&data.staging(), &lines, &journal)?;
    Ok(is_there.then_some(aside))
}
