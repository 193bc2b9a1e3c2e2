//! From the URLs of objects to a version: found, looked into, published. The objects stay where they are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use modelhost_core::{DatasetName, ErrorCode};
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt as _};
use url::Url;

use super::inspect::Contents;
use super::inspect::parquet::{TAIL_BYTES, footer_length};
use super::inspect::process::Task;
use super::intake::{Intake, IntakeOptions, format_of_all, new_version, shown_name};
use super::publish::{NewFile, Origin, Published};
use super::version::{DataFormat, FileLocation};
use super::{Datasets, Shared};
use crate::Error;

/// Objects that are asked for something at one moment.
const CONCURRENT_REQUESTS: usize = 8;

impl Datasets {
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

/// An object that is to be registered.
struct Object {
    url: Url,
    store: Arc<dyn ObjectStore>,
    meta: object_store::ObjectMeta,
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
        let found = stream::iter(urls).map(|url| self.shared.find(url)).buffered(CONCURRENT_REQUESTS);
        let objects: Vec<Object> = found.try_collect().await?;
        let names: Vec<String> = objects.iter().map(Object::name).collect();
        let promised = names.iter().map(|name| (name.as_str(), DataFormat::of_name(name)));
        let format = format_of_all(promised, options.format)?;
        let contents = match format {
            DataFormat::Parquet if !options.types.is_empty() => {
                let message = "types are for CSV and JSON lines: a Parquet file says its own";
                return Err(Error::new(ErrorCode::InvalidArgument, message));
            }
            DataFormat::Parquet => self.inspect_footers(&objects).await,
            DataFormat::Csv | DataFormat::Jsonl => self.fetch_and_inspect(&objects, format, &options).await,
        };
        let Contents { schema, rows } = contents?;
        let files = objects.into_iter().zip(rows).map(|(object, rows)| {
            let name = object.name();
            let etag = object.meta.e_tag.clone().unwrap_or_default();
            let origin = Origin::InPlace(FileLocation::Registered { url: object.url, etag });
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
        options: &IntakeOptions,
    ) -> Result<Contents, Error> {
        let mut intake = self.begin_upload(objects.iter().map(|object| object.meta.size).sum())?;
        for object in objects {
            intake.begin_file(&object.name(), None).await?;
            let mut pieces = object.get(None).await?.into_stream();
            while let Some(piece) = pieces.next().await {
                intake.write(piece.map_err(|error| failed(&object.url, &error))?).await?;
            }
        }
        self.inspect_received(intake, Task::Files(format), options.types.clone()).await
    }

    /// What Parquet files say at their ends; the rest of them is read when it is used.
    async fn inspect_footers(self: &Arc<Self>, objects: &[Object]) -> Result<Contents, Error> {
        let mut intake = self.begin_upload(0)?;
        let mut footers = stream::iter(objects).map(Object::footer).buffered(CONCURRENT_REQUESTS);
        for object in objects {
            let footer = footers.try_next().await?.unwrap_or_default();
            intake.begin_file(&object.name(), None).await?;
            intake.write(footer).await?;
        }
        self.inspect_received(intake, Task::Footers, BTreeMap::new()).await
    }

    async fn inspect_received(
        &self,
        mut intake: Intake,
        task: Task,
        types: BTreeMap<String, String>,
    ) -> Result<Contents, Error> {
        intake.end_file().await?;
        self.inspect(&intake.files, task, types).await
    }
}

impl Object {
    fn name(&self) -> String {
        shown_name(self.meta.location.filename().unwrap_or_default())
    }

    /// What is there, or in this part of it, as long as it is what it was.
    async fn get(&self, range: Option<Range<u64>>) -> Result<GetResult, Error> {
        let replaced = || Error::new(ErrorCode::Conflict, format!("{} is being replaced", self.url));
        let range = range.map(GetRange::Bounded);
        let options = GetOptions { range, if_match: self.meta.e_tag.clone(), ..GetOptions::default() };
        let got = self.store.get_opts(&self.meta.location, options).await.map_err(|error| match error {
            object_store::Error::Precondition { .. } => replaced(),
            error => failed(&self.url, &error),
        })?;
        // Not every server heeds the precondition.
        if got.meta.e_tag == self.meta.e_tag { Ok(got) } else { Err(replaced()) }
    }

    /// The footer of a Parquet file, without what follows it.
    async fn footer(&self) -> Result<Bytes, Error> {
        let wrong =
            |reason: &str| Error::new(ErrorCode::Unprocessable, format!("file {:?}: {reason}", self.name()));
        let too_short = || wrong("it is no whole Parquet file (it is too short)");
        let end = self.meta.size.checked_sub(TAIL_BYTES as u64).ok_or_else(too_short)?;
        let tail = self.part(end..self.meta.size).await?;
        let tail = tail.as_ref().try_into().map_err(|_| too_short())?;
        let length = footer_length(tail).map_err(|reason| wrong(&reason))?;
        let begin = end.checked_sub(length as u64).ok_or_else(too_short)?;
        if length == 0 { Ok(Bytes::new()) } else { self.part(begin..end).await }
    }

    async fn part(&self, range: Range<u64>) -> Result<Bytes, Error> {
        self.get(Some(range)).await?.bytes().await.map_err(|error| failed(&self.url, &error))
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

/// What an object store answers, whose words are for the operator.
fn failed(url: &Url, error: &object_store::Error) -> Error {
    use object_store::Error as Problem;
    let (code, sentence) = match error {
        Problem::NotFound { .. } => {
            return Error::new(ErrorCode::NotFound, format!("{url} does not exist"));
        }
        Problem::PermissionDenied { .. }
        | Problem::Unauthenticated { .. }
        | Problem::InvalidPath { .. }
        | Problem::UnknownConfigurationKey { .. } => {
            (ErrorCode::Unprocessable, "is this host configured for it?")
        }
        _ => (ErrorCode::Unavailable, "its object store does not answer as it should; try again later"),
    };
    tracing::warn!(%url, %error, "an object cannot be read");
    Error::new(code, format!("{url} cannot be read: {sentence}"))
}
