//! Whether the files of datasets are what their records say: `modelhost check`, for a host that does not run. It changes
//! nothing.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use modelhost_registry::{Record, RecordKind, digest_of};
use serde::Deserialize as _;

use super::version::{DatasetVersion, FileLocation};
use super::{FOLDER, stored_name};
use crate::Error;

/// What was found in the files of datasets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetCheck {
    /// Versions of datasets.
    pub versions: u64,
    /// Files whose digests were computed.
    pub files: u64,
    /// What is wrong, a sentence each.
    pub findings: Vec<String>,
    /// What an interruption left and the next start removes, a sentence each.
    pub notes: Vec<String>,
}

/// Compares the files in a data folder with its records. Reads every file.
///
/// # Errors
/// A folder that cannot be read.
pub fn check_datasets(data_dir: &Path, records: &[(RecordKind, Record)]) -> Result<DatasetCheck, Error> {
    let folder = data_dir.join(FOLDER);
    let mut check = DatasetCheck::default();
    let mut problems: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (_, record) in records.iter().filter(|(kind, _)| *kind == RecordKind::DatasetVersion) {
        check.versions += 1;
        let Ok(version) = DatasetVersion::deserialize(&record.value) else {
            check.findings.push(format!("the record of dataset {} cannot be read", record.name));
            continue;
        };
        for file in &version.files {
            let FileLocation::Stored { digest } = &file.location else { continue };
            let name = stored_name(digest, version.format);
            let problem =
                problems.entry(name.clone()).or_insert_with(|| match digest_of(&folder.join(&name)) {
                    Ok(found) if found == *digest => None,
                    Ok(_) => Some(format!("{FOLDER}/{name} is damaged: its bytes have another digest")),
                    Err(error) => Some(format!("{FOLDER}/{name} cannot be read: {error}")),
                });
            let reference = version.reference();
            check.findings.extend(problem.iter().map(|problem| format!("dataset {reference}: {problem}")));
        }
    }
    check.files = problems.len() as u64;
    let needed: HashSet<&str> = problems.keys().map(String::as_str).collect();
    check.notes = left_over(&folder, &needed)?;
    Ok(check)
}

fn left_over(folder: &Path, needed: &HashSet<&str>) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut notes = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !needed.contains(name.as_str()) {
            notes.push(format!("no dataset has {FOLDER}/{name}"));
        }
    }
    notes.sort();
    Ok(notes)
}
