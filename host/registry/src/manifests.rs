//! Manifests: the full record of each version as a sealed file of its own, beside the artifacts it names.

use std::fs;
use std::path::PathBuf;

use modelhost_core::{ModelName, VersionNumber};
use serde::{Deserialize, Serialize};

use crate::data_dir::DataDir;
use crate::durable;
use crate::error::{IoContext as _, RegistryError};
use crate::model::Version;
use crate::sealed;

/// The newest form that this host reads. Form 2 knows ensembles; others are written in form 1.
const FORMAT: u64 = 2;

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u64,
    pub(crate) model: ModelName,
    pub(crate) version: Version,
}

/// Writes the manifest of a version, whole or not at all, over one that an interrupted upload left.
pub(crate) fn write(data: &DataDir, model: &ModelName, version: &Version) -> Result<(), RegistryError> {
    let path = path(data, model, version.number);
    path.parent().map_or(Ok(()), durable::create_dir)?;
    let format = if version.ensemble.is_some() { FORMAT } else { 1 };
    let manifest = Manifest { format, model: model.clone(), version: version.clone() };
    durable::write(&data.staging(), &sealed::seal(&manifest), &path)
}

/// Removes the manifest of a version that is no more. A failure is logged; the next start tries again.
pub(crate) fn remove(data: &DataDir, model: &ModelName, number: VersionNumber) {
    let path = path(data, model, number);
    if let Err(error) = durable::remove(&path) {
        tracing::warn!(%model, version = %number, %error, "the manifest of a deleted version could not be removed");
    }
    // Fails, as it should, while there are others.
    let _ = path.parent().map(fs::remove_dir);
}

/// All versions that have a manifest, in the order of models and numbers. Files with other names are left alone.
pub(crate) fn list(data: &DataDir) -> Result<Vec<(ModelName, VersionNumber)>, RegistryError> {
    let mut found = Vec::new();
    for (folder, is_dir) in durable::list(&data.manifests())? {
        let Ok(model) = folder.parse::<ModelName>() else { continue };
        if is_dir {
            let names = durable::list(&data.manifests().join(&folder))?;
            let numbers = names.iter().filter_map(|(name, _)| name.strip_suffix(".json")?.parse().ok());
            found.extend(numbers.map(|number| (model.clone(), VersionNumber(number))));
        }
    }
    found.sort();
    Ok(found)
}

/// The manifest of a version; none where it is missing, damaged, or another version's.
pub(crate) fn read(
    data: &DataDir,
    model: &ModelName,
    number: VersionNumber,
) -> Result<Option<Manifest>, RegistryError> {
    let path = path(data, model, number);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(&path).when("read", &path)?;
    let manifest = bytes
        .strip_suffix(b"\n")
        .filter(|line| sealed::is_intact(line))
        .and_then(|line| serde_json::from_slice::<Manifest>(line).ok());
    Ok(manifest.filter(|manifest| {
        (1..=FORMAT).contains(&manifest.format)
            && manifest.model == *model
            && manifest.version.number == number
    }))
}

pub(crate) fn path(data: &DataDir, model: &ModelName, number: VersionNumber) -> PathBuf {
    data.manifests().join(model.as_str()).join(format!("{number}.json"))
}
