//! From bytes that arrive to a version: received aside and hashed, looked into, published. Whatever ends
//! early leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use modelhost_core::{DatasetName, Digest, ErrorCode, Hasher};
use tempfile::{NamedTempFile, TempPath};
use tokio::io::AsyncWriteExt as _;

use super::Datasets;
use super::card::DatasetCard;
use super::inspect::Contents;
use super::inspect::process::{Request, RequestedFile, Task};
use super::publish::{NewFile, NewVersion, Origin, Published};
use super::schema::{DatasetSchema, parse_type};
use super::version::DataFormat;
use crate::Error;

/// Longest type that may be asked for, as Arrow writes it.
const MAX_TYPE_BYTES: usize = 256;

/// What whoever puts a dataset there says about it.
#[derive(Clone, Debug, Default)]
pub struct IntakeOptions {
    /// Who, where that is known.
    pub by: Option<String>,
    /// What may be done with it.
    pub card: DatasetCard,
    /// The format of all files, where their names do not say it.
    pub format: Option<DataFormat>,
    /// Types of columns of CSV and JSON lines, as Arrow writes them, where they are to be others than those that the
    /// values suggest.
    pub types: BTreeMap<String, String>,
}

/// An upload that is being received. Dropping it removes what was received.
pub struct Intake {
    datasets: Arc<Datasets>,
    received: u64,
    pub(super) files: Vec<ReceivedFile>,
    current: Option<FileWriter>,
}

/// A file that arrived.
pub(super) struct ReceivedFile {
    name: String,
    format: Option<DataFormat>,
    path: TempPath,
    digest: Digest,
    bytes: u64,
}

/// A file that is arriving.
struct FileWriter {
    name: String,
    format: Option<DataFormat>,
    file: NamedTempFile,
    writer: tokio::fs::File,
    hasher: Hasher,
    bytes: u64,
}

impl Datasets {
    /// Begins to receive a version. `declared` is how many bytes are known to come.
    ///
    /// # Errors
    /// [`ErrorCode::TooLarge`] where that is over the limit already.
    pub fn begin_upload(self: &Arc<Self>, declared: u64) -> Result<Intake, Error> {
        let intake = Intake { datasets: self.clone(), received: 0, files: Vec::new(), current: None };
        intake.check_size(declared)?;
        Ok(intake)
    }
}

impl Intake {
    /// The next bytes are of a file that is called so. Its media type says its format where its name does not.
    ///
    /// # Errors
    /// [`ErrorCode::TooLarge`] where there are too many files; failures of the disk.
    pub async fn begin_file(&mut self, name: &str, media_type: Option<&str>) -> Result<(), Error> {
        self.end_file().await?;
        let limit = self.datasets.settings.max_dataset_files;
        if self.files.len() >= limit {
            return Err(Error::new(ErrorCode::TooLarge, format!("a dataset may have at most {limit} files")));
        }
        let format = DataFormat::of_name(name).or_else(|| media_type.and_then(DataFormat::of_media_type));
        let file = NamedTempFile::new_in(&self.datasets.shared.staging)?;
        let writer = tokio::fs::File::from_std(file.reopen()?);
        let name = shown_name(name);
        self.current = Some(FileWriter { name, format, file, writer, hasher: Hasher::default(), bytes: 0 });
        Ok(())
    }

    /// Takes the next piece of the file that was begun last.
    ///
    /// # Errors
    /// [`ErrorCode::TooLarge`] over the limit; [`ErrorCode::StorageFull`].
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.received = self.received.saturating_add(piece.len() as u64);
        self.check_size(self.received)?;
        let Some(current) = &mut self.current else {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                "the body holds bytes that belong to no file",
            ));
        };
        current.hasher.update(&piece);
        current.bytes += piece.len() as u64;
        Ok(current.writer.write_all(&piece).await?)
    }

    pub(super) async fn end_file(&mut self) -> Result<(), Error> {
        let Some(FileWriter { name, format, file, mut writer, hasher, bytes }) = self.current.take() else {
            return Ok(());
        };
        writer.flush().await?;
        let path = file.into_temp_path();
        self.files.push(ReceivedFile { name, format, path, digest: hasher.finish(), bytes });
        Ok(())
    }

    /// Makes a version of what was received, of a dataset that need not exist yet. Runs to its end even where the caller
    /// goes away.
    ///
    /// # Errors
    /// Everything that can be wrong with a dataset, in one sentence that names the file and, where there is one, the row.
    pub async fn finish(mut self, name: DatasetName, options: IntakeOptions) -> Result<Published, Error> {
        self.end_file().await?;
        let Intake { datasets, files, .. } = self;
        let work = datasets.work.clone();
        work.run(async move { datasets.make_version(name, files, options).await }).await
    }

    fn check_size(&self, bytes: u64) -> Result<(), Error> {
        let limit = self.datasets.settings.max_dataset_bytes;
        if bytes > limit {
            return Err(Error::new(ErrorCode::TooLarge, format!("a dataset may have at most {limit} bytes")));
        }
        Ok(())
    }
}

