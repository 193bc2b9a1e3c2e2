//! From bytes that arrive, or a URL, to a version: received aside and hashed, looked into, published. Whatever ends
//! early leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use bytes::Bytes;
use modelhost_core::{DatasetName, Digest, ErrorCode, Hasher};
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::async_reader::{AsyncFileReader as _, ParquetObjectReader};
use tempfile::{NamedTempFile, TempPath};
use tokio::io::AsyncWriteExt as _;
use url::Url;

use super::card::DatasetCard;
use super::inspect::{self, Candidate, Contents, Types};
use super::publish::{NewFile, NewVersion, Origin, Published};
use super::schema::DatasetSchema;
use super::version::{DataFormat, FileLocation};
use super::{Datasets, Shared};
use crate::Error;

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
    files: Vec<ReceivedFile>,
    current: Option<FileWriter>,
}

/// A file that arrived.
struct ReceivedFile {
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

    /// Makes a version of objects that stay where they are.
    ///
    /// # Errors
    /// A URL that is not allowed or does not lead to an object, and everything that can be wrong with a dataset.
    pub async fn register(
        self: &Arc<Self>,
        name: DatasetName,
        urls: Vec<Url>,
        options: IntakeOptions,
    ) -> Result<Published, Error> {
        let datasets = self.clone();
        self.work.run(async move { datasets.register_objects(name, urls, options).await }).await
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

    async fn end_file(&mut self) -> Result<(), Error> {
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
        let (files, Contents { schema, rows }) = self.inspect(files, format, &options.types).await?;
        let new = |(file, rows): (&ReceivedFile, u64)| NewFile {
            name: file.name.clone(),
            rows,
            bytes: file.bytes,
            origin: Origin::Local { path: file.path.to_path_buf(), digest: Some(file.digest) },
        };
        let new_files = files.iter().zip(rows).map(new).collect();
        self.commit_version(new_version(name, options, format, schema, new_files)).await
    }

    async fn inspect(
        &self,
        files: Vec<ReceivedFile>,
        format: DataFormat,
        types: &BTreeMap<String, String>,
    ) -> Result<(Vec<ReceivedFile>, Contents), Error> {
        let types = arrow_types(types)?;
        let inspected = self.work.handle().spawn_blocking(move || {
            let candidate = |file: &'_ ReceivedFile| (file.name.clone(), file.path.to_path_buf());
            let named: Vec<_> = files.iter().map(candidate).collect();
            let candidates: Vec<_> = named.iter().map(|(name, path)| Candidate { name, path }).collect();
            inspect::inspect(&candidates, format, &types).map(|contents| (files, contents))
        });
        inspected.await.map_err(unreadable)?.map_err(unprocessable)
    }
}

fn arrow_types(types: &BTreeMap<String, String>) -> Result<Types, Error> {
    let parse = |(name, text): (&String, &String)| match text.parse::<DataType>() {
        Ok(data_type) => Ok((name.clone(), data_type)),
        Err(_) => {
            let message = format!(
                "column {name:?} is to be of type {text:?}: expected an Arrow type such as Int64 or Utf8"
            );
            Err(Error::new(ErrorCode::InvalidArgument, message))
        }
    };
    types.iter().map(parse).collect()
}

fn new_version(
    name: DatasetName,
    options: IntakeOptions,
    format: DataFormat,
    schema: DatasetSchema,
    files: Vec<NewFile>,
) -> NewVersion {
    NewVersion { name, by: options.by, format, schema, card: options.card, lineage: None, files }
}

/// The one format of all files; what is in them is looked at later.
fn format_of_all<'a>(
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
fn shown_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    last.chars().filter(|character| !character.is_control()).take(255).collect()
}

fn unprocessable(problem: inspect::Problem) -> Error {
    Error::new(ErrorCode::Unprocessable, problem.to_string())
}

/// The libraries that read files panic on some that are broken.
fn unreadable(error: tokio::task::JoinError) -> Error {
    tracing::warn!(%error, "a file of a dataset cannot be read");
    Error::new(ErrorCode::Unprocessable, "a file of the dataset is damaged in a way that cannot be described")
}

/// An object that is to be registered.
struct Object {
    url: Url,
    store: Arc<dyn ObjectStore>,
    meta: object_store::ObjectMeta,
}

impl Object {
    fn name(&self) -> String {
        shown_name(self.meta.location.filename().unwrap_or_default())
    }
}

