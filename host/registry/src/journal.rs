//! The journal: every change ever made, one sealed line each, appended and fsynced before a change counts as made.
//!
//! It knows lines and their order, not what a change means for a model: that is `replay`'s.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use modelhost_core::{AliasName, ModelConfiguration, ModelName, VersionNumber};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::durable;
use crate::error::{IoContext as _, RegistryError};
use crate::model::{Revision, Version};
use crate::record::RecordKind;
use crate::sealed;

/// The newest form of lines that this host reads. Form 2 knows [`Change::Configured`], form 3 [`Change::Records`],
/// form 4 versions that are ensembles.
pub(crate) const FORMAT: u64 = 4;

/// One change of one model, or of records that belong to no model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) format: u64,
    /// 1, 2, 3 … over everything.
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
    /// None for records, which name themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<ModelName>,
    /// Of the model, or of each of the records, after this change.
    pub(crate) generation: u64,
    pub(crate) change: Change,
}

/// What changed, with everything that is needed to make it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Change {
    VersionAdded(Box<Version>),
    VersionDeleted(VersionNumber),
    Deployed(Revision),
    AliasSet { alias: AliasName, version: VersionNumber },
    AliasDeleted(AliasName),
    Configured(Box<ModelConfiguration>),
    Records(Vec<RecordChange>),
}

/// What becomes of one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordChange {
    pub(crate) kind: RecordKind,
    pub(crate) name: String,
    /// None: it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub(crate) value: Option<Value>,
}

/// A value that is there, be it null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Change {
    /// The oldest form of lines that knows this change, in which it is written: a host that knows no newer one goes on
    /// with a folder where nothing newer happened.
    pub(crate) fn format(&self) -> u64 {
        match self {
            Change::VersionAdded(version) if version.ensemble.is_some() => 4,
            Change::Records(_) => 3,
            Change::Configured(_) => 2,
            _ => 1,
        }
    }
}

/// An entry with the place of its line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) entry: Entry,
    /// Of the line's first byte in the journal.
    pub(crate) offset: u64,
}

/// What was read from a journal or a part of it.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// All intact entries, in the order of the file.
    pub(crate) entries: Vec<Placed>,
    /// Where the last intact line ends: what follows is a torn line.
    pub(crate) intact_length: u64,
    /// Bytes after the last intact line.
    pub(crate) torn_bytes: u64,
    /// What is wrong before the end; sentences. Nothing but a damaged file explains these.
    pub(crate) damage: Vec<String>,
    /// A line whose format is newer than [`FORMAT`].
    pub(crate) newer_format: Option<u64>,
}

/// Reads lines from the first byte of a journal, or from one that begins a line. Never fails: what cannot be read is reported.
pub(crate) fn scan(bytes: &[u8], start: u64) -> Scan {
    let mut found = Scan { intact_length: start, ..Scan::default() };
    let mut offset = start;
    let mut unreadable = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let end = offset + line.len() as u64;
        match line.strip_suffix(b"\n").filter(|text| sealed::is_intact(text)) {
            Some(text) => {
                // Unreadable lines that an intact one follows are no torn end.
                found.damage.append(&mut unreadable);
                found.intact_length = end;
                found.add(text, offset);
            }
            None => unreadable.push(format!("the journal is damaged at byte {offset}")),
        }
        offset = end;
    }
    found.torn_bytes = offset - found.intact_length;
    found
}

impl Scan {
    fn add(&mut self, text: &[u8], offset: u64) {
        let entry = match serde_json::from_slice::<Entry>(text) {
            Ok(entry) if (1..=FORMAT).contains(&entry.format) => entry,
            _ => return self.refuse(text, offset),
        };
        let expected = self.entries.last().map(|previous| previous.entry.sequence.saturating_add(1));
        if expected.is_some_and(|expected| expected != entry.sequence) {
            self.damage.push(format!("changes are missing in the journal before number {}", entry.sequence));
        }
        self.entries.push(Placed { entry, offset });
    }

    fn refuse(&mut self, text: &[u8], offset: u64) {
        #[derive(Deserialize)]
        struct OnlyFormat {
            format: u64,
        }
        match serde_json::from_slice::<OnlyFormat>(text) {
            Ok(OnlyFormat { format }) if format > FORMAT => self.newer_format = Some(format),
            _ => self.damage.push(format!("the journal holds something that is no change at byte {offset}")),
        }
    }

    /// The entries, if nothing but a torn end is wrong.
    pub(crate) fn sound(self) -> Result<Vec<Placed>, RegistryError> {
        self.refuse_newer()?;
        match self.damage.into_iter().next() {
            Some(damage) => Err(RegistryError::Corrupt(damage)),
            None => Ok(self.entries),
        }
    }

    /// An error where a newer host wrote a line; a rebuild must not drop what it does not understand.
    pub(crate) fn refuse_newer(&self) -> Result<(), RegistryError> {
        match self.newer_format {
            Some(found) => {
                Err(RegistryError::NewerFormat { what: "the journal".into(), found, known: FORMAT })
            }
            None => Ok(()),
        }
    }
}

/// The bytes of the journal from `offset` on. Nothing where there is no journal, or it is shorter.
pub(crate) fn read_from(path: &Path, offset: u64) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
        opened => {
            let mut file = opened.when("open", path)?;
            file.seek(SeekFrom::Start(offset)).when("read", path)?;
            file.read_to_end(&mut bytes).when("read", path)?;
            Ok(bytes)
        }
    }
}

/// The open journal, to append to.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    length: u64,
    stopped: bool,
}

impl Journal {
    /// Opens the journal, or begins one, and cuts off what follows `length`: a torn line.
    pub(crate) fn open(path: PathBuf, length: u64) -> Result<Journal, RegistryError> {
        let file = File::options().create(true).append(true).open(&path).when("open", &path)?;
        let actual = file.metadata().when("read", &path)?.len();
        if actual > length {
            tracing::warn!(bytes = actual - length, "cut off the torn end of the journal");
            file.set_len(length).when("truncate", &path)?;
        }
        file.sync_all().when("sync", &path)?;
        path.parent().map_or(Ok(()), durable::sync_dir)?;
        Ok(Journal { file, path, length, stopped: false })
    }

    /// Appends a line and waits until it is on the disk. Returns where the line begins.
    ///
    /// After an error the line is not there, unless the journal [has stopped](Self::is_stopped).
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<u64, RegistryError> {
        if self.stopped {
            return Err(RegistryError::Stopped);
        }
        let line = sealed::seal(entry);
        if let Err(error) = self.file.write_all(&line) {
            self.take_back();
            return Err(error).when("append to", &self.path);
        }
        if let Err(error) = self.file.sync_data() {
            // What a failed fsync left on the disk cannot be known, and a second one may wrongly succeed.
            self.stopped = true;
            return Err(error).when("sync", &self.path);
        }
        let offset = self.length;
        self.length += line.len() as u64;
        Ok(offset)
    }

    /// Where the next line begins.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Refuses every later change: what is on the disk is no longer known.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether a failed change may be there after a restart.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn take_back(&mut self) {
        let taken_back = self.file.set_len(self.length).and_then(|()| self.file.sync_data());
        self.stopped = taken_back.is_err();
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
