//! What a change means: from the present records and a journal entry to the records after it.
//!
//! The same function makes a change when it happens, after a crash, in a check and in a rebuild, so that
//! all of them lead to the same records.

use modelhost_core::{AliasName, ModelConfiguration, ModelName, VersionNumber};

use crate::error::RegistryError;
use crate::journal::{Change, Entry, Placed, RecordChange};
use crate::model::{Revision, Version};
use crate::record::RecordKind;
use crate::records::{self, APPLIED, Applied, Head, Records, Stored, WITH_RECORDS, Write};

/// Why an entry cannot follow what was before it; a clause such as "version 3 exists already".
pub(crate) type Inapplicable = String;

/// Why a change was not made.
pub(crate) enum Failure {
    /// It cannot follow what was before it.
    Inapplicable(Inapplicable),
    /// What was before it cannot be read.
    Unreadable(RegistryError),
}

impl From<Inapplicable> for Failure {
    fn from(reason: Inapplicable) -> Failure {
        Failure::Inapplicable(reason)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        Failure::Unreadable(error)
    }
}

/// Every record that this entry changes, as it is afterwards, and that the entry, which begins at `offset` in the
/// journal, is among what the records include.
pub(crate) fn apply(records: &impl Records, entry: &Entry, offset: u64) -> Result<Vec<Write>, Failure> {
    let mut writes = match (&entry.model, &entry.change) {
        (None, Change::Records(changes)) => apply_to_records(records, changes, entry.generation)?,
        (Some(model), change) => {
            if let Change::VersionAdded(version) = change {
                check_steps(records, version)?;
            }
            apply_to_model(head(records, model)?, model, change, entry.generation)?
        }
        (None, _) => return Err(Failure::Inapplicable("it names no model".to_owned())),
    };
    writes.push(applied(records, entry, offset)?);
    Ok(writes)
}

/// An ensemble can only be where the versions are that are its steps.
pub(crate) fn check_steps(records: &impl Records, version: &Version) -> Result<(), Failure> {
    for step in version.ensemble.iter().flat_map(|ensemble| &ensemble.steps) {
        let digest = head(records, &step.model)?.and_then(|head| head.versions.get(&step.version).copied());
        if digest != Some(step.digest) {
            return Err(Failure::Inapplicable(format!(
                "version {} of model \"{}\", which is a step of the ensemble, does not exist",
                step.version, step.model
            )));
        }
    }
    Ok(())
}

/// Makes a change of the journal in records that do not have it yet.
pub(crate) fn replay(records: &mut impl Records, placed: &Placed) -> Result<(), RegistryError> {
    match apply(records, &placed.entry, placed.offset) {
        Ok(writes) => records.write(&writes),
        Err(Failure::Unreadable(error)) => Err(error),
        Err(Failure::Inapplicable(reason)) => {
            let sequence = placed.entry.sequence;
            Err(RegistryError::Corrupt(format!("change {sequence} of the journal cannot be made: {reason}")))
        }
    }
}

/// A model's record.
pub(crate) fn head(records: &impl Records, model: &ModelName) -> Result<Option<Head>, RegistryError> {
    let key = records::model_key(model);
    records.read(&key)?.map(|bytes| records::decode(&key, &bytes)).transpose()
}

/// A record that belongs to no model.
pub(crate) fn stored(
    records: &impl Records,
    kind: RecordKind,
    name: &str,
) -> Result<Option<Stored>, RegistryError> {
    let key = records::record_key(kind, name);
    records.read(&key)?.map(|bytes| records::decode(&key, &bytes)).transpose()
}

/// The record that says up to which line of the journal the records go. Once it is in the form that knows of
/// records, it stays in it.
fn applied(records: &impl Records, entry: &Entry, offset: u64) -> Result<Write, RegistryError> {
    let applied = Applied { sequence: entry.sequence, offset };
    let had_records = records.read(APPLIED)?.is_some_and(|bytes| bytes.first() == Some(&WITH_RECORDS));
    let has_records = had_records || matches!(entry.change, Change::Records(_));
    let value =
        if has_records { records::in_form(WITH_RECORDS, &applied) } else { records::encode(&applied) };
    Ok((APPLIED.to_vec(), Some(value)))
}

fn apply_to_records(
    records: &impl Records,
    changes: &[RecordChange],
    generation: u64,
) -> Result<Vec<Write>, Failure> {
    let apply = |RecordChange { kind, name, value }: &RecordChange| {
        let present = stored(records, *kind, name)?;
        if present.is_none() && value.is_none() {
            return Err(Failure::Inapplicable(format!("{kind} {name} does not exist")));
        }
        follows(generation, present.map_or(0, |present| present.generation))?;
        let stored = value.clone().map(|value| records::in_form(WITH_RECORDS, &Stored { generation, value }));
        Ok((records::record_key(*kind, name), stored))
    };
    changes.iter().map(apply).collect()
}

