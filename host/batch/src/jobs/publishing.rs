//! The end of a job: its failed rows in one file, and its parts as a version of the output dataset. Done again after a
//! crash, it gives the same version.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use jiff::Timestamp;
use modelhost_core::ErrorCode;
use modelhost_registry::durable;
use modelhost_serving::Error;
use tokio_util::sync::CancellationToken;

use super::execution::parts_folder;
use super::parts::{Part, Parts, PredictionWriter};
use super::planning::{Planned, Planner};
use super::record::{Job, JobId};
use crate::datasets::{
    DataFile, DataFormat, DatasetCard, DatasetReference, DatasetSchema, DatasetVersion, Lineage, NewFile,
    NewVersion, Origin,
};

/// Files with failed rows that are opened at one moment for one who reads them.
const MOST_OPEN: usize = 64;

/// The failed rows of a job that has ended, one JSON object a line.
pub(crate) fn failed_file(folder: &Path) -> PathBuf {
    folder.join("failed.jsonl")
}

/// Publishes what a job has done, unless it is told to stop before: none. `earlier` is the version whose rows go before
/// its own.
///
/// # Errors
/// Failures of the disk; then nothing is published, or the next attempt publishes the same.
pub(crate) async fn publish(
    planner: &Planner,
    planned: &Planned,
    job: &Job,
    folder: PathBuf,
    earlier: Option<DatasetVersion>,
    stop: &CancellationToken,
) -> Result<Option<DatasetReference>, Error> {
    let mut files: Vec<NewFile> =
        earlier.iter().flat_map(|earlier| &earlier.files).map(earlier_file).collect();
    let gathering = Gathering {
        job: job.id,
        folder,
        format: planned.specification.output.format,
        schema: planned.scorer.schema().clone(),
        may_be_none: !files.is_empty(),
    };
    files.extend(tokio::task::spawn_blocking(move || gathering.files()).await??);
    check_files(files.len(), planner.settings.max_dataset_files)?;
    if stop.is_cancelled() {
        return Ok(None);
    }
    let new = new_version(planned, job, files, earlier.as_ref())?;
    Ok(Some(planner.datasets.commit_version(new).await?.version.reference()))
}

/// Whether an output may have so many files.
///
/// # Errors
/// [`ErrorCode::Unprocessable`], with the setting that says how many.
pub(crate) fn check_files(files: usize, most: usize) -> Result<(), Error> {
    if files <= most {
        return Ok(());
    }
    let message =
        format!("the output would have {files} files or more: batch.max_dataset_files allows {most}");
    Err(Error::new(ErrorCode::Unprocessable, message))
}

fn new_version(
    planned: &Planned,
    job: &Job,
    files: Vec<NewFile>,
    earlier: Option<&DatasetVersion>,
) -> Result<NewVersion, Error> {
    let schema = DatasetSchema::of(planned.scorer.schema());
    let name = planned.specification.output.dataset.parse();
    Ok(NewVersion {
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
    })
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

fn earlier_file(file: &DataFile) -> NewFile {
    NewFile {
        name: file.name.clone(),
        rows: file.rows,
        bytes: file.bytes,
        origin: Origin::InPlace(file.location.clone()),
    }
}

/// From the parts of a job to the files of a version, and one file of failed rows. Blocks.
struct Gathering {
    job: JobId,
    folder: PathBuf,
    format: DataFormat,
    schema: SchemaRef,
    /// Whether there are files without these.
    may_be_none: bool,
}

impl Gathering {
    fn files(&self) -> Result<Vec<NewFile>, Error> {
        let parts = Parts::open(parts_folder(&self.folder))?;
        let committed: Vec<Part> = parts.committed()?.into_values().collect();
        gather_failed(&parts, &committed, &self.folder)?;
        let mut files: Vec<NewFile> =
            committed.iter().filter_map(|part| self.new_file(&parts, part)).collect();
        if files.is_empty() && !self.may_be_none {
            files.push(self.empty_file()?);
        }
        Ok(files)
    }

    fn new_file(&self, parts: &Parts, part: &Part) -> Option<NewFile> {
        let file = part.file.as_ref()?;
        let path = parts.file(part)?;
        let (id, first, extension) = (self.job, part.first_row, self.format.extension());
        Some(NewFile {
            name: format!("job-{id}-from-row-{first}.{extension}"),
            rows: part.succeeded,
            bytes: file.bytes,
            origin: Origin::Local { path, digest: Some(file.digest) },
        })
    }

    /// A dataset without rows still has columns.
    fn empty_file(&self) -> Result<NewFile, Error> {
        let name = format!("empty.{}", self.format.extension());
        let path = self.folder.join(&name);
        let file = PredictionWriter::create(&path, self.format, &self.schema)?.finish(name.clone())?;
        let origin = Origin::Local { path, digest: Some(file.digest) };
        Ok(NewFile { name, rows: 0, bytes: file.bytes, origin })
    }
}

fn gather_failed(parts: &Parts, committed: &[Part], folder: &Path) -> Result<(), Error> {
    let files: Vec<PathBuf> = committed.iter().filter_map(|part| parts.failed_file(part)).collect();
    if files.is_empty() {
        return Ok(());
    }
    let mut staged = tempfile::NamedTempFile::new_in(folder)?;
    append_all(&files, staged.as_file_mut())?;
    Ok(durable::place(staged.into_temp_path(), &failed_file(folder))?)
}

fn append_all(files: &[PathBuf], to: &mut File) -> io::Result<()> {
    for path in files {
        io::copy(&mut File::open(path)?, to)?;
    }
    to.flush()
}

/// Opens the failed rows that a job has committed so far, in the order of the rows. The job may be at work. Blocks.
///
/// # Errors
/// Failures of the disk; files that are not there any more, where the job has ended just now.
pub(crate) fn open_failed(folder: &Path, is_over: bool) -> Result<Vec<File>, Error> {
    let whole = failed_file(folder);
    if is_over || !parts_folder(folder).exists() {
        return Ok(if whole.exists() { vec![File::open(whole)?] } else { Vec::new() });
    }
    // Nothing is opened for writing here.
    let parts = Parts::at(parts_folder(folder));
    let committed = parts.committed()?;
    let files: Vec<PathBuf> = committed.values().filter_map(|part| parts.failed_file(part)).collect();
    if files.len() <= MOST_OPEN {
        return files.iter().map(|path| Ok(File::open(path)?)).collect();
    }
    // One without a name, which is gone when it is closed.
    let mut all = tempfile::tempfile_in(folder)?;
    append_all(&files, &mut all)?;
    all.rewind()?;
    Ok(vec![all])
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
