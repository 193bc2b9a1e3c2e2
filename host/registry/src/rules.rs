//! The rules that forbid a change, each with the sentence that a client gets.

use modelhost_core::{Ensemble, ModelName, VersionNumber};

use crate::error::RegistryError;
use crate::model::{Revision, TrafficShare};
use crate::records::Head;

/// Refuses where the caller has read an older state than the present one.
pub(crate) fn check_generation(head: &Head, expected: Option<u64>) -> Result<(), RegistryError> {
    match expected {
        Some(expected) if expected != head.generation => {
            Err(RegistryError::PreconditionFailed { expected, actual: head.generation })
        }
        _ => Ok(()),
    }
}

/// Refuses what cannot be deployed yet.
pub(crate) fn check_traffic(traffic: &[TrafficShare]) -> Result<(), RegistryError> {
    match traffic {
        [TrafficShare { percent: 100, .. }] => Ok(()),
        [share] => Err(RegistryError::InvalidTraffic(format!(
            "version {} has {} percent of the traffic: expected 100",
            share.version, share.percent
        ))),
        _ => Err(RegistryError::InvalidTraffic(format!(
            "traffic names {} versions: expected exactly one, with 100 percent",
            traffic.len()
        ))),
    }
}

/// Refuses to delete a version that the newest revision or an alias names.
pub(crate) fn refuse_if_needed(head: &Head, number: VersionNumber) -> Result<(), RegistryError> {
    if head.deployment.as_ref().is_some_and(|revision| revision.names(number)) {
        return Err(RegistryError::Conflict(format!(
            "version {number} is deployed: deploy another one first"
        )));
    }
    let aliases: Vec<&str> = head
        .aliases
        .iter()
        .filter(|(_, version)| **version == number)
        .map(|(alias, _)| alias.as_str())
        .collect();
    if aliases.is_empty() {
        Ok(())
    } else {
        Err(RegistryError::Conflict(format!("version {number} has an alias: {}", aliases.join(", "))))
    }
}

/// Refuses to delete a version that is a step of one of these ensembles.
pub(crate) fn refuse_if_step<'a>(
    model: &ModelName,
    number: VersionNumber,
    ensembles: impl IntoIterator<Item = &'a (ModelName, VersionNumber, Ensemble)>,
) -> Result<(), RegistryError> {
    let users: Vec<String> = ensembles
        .into_iter()
        .filter(|(_, _, ensemble)| ensemble.names(model, number))
        .map(|(user, version, _)| format!("version {version} of model \"{user}\""))
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(RegistryError::Conflict(format!(
        "version {number} of model \"{model}\" is a step of an ensemble: delete {} first",
        users.join(", ")
    )))
}

/// Refuses to restore a revision of which a version was deleted.
pub(crate) fn refuse_if_deleted(head: &Head, target: &Revision) -> Result<(), RegistryError> {
    let deleted: Vec<String> = target
        .traffic
        .iter()
        .filter(|share| !head.versions.contains_key(&share.version))
        .map(|share| share.version.to_string())
        .collect();
    if deleted.is_empty() {
        Ok(())
    } else {
        Err(RegistryError::Conflict(format!(
            "revision {} cannot be restored: it names versions that were deleted ({})",
            target.number,
            deleted.join(", ")
        )))
    }
}
