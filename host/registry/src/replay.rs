//! What a change means: from a model's record and a journal entry to the records after it.
//!
//! The same function makes a change when it happens, after a crash, in a check and in a rebuild, so that
//! all of them lead to the same records.

use modelhost_core::{AliasName, ModelConfiguration, ModelName, VersionNumber};

use crate::error::RegistryError;
use crate::journal::{Change, Entry, Placed};
use crate::model::{Revision, Version};
use crate::records::{self, APPLIED, Applied, Head, Records, Write};

/// Why an entry cannot follow what was before it; a clause such as "version 3 exists already".
pub(crate) type Inapplicable = String;

/// The model's record after this entry, and every record that it changes, the model's included.
pub(crate) fn apply(head: Option<Head>, entry: &Entry) -> Result<(Head, Vec<Write>), Inapplicable> {
    let mut head = head.unwrap_or_else(Head::new);
    if entry.generation <= head.generation {
        return Err(format!("generation {} follows generation {}", entry.generation, head.generation));
    }
    head.generation = entry.generation;
    let mut writes = Vec::with_capacity(3);
    match &entry.change {
        Change::VersionAdded(version) => writes.push(add_version(&mut head, &entry.model, version)?),
        Change::VersionDeleted(number) => writes.push(delete_version(&mut head, &entry.model, *number)?),
        Change::Deployed(revision) => writes.push(deploy(&mut head, &entry.model, revision)?),
        Change::AliasSet { alias, version } => set_alias(&mut head, alias, *version)?,
        Change::AliasDeleted(alias) => delete_alias(&mut head, alias)?,
        Change::Configured(configuration) => configure(&mut head, configuration)?,
    }
    writes.push((records::model_key(&entry.model), Some(head.encode())));
    Ok((head, writes))
}

/// The record that says up to which line of the journal the records go.
pub(crate) fn applied(sequence: u64, offset: u64) -> Write {
    (APPLIED.to_vec(), Some(records::encode(&Applied { sequence, offset })))
}

/// Makes a change of the journal in records that do not have it yet.
pub(crate) fn replay(records: &mut impl Records, placed: &Placed) -> Result<(), RegistryError> {
    let entry = &placed.entry;
    let (_, mut writes) = apply(head(records, &entry.model)?, entry).map_err(|reason| {
        RegistryError::Corrupt(format!("change {} of the journal cannot be made: {reason}", entry.sequence))
    })?;
    writes.push(applied(entry.sequence, placed.offset));
    records.write(&writes)
}

/// A model's record.
pub(crate) fn head(records: &impl Records, model: &ModelName) -> Result<Option<Head>, RegistryError> {
    let key = records::model_key(model);
    records.read(&key)?.map(|bytes| records::decode(&key, &bytes)).transpose()
}

fn add_version(head: &mut Head, model: &ModelName, version: &Version) -> Result<Write, Inapplicable> {
    let number = version.number;
    if head.versions.insert(number, version.digest).is_some() {
        return Err(format!("version {number} exists already"));
    }
    head.next_version = head.next_version.max(VersionNumber(number.0.saturating_add(1)));
    Ok((records::version_key(model, number), Some(records::encode(version))))
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
