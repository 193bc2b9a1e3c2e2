//! `check`: the data folder of a host that is not running, and its repair.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use modelhost_batch::datasets::check_datasets;
use modelhost_batch::tables::check_tables;
use modelhost_registry::Registry;
use serde_json::json;

use crate::config::{Config, ConfigArguments};
use crate::failure::Failure;
use crate::output;

/// What to check, and whether to repair.
#[derive(Debug, Args)]
pub struct Check {
    /// Where the data folder is
    #[command(flatten)]
    config: ConfigArguments,
    /// Make the registry anew from the journal and the manifests; the old one is moved aside
    #[arg(long)]
    rebuild: bool,
}

/// Checks, or repairs and then checks.
///
/// # Errors
/// A folder that cannot be checked, and one in which something is wrong.
pub fn run(arguments: &Check, is_json: bool) -> Result<(), Failure> {
    let config = Config::load(&arguments.config)?.config;
    let folder = &config.data_dir;
    if arguments.rebuild { rebuild(folder, is_json) } else { check(folder, is_json) }
}

fn check(folder: &Path, is_json: bool) -> Result<(), Failure> {
    let mut report = Registry::check(folder).context("the check did not take place")?;
    let datasets = check_datasets(folder, &report.records).context("the datasets cannot be checked")?;
    report.findings.extend(datasets.findings);
    report.notes.extend(datasets.notes);
    let tables = check_tables(folder, &report.records).context("the prediction tables cannot be checked")?;
    report.findings.extend(tables.findings);
    report.notes.extend(tables.notes);
    let is_sound = report.is_sound();
    output::print(&if is_json {
        json!({
            "sound": is_sound,
            "changes": report.changes,
            "models": report.models,
            "versions": report.versions,
            "artifacts": report.artifacts,
            "dataset_versions": datasets.versions,
            "dataset_files": datasets.files,
            "prediction_tables": tables.tables,
            "prediction_table_versions": tables.versions,
            "findings": report.findings,
            "notes": report.notes,
        })
        .to_string()
    } else {
        let counts = format!(
            "{}: {} models, {} versions, {} artifacts, {} dataset versions in {} files, \
             {} versions of {} prediction tables, {} changes in the journal",
            folder.display(),
            report.models,
            report.versions,
            report.artifacts,
            datasets.versions,
            datasets.files,
            tables.versions,
            tables.tables,
            report.changes
        );
        let verdict = if is_sound { "everything is as it should be" } else { "what is wrong:" };
        let notes = report.notes.iter().map(|note| format!("note: {note}; the next start puts it right"));
        let findings = report.findings.iter().map(|finding| format!("- {finding}"));
        lines([counts].into_iter().chain(notes).chain([verdict.to_owned()]).chain(findings))
    })?;
    if is_sound {
        return Ok(());
    }
    let what =
        format!("{} finding(s); `modelhost check --rebuild` makes the registry anew", report.findings.len());
    Err(Failure::Local(anyhow::anyhow!(what)))
}

fn rebuild(folder: &Path, is_json: bool) -> Result<(), Failure> {
    let report = Registry::rebuild(folder).context("the registry could not be rebuilt")?;
    output::print(&if is_json {
        json!({
            "changes": report.changes,
            "models": report.models,
            "versions": report.versions,
            "findings": report.findings,
            "moved_aside": report.moved_aside,
        })
        .to_string()
    } else {
        let counts = format!(
            "the registry is rebuilt: {} models, {} versions, {} changes in the journal",
            report.models, report.versions, report.changes
        );
        let findings = report.findings.iter().map(|finding| format!("- {finding}"));
        let aside = report
            .moved_aside
            .iter()
            .map(|path| format!("moved aside, to be deleted by hand: {}", path.display()));
        lines([counts].into_iter().chain(findings).chain(aside))
    })
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use modelhost_core::{Capabilities, ComponentMetadata, Digest, Signature};
    use modelhost_registry::NewVersion;

    use super::*;

    #[test]
    fn a_fresh_folder_is_sound_and_a_missing_one_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        drop(Registry::open(folder.path()).unwrap());
        check(folder.path(), true).unwrap();
        rebuild(folder.path(), true).unwrap();
        let missing = folder.path().join("missing");
        assert!(check(&missing, true).is_err());
        assert!(!missing.exists());
    }

    #[test]
    fn a_damaged_folder_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"component");
        add_version(&Registry::open(folder.path()).unwrap(), digest);
        check(folder.path(), true).unwrap();
        let component = format!("artifacts/components/{}.wasm", digest.hex());
        std::fs::write(folder.path().join(component), b"something else").unwrap();
        let failure = check(folder.path(), true).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.to_string().contains("check --rebuild"), "{failure}");
    }

    fn add_version(registry: &Registry, digest: Digest) {
        let mut file = registry.artifacts().staging_file().unwrap();
        file.write_all(b"component").unwrap();
        let _reservation = registry.artifacts().store_component(file, &digest).unwrap();
        let version = NewVersion {
            digest,
            size_bytes: 9,
            uploaded_by: None,
            signature: Signature::default(),
            graphs: Vec::new(),
            samples: Vec::new(),
            capabilities: Capabilities::default(),
            metadata: ComponentMetadata::default(),
            compiled_size_bytes: 0,
            ensemble: None,
        };
        registry.add_version(&"m".parse().unwrap(), version).unwrap();
    }
}