fn apply_to_model(
    head: Option<Head>,
    model: &ModelName,
    change: &Change,
    generation: u64,
) -> Result<Vec<Write>, Inapplicable> {
    let mut head = head.unwrap_or_else(Head::new);
    follows(generation, head.generation)?;
    head.generation = generation;
    let mut writes = Vec::with_capacity(3);
    match change {
        Change::VersionAdded(version) => writes.push(add_version(&mut head, model, version)?),
        Change::VersionDeleted(number) => writes.push(delete_version(&mut head, model, *number)?),
        Change::Deployed(revision) => writes.push(deploy(&mut head, model, revision)?),
        Change::AliasSet { alias, version } => set_alias(&mut head, alias, *version)?,
        Change::AliasDeleted(alias) => delete_alias(&mut head, alias)?,
        Change::Configured(configuration) => configure(&mut head, configuration)?,
        Change::Records(_) => return Err("it is about records, and names a model".to_owned()),
    }
    writes.push((records::model_key(model), Some(head.encode())));
    Ok(writes)
}

fn follows(generation: u64, present: u64) -> Result<(), Inapplicable> {
    if generation <= present {
        return Err(format!("generation {generation} follows generation {present}"));
    }
    Ok(())
}

fn add_version(head: &mut Head, model: &ModelName, version: &Version) -> Result<Write, Inapplicable> {
    let number = version.number;
    if head.versions.insert(number, version.digest).is_some() {
        return Err(format!("version {number} exists already"));
    }
    head.next_version = head.next_version.max(VersionNumber(number.0.saturating_add(1)));
    Ok((records::version_key(model, number), Some(records::encode_version(version))))
}

fn delete_version(head: &mut Head, model: &ModelName, number: VersionNumber) -> Result<Write, Inapplicable> {
    let is_needed = head.deployment.as_ref().is_some_and(|revision| revision.names(number))
        || head.aliases.values().any(|version| *version == number);
    if is_needed {
        return Err(format!("version {number} is deployed or has an alias"));
    }
    head.versions.remove(&number).ok_or_else(|| missing(number))?;
    if head.versions.is_empty() {
        // A model that comes back under this name is another one.
        head.configuration = ModelConfiguration::default();
    }
    Ok((records::version_key(model, number), None))
}

fn deploy(head: &mut Head, model: &ModelName, revision: &Revision) -> Result<Write, Inapplicable> {
    let newest = head.deployment.as_ref().map_or(0, |newest| newest.number);
    if revision.number <= newest {
        return Err(format!("revision {} follows revision {newest}", revision.number));
    }
    if let Some(share) = revision.traffic.iter().find(|share| !head.versions.contains_key(&share.version)) {
        return Err(missing(share.version));
    }
    head.deployment = Some(revision.clone());
    Ok((records::revision_key(model, revision.number), Some(records::encode(revision))))
}

fn set_alias(head: &mut Head, alias: &AliasName, version: VersionNumber) -> Result<(), Inapplicable> {
    if !head.versions.contains_key(&version) {
        return Err(missing(version));
    }
    head.aliases.insert(alias.clone(), version);
    Ok(())
}

fn delete_alias(head: &mut Head, alias: &AliasName) -> Result<(), Inapplicable> {
    match head.aliases.remove(alias) {
        Some(_) => Ok(()),
        None => Err(format!("alias {alias} does not exist")),
    }
}

fn configure(head: &mut Head, configuration: &ModelConfiguration) -> Result<(), Inapplicable> {
    if head.versions.is_empty() {
        return Err("the model has no version".to_owned());
    }
    head.configuration = configuration.clone();
    Ok(())
}

fn missing(number: VersionNumber) -> Inapplicable {
    format!("version {number} does not exist")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use modelhost_core::{Capabilities, ComponentMetadata, Digest, Signature};
    use serde_json::json;

    use super::*;
    use crate::records::Replica;

    fn made(records: &mut Replica, sequence: u64, model: Option<&str>, change: Change) -> u8 {
        let model = model.map(|model| model.parse().unwrap());
        let (format, time) = (change.format(), Timestamp::UNIX_EPOCH);
        let entry = Entry { format, sequence, time, model, generation: sequence, change };
        replay(records, &Placed { entry, offset: 0 }).unwrap();
        records[APPLIED][0]
    }

    #[test]
    fn the_last_change_tells_an_older_host_of_records() {
        let version = Version {
            number: VersionNumber(1),
            digest: Digest::of(b"c"),
            size_bytes: 1,
            created: Timestamp::UNIX_EPOCH,
            uploaded_by: None,
            signature: Signature::default(),
            graphs: Vec::new(),
            samples: Vec::new(),
            capabilities: Capabilities::default(),
            metadata: ComponentMetadata::default(),
            compiled_size_bytes: 0,
            ensemble: None,
        };
        let job = |value| RecordChange { kind: RecordKind::Job, name: "1".to_owned(), value };
        let mut records = Replica::new();
        assert_eq!(made(&mut records, 1, Some("m"), Change::VersionAdded(Box::new(version))), 1);
        assert_eq!(made(&mut records, 2, None, Change::Records(vec![job(Some(json!(1)))])), 3);
        let alias = Change::AliasSet { alias: "a".parse().unwrap(), version: VersionNumber(1) };
        assert_eq!(made(&mut records, 3, Some("m"), alias), 3);
        assert_eq!(made(&mut records, 4, None, Change::Records(vec![job(None)])), 3);
    }
}
