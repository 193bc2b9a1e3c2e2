//! The comparison of everything that is on the disk with everything else: `modelhost check`. It changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use modelhost_core::{Digest, Hasher, ModelName};

use crate::artifacts::{graph_path, version_path};
use crate::data_dir::DataDir;
use crate::error::RegistryError;
use crate::journal;
use crate::manifests;
use crate::model::Version;
use crate::record::{Record, RecordKind};
use crate::records::{self, APPLIED, Applied, Records as _, Replica, Stored, VERSIONS};
use crate::recovery::digests_of;
use crate::references;
use crate::replay;
use crate::store::Store;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckReport {
    /// Changes in the journal.
    pub changes: u64,
    /// Models that have a version.
    pub models: u64,
    /// Versions.
    pub versions: u64,
    /// Components and graphs whose digests were computed.
    pub artifacts: u64,
    /// The records that belong to no model, by kind and name, for their owners to check what they say.
    pub records: Vec<(RecordKind, Record)>,
    /// What is wrong, a sentence each.
    pub findings: Vec<String>,
    /// What an interruption left and the next start puts right, a sentence each.
    pub notes: Vec<String>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

pub(crate) fn check(data: &DataDir) -> Result<CheckReport, RegistryError> {
    let mut report = CheckReport::default();
    let replica = check_store(data, &mut report)?;
    report.records = records_in(&replica)?;
    let versions = versions_in(&replica)?;
    report.versions = versions.len() as u64;
    report.models = versions.iter().map(|(model, _)| model).collect::<BTreeSet<_>>().len() as u64;
    check_manifests(data, &versions, &mut report)?;
    check_steps(&versions, &mut report);
    check_artifacts(data, &versions, &mut report)?;
    Ok(report)
}

/// Compares the store with what the journal leads to, and returns the latter.
fn check_store(data: &DataDir, report: &mut CheckReport) -> Result<Replica, RegistryError> {
    let scan = journal::scan(&journal::read_from(&data.journal(), 0)?, 0);
    scan.refuse_newer()?;
    report.findings.extend(scan.damage);
    if scan.torn_bytes > 0 {
        report.notes.push(format!("the journal ends in a torn line of {} bytes", scan.torn_bytes));
    }
    let (stored, last_applied) = read_store(data, report)?;
    let mut replica = Replica::new();
    let mut has_last_applied = last_applied == 0;
    for placed in &scan.entries {
        report.changes += 1;
        match replay::replay(&mut replica, placed) {
            Err(error @ RegistryError::Corrupt(_)) => report.findings.push(error.to_string()),
            result => result?,
        }
        if placed.entry.sequence == last_applied {
            has_last_applied = true;
            compare(&stored, &replica, report);
        }
    }
    if !has_last_applied {
        report
            .findings
            .push(format!("the store has made change {last_applied}, which the journal does not hold"));
    }
    let last = scan.entries.last().map_or(0, |placed| placed.entry.sequence);
    if last > last_applied {
        report.notes.push(format!("the store is at change {last_applied} of {last}"));
    }
    Ok(replica)
}

/// All records of the store, and the number of the last change that they include.
fn read_store(data: &DataDir, report: &mut CheckReport) -> Result<(Replica, u64), RegistryError> {
    if !data.store().exists() {
        report.notes.push("there is no store; it is made from the journal".into());
        return Ok((Replica::new(), 0));
    }
    let read = Store::open(&data.store()).and_then(|store| {
        let stored = store.dump()?;
        let applied =
            stored.read(APPLIED)?.map(|bytes| records::decode::<Applied>(APPLIED, &bytes)).transpose()?;
        Ok((stored, applied.map_or(0, |applied| applied.sequence)))
    });
    match read {
        Err(error @ RegistryError::Corrupt(_)) => {
            report.findings.push(error.to_string());
            Ok((Replica::new(), 0))
        }
        result => result,
    }
}

fn compare(stored: &Replica, replica: &Replica, report: &mut CheckReport) {
    let keys: BTreeSet<&Vec<u8>> = stored.keys().chain(replica.keys()).collect();
    for key in keys {
        let problem = match (stored.get(key), replica.get(key)) {
            (Some(actual), Some(expected)) if actual == expected => continue,
            (Some(_), Some(_)) => "differs in store and journal",
            (None, _) => "is missing in the store",
            (_, None) => "is in the store, and the journal does not explain it",
        };
        report.findings.push(format!("{} {problem}", records::display(key)));
    }
}

/// All versions among these records.
pub(crate) fn versions_in(records: &Replica) -> Result<Vec<(ModelName, Version)>, RegistryError> {
    let versions = records.iter().filter(|(key, _)| key.starts_with(VERSIONS));
    versions.map(|(key, bytes)| Ok((records::model_of_version(key)?, records::decode(key, bytes)?))).collect()
}

/// All records among these that belong to no model.
fn records_in(records: &Replica) -> Result<Vec<(RecordKind, Record)>, RegistryError> {
    let mut found = Vec::new();
    for kind in RecordKind::ALL {
        let prefix = records::record_key(kind, "");
        for (key, bytes) in records.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix)) {
            let Stored { generation, value } = records::decode(key, bytes)?;
            found.push((kind, Record { name: records::name_of_record(key, kind)?, generation, value }));
        }
    }
    Ok(found)
}

