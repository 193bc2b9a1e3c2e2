//! Whether the files of tables are what their records say: `modelhost check`, for a host that does not run. It changes
//! nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use modelhost_registry::{Record, RecordKind};
use serde::Deserialize as _;

use super::file::{Damaged, TableFile};
use super::file_store::{FOLDER, file_name};
use super::settings::{Table, TableVersion};
use crate::Error;

/// What was found in the files of tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableCheck {
    /// Tables.
    pub tables: u64,
    /// Their versions, of which each has a file, which was read.
    pub versions: u64,
    /// What is wrong, a sentence each.
    pub findings: Vec<String>,
    /// What an interruption left and the next start removes, a sentence each.
    pub notes: Vec<String>,
}

/// Compares the files in a data folder with its records. Reads every file.
///
/// # Errors
/// A folder that cannot be read.
pub fn check_tables(data_dir: &Path, records: &[(RecordKind, Record)]) -> Result<TableCheck, Error> {
    let folder = data_dir.join(FOLDER);
    let mut check = TableCheck::default();
    let (mut tables, mut needed) = (BTreeSet::new(), BTreeSet::new());
    for (_, record) in records.iter().filter(|(kind, _)| *kind == RecordKind::PredictionTable) {
        check.tables += 1;
        let Ok(Table { name, versions, .. }) = Table::deserialize(&record.value) else {
            check.findings.push(format!("the record of prediction table {} cannot be read", record.name));
            continue;
        };
        for version in versions {
            check.versions += 1;
            let file = format!("{name}/{}", file_name(version.number));
            if let Err(damaged) = verify(&folder.join(&file), &version) {
                let number = version.number;
                check.findings.push(format!(
                    "version {number} of prediction table {name}: {FOLDER}/{file}: {damaged}; publish it again"
                ));
            }
            needed.insert(file);
        }
        tables.insert(name.to_string());
    }
    check.notes = left_over(&folder, &tables, &needed)?;
    Ok(check)
}

fn verify(path: &Path, version: &TableVersion) -> Result<(), Damaged> {
    TableFile::open(path, version.bytes, version.checksum)?.verify()
}

fn left_over(folder: &Path, tables: &BTreeSet<String>, needed: &BTreeSet<String>) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for table in names_in(folder)? {
        if tables.contains(&table) {
            let files = names_in(&folder.join(&table))?.into_iter().map(|file| format!("{table}/{file}"));
            found.extend(files.filter(|file| !needed.contains(file)));
        } else {
            found.push(table);
        }
    }
    found.sort();
    Ok(found.into_iter().map(|left| format!("no prediction table has {FOLDER}/{left}")).collect())
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
    }
}