impl Datasets {
    async fn register_objects(
        self: Arc<Self>,
        name: DatasetName,
        urls: Vec<Url>,
        options: IntakeOptions,
    ) -> Result<Published, Error> {
        let limit = self.settings.max_dataset_files;
        if urls.len() > limit {
            return Err(Error::new(ErrorCode::TooLarge, format!("a dataset may have at most {limit} files")));
        }
        let mut objects = Vec::with_capacity(urls.len());
        for url in urls {
            objects.push(self.shared.find(url).await?);
        }
        let names: Vec<String> = objects.iter().map(Object::name).collect();
        let promised = names.iter().map(|name| (name.as_str(), DataFormat::of_name(name)));
        let format = format_of_all(promised, options.format)?;
        let Contents { schema, rows } = match format {
            DataFormat::Parquet if !options.types.is_empty() => {
                let message = "types are for CSV and JSON lines: a Parquet file says its own";
                return Err(Error::new(ErrorCode::InvalidArgument, message));
            }
            DataFormat::Parquet => footers(&objects).await?,
            DataFormat::Csv | DataFormat::Jsonl => {
                self.fetch_and_inspect(&objects, format, &options.types).await?
            }
        };
        let files = objects.into_iter().zip(rows).map(|(object, rows)| {
            let name = object.name();
            let etag = object.meta.e_tag.clone().unwrap_or_default();
            let origin = Origin::Registered(FileLocation::Registered { url: object.url, etag });
            NewFile { name, rows, bytes: object.meta.size, origin }
        });
        let files = files.collect();
        self.commit_version(new_version(name, options, format, schema, files)).await
    }

    /// Text has to be read to the end to know its columns and rows.
    async fn fetch_and_inspect(
        self: &Arc<Self>,
        objects: &[Object],
        format: DataFormat,
        types: &BTreeMap<String, String>,
    ) -> Result<Contents, Error> {
        let mut intake = self.begin_upload(objects.iter().map(|object| object.meta.size).sum())?;
        for object in objects {
            intake.begin_file(&object.name(), None).await?;
            let wrong = |error| failed(&object.url, &error);
            let got = object.store.get(&object.meta.location).await.map_err(wrong)?;
            if got.meta.e_tag != object.meta.e_tag {
                return Err(Error::new(ErrorCode::Conflict, format!("{} is being replaced", object.url)));
            }
            let mut pieces = got.into_stream();
            while let Some(piece) = futures_util::StreamExt::next(&mut pieces).await {
                intake.write(piece.map_err(wrong)?).await?;
            }
        }
        intake.end_file().await?;
        let (_files, contents) = self.inspect(intake.files, format, types).await?;
        Ok(contents)
    }
}

impl Shared {
    async fn find(&self, url: Url) -> Result<Object, Error> {
        let (store, path) = self.remote.open(&url)?;
        let meta = store.head(&path).await.map_err(|error| failed(&url, &error))?;
        if meta.e_tag.is_none() {
            let message = format!("{url} has no entity tag: a change of it would not be noticed");
            return Err(Error::new(ErrorCode::Unprocessable, message));
        }
        Ok(Object { url, store, meta })
    }
}

/// What Parquet files say at their ends; the rest of them is read when it is used.
async fn footers(objects: &[Object]) -> Result<Contents, Error> {
    let mut schema: Option<DatasetSchema> = None;
    let mut rows = Vec::with_capacity(objects.len());
    for object in objects {
        let wrong = |reason: &dyn std::fmt::Display| {
            let message = format!("{} is no whole Parquet file ({reason})", object.url);
            Error::new(ErrorCode::Unprocessable, message)
        };
        let mut reader = ParquetObjectReader::new(object.store.clone(), object.meta.location.clone())
            .with_file_size(object.meta.size);
        let metadata = reader.get_metadata(None).await.map_err(|error| wrong(&error))?;
        let file = metadata.file_metadata();
        let found = parquet::arrow::parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata());
        let found = DatasetSchema::of(&found.map_err(|error| wrong(&error))?);
        rows.push(u64::try_from(file.num_rows()).map_err(|error| wrong(&error))?);
        match &schema {
            None => schema = Some(found),
            Some(first) if *first == found => {}
            Some(_) => {
                let message = format!("{} has other columns than the first object", object.url);
                return Err(Error::new(ErrorCode::Unprocessable, message));
            }
        }
    }
    let schema = schema.unwrap_or(DatasetSchema { columns: Vec::new() });
    Ok(Contents { schema, rows })
}

fn failed(url: &Url, error: &object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => {
            Error::new(ErrorCode::NotFound, format!("{url} does not exist"))
        }
        error => {
            tracing::warn!(%url, %error, "an object cannot be read");
            Error::new(
                ErrorCode::Unprocessable,
                format!("{url} cannot be read: is this host configured for it?"),
            )
        }
    }
}
