//! From the URLs of objects to a version: found, looked into, published. The objects stay where they are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _};
use modelhost_core::{DatasetName, ErrorCode};
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::async_reader::MetadataFetch;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use url::Url;

use super::inspect::Contents;
use super::intake::{IntakeOptions, format_of_all, new_version, shown_name};
use super::publish::{NewFile, Origin, Published};
use super::schema::DatasetSchema;
use super::version::{DataFormat, FileLocation};
use super::{Datasets, Shared};
use crate::Error;

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
            while let Some(piece) = pieces.next().await {
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
        let (found, count) = footer(object).await.map_err(|error| {
            let message = format!("{} is no whole Parquet file ({error})", object.url);
            Error::new(ErrorCode::Unprocessable, message)
        })?;
        rows.push(count);
        if schema.get_or_insert_with(|| found.clone()) != &found {
            let message = format!("{} has other columns than the first object", object.url);
            return Err(Error::new(ErrorCode::Unprocessable, message));
        }
    }
    Ok(Contents { schema: schema.unwrap_or(DatasetSchema { columns: Vec::new() }), rows })
}

/// The columns and the number of rows of a Parquet object.
async fn footer(object: &Object) -> Result<(DatasetSchema, u64), ParquetError> {
    let metadata = ParquetMetaDataReader::new().load_and_finish(object, object.meta.size).await?;
    let file = metadata.file_metadata();
    let schema = parquet::arrow::parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    let rows = u64::try_from(file.num_rows()).map_err(|error| ParquetError::External(error.into()))?;
    Ok((DatasetSchema::of(&schema), rows))
}

impl MetadataFetch for &Object {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        let object: &Object = self;
        let fetch = object.store.get_range(&object.meta.location, range);
        fetch.map_err(|error| ParquetError::External(error.into())).boxed()
    }
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
