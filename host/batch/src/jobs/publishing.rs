//! The end of a job: its failed rows in one file, and its parts as a version of the output dataset. Done again after a
//! crash, it gives the same version.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use modelhost_core::ErrorCode;
use modelhost_registry::durable;
use modelhost_serving::Error;

use super::execution::parts_folder;
use super::parts::{Part, Parts, PredictionWriter};
use super::planning::Planned;
use super::record::Job;
use crate::datasets::{
    DataFormat, DatasetCard, DatasetReference, DatasetSchema, DatasetVersion, Datasets, Lineage, NewFile,
    NewVersion, Origin,
};

/// The failed rows of a job that has ended, one JSON object a line.
pub(crate) fn failed_file(folder: &Path) -> PathBuf {
    folder.join("failed.jsonl")
}

/// Publishes what a job has done. `earlier` is the version whose rows go before its own.
///
/// # Errors
/// Failures of the disk; then nothing is published, or the next attempt publishes the same.
pub(crate) async fn publish(
    datasets: &Datasets,
    planned: &Planned,
    job: &Job,
    folder: &Path,
    earlier: Option<&DatasetVersion>,
) -> Result<DatasetReference, Error> {
    let parts = Parts::open(parts_folder(folder))?;
    let committed: Vec<Part> = parts.committed()?.into_values().collect();
    gather_failed(&parts, &committed, folder)?;
    let mut files: Vec<NewFile> =
        earlier.iter().flat_map(|earlier| &earlier.files).map(earlier_file).collect();
    for part in &committed {
        files.extend(new_file(&parts, part, job, planned.specification.output.format));
    }
    if files.is_empty() {
        files.push(empty_file(planned, folder)?);
    }
    let schema = DatasetSchema::of(planned.scorer.schema());
    let name = planned.specification.output.dataset.parse();
    let new = NewVersion {
        name: name.map_err(|error: modelhost_core::InvalidName| Error::internal(error))?,
        by: job.by.clone(),
        format: planned.specification.output.format,
        card: card(planned, &schema),
        schema,
        lineage: Some(Lineage {
            input: planned.dataset.reference(),
            model: planned.model.name.clone(),
            model_version: planned.model.version,
            model_digest: planned.model.digest,
            job: job.id.to_string(),
            by: job.by.clone(),
            began: began(job, earlier),
            time: Timestamp::now(),
        }),
        files,
    };
    Ok(datasets.commit_version(new).await?.version.reference())
}

/// Where the rows of an earlier version go before those of this job, they are the oldest.
fn began(job: &Job, earlier: Option<&DatasetVersion>) -> Option<Timestamp> {
    let of_earlier = |earlier: &DatasetVersion| {
        earlier.lineage.as_ref().and_then(|lineage| lineage.began).unwrap_or(earlier.created)
    };
    earlier.map(of_earlier).into_iter().chain(job.started).min()
}

/// What is made of a sensitive column is as sensitive.
fn card(planned: &Planned, schema: &DatasetSchema) -> DatasetCard {
    let source = &planned.dataset.card;
    let mut card = DatasetCard::inherited(&[source], schema);
    let is_sensitive = |name: &String| !planned.query.sources(name).is_disjoint(&source.sensitive_columns);
    let carried: BTreeSet<String> = planned.scorer.carried().filter(is_sensitive).collect();
    card.sensitive_columns.extend(carried);
    card
}

fn earlier_file(file: &crate::datasets::DataFile) -> NewFile {
    NewFile {
        name: file.name.clone(),
        rows: file.rows,
        bytes: file.bytes,
        origin: Origin::InPlace(file.location.clone()),
    }
}

fn new_file(parts: &Parts, part: &Part, job: &Job, format: DataFormat) -> Option<NewFile> {
    let file = part.file.as_ref()?;
    let path = parts.file(part)?;
    let (id, first, extension) = (job.id, part.first_row, format.extension());
    Some(NewFile {
        name: format!("job-{id}-from-row-{first}.{extension}"),
        rows: part.succeeded,
        bytes: file.bytes,
        origin: Origin::Local { path, digest: Some(file.digest) },
    })
}

/// A dataset without rows still has columns.
fn empty_file(planned: &Planned, folder: &Path) -> Result<NewFile, Error> {
    let format = planned.specification.output.format;
    let name = format!("empty.{}", format.extension());
    let path = folder.join(&name);
    let file = PredictionWriter::create(&path, format, planned.scorer.schema())?.finish(name.clone())?;
    let origin = Origin::Local { path, digest: Some(file.digest) };
    Ok(NewFile { name, rows: 0, bytes: file.bytes, origin })
}

fn gather_failed(parts: &Parts, committed: &[Part], folder: &Path) -> Result<(), Error> {
    let files: Vec<PathBuf> = committed.iter().filter_map(|part| parts.failed_file(part)).collect();
    if files.is_empty() {
        return Ok(());
    }
    let mut staged = tempfile::NamedTempFile::new_in(folder)?;
    for path in files {
        io::copy(&mut File::open(path)?, &mut staged)?;
    }
    staged.flush()?;
    Ok(durable::place(staged.into_temp_path(), &failed_file(folder))?)
}

/// Whether rows of this plan can follow those of an earlier version.
///
/// # Errors
/// [`ErrorCode::Conflict`]: the model answers in other columns now.
pub(crate) fn check_same_columns(planned: &Planned, earlier: &DatasetVersion) -> Result<(), Error> {
    if DatasetSchema::of(planned.scorer.schema()) == earlier.schema {
        return Ok(());
    }
    let message = format!(
        "version {} of model {} answers in other columns than {} has: start a new job",
        planned.model.version,
        planned.model.name,
        earlier.reference()
    );
    Err(Error::new(ErrorCode::Conflict, message))
}
