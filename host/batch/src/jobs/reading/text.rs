//! The bytes of a text, a megabyte at a time.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use modelhost_serving::Error;
use object_store::ObjectStoreExt as _;

use super::unreadable;
use crate::datasets::OpenFile;

const CHUNK_BYTES: u64 = 1 << 20;

/// No row of a text is longer: a batch of rows has to fit into memory.
pub(super) const MAX_ROW_BYTES: usize = 64 << 20;

/// These bytes of a file, in order.
pub(super) fn bytes(file: OpenFile, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>> {
    let next = |(file, range): (OpenFile, Range<u64>)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let end = range.end.min(range.start.saturating_add(CHUNK_BYTES));
        let chunk = file.store.get_range(&file.path, range.start..end).await;
        let chunk =
            chunk.map_err(|error| unreadable(&file, &format!("from byte {}", range.start), &error))?;
        Ok(Some((chunk, (file, end..range.end))))
    };
    stream::try_unfold((file, range), next).boxed()
}
