//! The files of all datasets as one object store, as DataFusion wants them: wherever a file lies, it has a path here,
//! and what is read of it is what was recorded, or an error. Read only.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::RwLock;

const NAME: &str = "datasets";

/// Where a file really is, and what it must be.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: Path,
    pub(super) bytes: u64,
    /// None where the file is named by its digest and cannot change.
    pub(super) etag: Option<String>,
}

/// The files that are known here. What knows datasets puts them in.
#[derive(Debug, Default)]
pub(super) struct DatasetStore {
    pins: RwLock<HashMap<Path, Arc<Pin>>>,
}

impl DatasetStore {
    /// Makes a file known under a path of its own.
    pub(super) fn pin(&self, path: Path, pin: Pin) {
        self.pins.write().insert(path, Arc::new(pin));
    }

    /// Forgets files.
    pub(super) fn unpin<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) {
        let mut pins = self.pins.write();
        for path in paths {
            pins.remove(path);
        }
    }

    pub(super) fn is_pinned(&self, path: &Path) -> bool {
        self.pins.read().contains_key(path)
    }

    fn below(&self, prefix: Option<&Path>) -> Vec<ObjectMeta> {
        let pins = self.pins.read();
        let is_below = |path: &Path| prefix.is_none_or(|prefix| path.prefix_matches(prefix));
        let mut found: Vec<ObjectMeta> =
            pins.iter().filter(|(path, _)| is_below(path)).map(|(path, pin)| described(path, pin)).collect();
        found.sort_by(|one, other| one.location.cmp(&other.location));
        found
    }
}

/// A file never changes under its path, so that the time of its last change says nothing.
fn described(path: &Path, pin: &Pin) -> ObjectMeta {
    ObjectMeta {
        location: path.clone(),
        last_modified: Default::default(),
        size: pin.bytes,
        e_tag: pin.etag.clone(),
        version: None,
    }
}

impl fmt::Display for DatasetStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(NAME)
    }
}

#[async_trait]
impl ObjectStore for DatasetStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let pin = self.pins.read().get(location).cloned().ok_or_else(|| unknown(location))?;
        if options.head {
            return Ok(head_of(described(location, &pin)));
        }
        let options = GetOptions { if_match: pin.etag.clone(), ..options };
        let mut result =
            pin.store.get_opts(&pin.path, options).await.map_err(|error| changed_or(error, &pin))?;
        // Not every server heeds the precondition.
        if result.meta.size != pin.bytes || (pin.etag.is_some() && result.meta.e_tag != pin.etag) {
            return Err(changed(&pin));
        }
        result.meta = described(location, &pin);
        Ok(result)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::iter(self.below(prefix).into_iter().map(Ok)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        Ok(ListResult { objects: self.below(prefix), common_prefixes: Vec::new() })
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::once(async { Err(read_only()) }).boxed()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only())
    }
}

fn head_of(meta: ObjectMeta) -> GetResult {
    GetResult {
        range: 0..meta.size,
        payload: GetResultPayload::Stream(stream::empty().boxed()),
        meta,
        attributes: Default::default(),
    }
}

fn changed_or(error: Error, pin: &Pin) -> Error {
    match error {
        Error::Precondition { .. } => changed(pin),
        Error::NotFound { .. } => changed_as(Changed::Gone { path: pin.path.clone() }),
        error => error,
    }
}

/// What is there is not what was recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Changed {
    #[error("the object {path} was replaced since it was registered")]
    Replaced { path: Path },
    #[error("the object {path} does not exist any more")]
    Gone { path: Path },
}

fn changed(pin: &Pin) -> Error {
    changed_as(Changed::Replaced { path: pin.path.clone() })
}

fn changed_as(changed: Changed) -> Error {
    Error::Generic { store: NAME, source: Box::new(changed) }
}

fn unknown(location: &Path) -> Error {
    let source = format!("no file of a dataset is known as {location}").into();
    Error::NotFound { path: location.to_string(), source }
}

fn read_only() -> Error {
    Error::NotSupported { source: "versions of datasets are immutable".into() }
}