fn check_manifests(
    data: &DataDir,
    versions: &[(ModelName, Version)],
    report: &mut CheckReport,
) -> Result<(), RegistryError> {
    for (model, version) in versions {
        let manifest = manifests::read(data, model, version.number)?;
        if manifest.is_none_or(|manifest| manifest.version != *version) {
            let number = version.number;
            report
                .findings
                .push(format!("the manifest of version {number} of model {model} is missing or differs"));
        }
    }
    let live: BTreeSet<_> = versions.iter().map(|(model, version)| (model.clone(), version.number)).collect();
    for (model, number) in manifests::list(data)?.into_iter().filter(|listed| !live.contains(listed)) {
        report
            .notes
            .push(format!("there is a manifest of version {number} of model {model}, which does not exist"));
    }
    Ok(())
}

/// An ensemble whose steps are gone answers nothing.
fn check_steps(versions: &[(ModelName, Version)], report: &mut CheckReport) {
    let known: BTreeMap<_, _> =
        versions.iter().map(|(model, version)| ((model, version.number), version.digest)).collect();
    for (model, version) in versions {
        for step in version.ensemble.iter().flat_map(|ensemble| &ensemble.steps) {
            if known.get(&(&step.model, step.version)) != Some(&step.digest) {
                report.findings.push(format!(
                    "version {} of model {model} is an ensemble with a step that is gone: version {} of model {}",
                    version.number, step.version, step.model
                ));
            }
        }
    }
}

fn check_artifacts(
    data: &DataDir,
    versions: &[(ModelName, Version)],
    report: &mut CheckReport,
) -> Result<(), RegistryError> {
    let mut verdicts = BTreeMap::new();
    for (model, version) in versions {
        for problem in artifact_problems(data, version, &mut verdicts) {
            report.findings.push(format!("version {} of model {model}: {problem}", version.number));
        }
    }
    report.artifacts = verdicts.len() as u64;
    let needed: BTreeSet<Digest> = versions.iter().flat_map(|(_, version)| digests_of(version)).collect();
    for file in references::artifact_files(data)?.iter().filter(|file| !needed.contains(&file.digest)) {
        report.notes.push(format!("nothing needs {}", file.path.display()));
    }
    Ok(())
}

/// What is known about files that were read already, by digest: a problem, or none.
pub(crate) type Verdicts = BTreeMap<Digest, Option<String>>;

/// What is wrong with the files of a version. Each file is read once, however many versions need it.
pub(crate) fn artifact_problems(data: &DataDir, version: &Version, verdicts: &mut Verdicts) -> Vec<String> {
    let graphs = version.graphs.iter().map(|graph| (graph.digest, graph_path(data, &graph.digest)));
    let files = std::iter::once((version.digest, version_path(data, version))).chain(graphs);
    files
        .filter_map(|(digest, path)| {
            verdicts.entry(digest).or_insert_with(|| problem_of(&path, digest)).clone()
        })
        .collect()
}

fn problem_of(path: &Path, digest: Digest) -> Option<String> {
    match digest_of(path) {
        Ok(actual) if actual == digest => None,
        Ok(_) => Some(format!("{} is damaged: its bytes have another digest", path.display())),
        Err(error) => Some(format!("{} cannot be read: {error}", path.display())),
    }
}

/// The digest of a file's bytes.
///
/// # Errors
/// A file that cannot be read.
pub fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            // A read never answers more than fits.
            length => hasher.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}