impl Datasets {
    async fn make_version(
        &self,
        name: DatasetName,
        files: Vec<ReceivedFile>,
        options: IntakeOptions,
    ) -> Result<Published, Error> {
        let format =
            format_of_all(files.iter().map(|file| (file.name.as_str(), file.format)), options.format)?;
        // The files have second names when they are published, and lose their first ones when these are dropped.
        let Contents { schema, rows } =
            self.inspect(&files, Task::Files(format), options.types.clone()).await?;
        let new = |(file, rows): (&ReceivedFile, u64)| NewFile {
            name: file.name.clone(),
            rows,
            bytes: file.bytes,
            origin: Origin::Local { path: file.path.to_path_buf(), digest: Some(file.digest) },
        };
        let new_files = files.iter().zip(rows).map(new).collect();
        self.commit_version(new_version(name, options, format, schema, new_files)).await
    }

    /// What is in files that arrived.
    pub(super) async fn inspect(
        &self,
        files: &[ReceivedFile],
        task: Task,
        types: BTreeMap<String, String>,
    ) -> Result<Contents, Error> {
        check_types(&types)?;
        let file = |file: &ReceivedFile| {
            // Temporary files have plain names.
            let path = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            RequestedFile { name: file.name.clone(), file: path.to_owned() }
        };
        let files = files.iter().map(file).collect();
        self.inspector.inspect(&Request { task, types, files }).await
    }
}

/// Whether these are types that a column may have.
fn check_types(types: &BTreeMap<String, String>) -> Result<(), Error> {
    for (name, text) in types {
        if text.len() > MAX_TYPE_BYTES || parse_type(text).is_none() {
            let (name, text) = (beginning(name), beginning(text));
            let message = format!(
                "column {name:?} is to be of type {text:?}: expected an Arrow type such as Int64 or Utf8"
            );
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
    }
    Ok(())
}

/// The beginning of a text that may be hostile.
fn beginning(text: &str) -> String {
    text.chars().take(100).collect()
}

pub(super) fn new_version(
    name: DatasetName,
    options: IntakeOptions,
    format: DataFormat,
    schema: DatasetSchema,
    files: Vec<NewFile>,
) -> NewVersion {
    NewVersion { name, by: options.by, format, schema, card: options.card, lineage: None, files }
}

/// The one format of all files; what is in them is looked at later.
pub(super) fn format_of_all<'a>(
    files: impl Iterator<Item = (&'a str, Option<DataFormat>)>,
    asked_for: Option<DataFormat>,
) -> Result<DataFormat, Error> {
    let refuse = |message: String| Err(Error::new(ErrorCode::InvalidArgument, message));
    let mut format = asked_for;
    for (name, promised) in files {
        match (format, asked_for.or(promised)) {
            (_, None) => {
                return refuse(format!(
                    "the format of file {name:?} is not known: expected a name that ends in .parquet, .csv or .jsonl"
                ));
            }
            (None, promised) => format = promised,
            (Some(first), Some(other)) if first != other => {
                return refuse(format!(
                    "file {name:?} is {other}, and the first one is {first}: expected one format"
                ));
            }
            _ => {}
        }
    }
    format.map_or_else(|| refuse("the dataset has no file".to_owned()), Ok)
}

/// A name of a file for people: the last part of its path, within bounds.
pub(super) fn shown_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    last.chars().filter(|character| !character.is_control()).take(255).collect()
}
