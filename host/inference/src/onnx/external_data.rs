//! Networks whose exporter put the weights into files beside them (`model.onnx.data`): read into one file, which is
//! what travels. For whoever hands a network over; a host never opens a file that a network names.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{ModelProto, TensorProto};

use super::for_each_tensor;

/// A message of protocol buffers cannot be longer, whatever it holds.
const MAX_FILE_BYTES: u64 = i32::MAX as u64;

/// Why a network cannot be read into one file.
#[derive(Debug, thiserror::Error)]
pub enum ExternalDataError {
    /// The network or a file beside it cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A tensor whose file is not within the folder of the network.
    #[error(
        "tensor {tensor:?} keeps its data in {location:?}: expected a file within the folder of the network"
    )]
    Outside {
        /// The tensor.
        tensor: String,
        /// What it says.
        location: String,
    },
    /// Places in a file that it does not have.
    #[error(
        "tensor {tensor:?} takes {length} bytes from byte {offset} of {location:?}, which has {available} bytes"
    )]
    Range {
        /// The tensor.
        tensor: String,
        /// The file.
        location: String,
        /// The first byte.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// The length of the file.
        available: u64,
    },
    /// A value that is no number, or no location.
    #[error("tensor {tensor:?} says {key} {value:?} about its data: expected {expected}")]
    Entry {
        /// The tensor.
        tensor: String,
        /// What is said.
        key: &'static str,
        /// How it is said.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// More than one file may hold.
    #[error("the network has {bytes} bytes with its data: at most {MAX_FILE_BYTES} fit into one ONNX file")]
    TooLarge {
        /// With all data.
        bytes: u64,
    },
}

/// The bytes of a network with all its data. A file without data beside it comes as it is, as does one that is no ONNX
/// file: a host says what is wrong with it.
///
/// # Errors
/// [`ExternalDataError`].
pub fn read_whole(path: &Path) -> Result<Vec<u8>, ExternalDataError> {
    let unreadable = |source| ExternalDataError::Read { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(unreadable)?;
    let Ok(mut model) = ModelProto::decode(bytes.as_slice()) else { return Ok(bytes) };
    let Some(graph) = &mut model.graph else { return Ok(bytes) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder).map_err(unreadable)?;
    let mut source = Source { folder, files: HashMap::new(), total: bytes.len() as u64, is_used: false };
    for_each_tensor(graph, &mut |tensor| source.fill(tensor))?;
    if source.is_used { Ok(model.encode_to_vec()) } else { Ok(bytes) }
}

/// The files beside a network.
struct Source {
    folder: PathBuf,
    files: HashMap<PathBuf, File>,
    /// Bytes of the network, with what was read so far.
    total: u64,
    is_used: bool,
}

impl Source {
    fn fill(&mut self, tensor: &mut TensorProto) -> Result<(), ExternalDataError> {
        if tensor.data_location != Some(DataLocation::External as i32) {
            return Ok(());
        }
        let location = entry(tensor, "location").unwrap_or_default().to_owned();
        let offset = number(tensor, "offset")?;
        let length = number(tensor, "length")?;
        tensor.raw_data = self.read(&tensor.name, &location, offset.unwrap_or(0), length)?;
        tensor.data_location = None;
        tensor.external_data.clear();
        self.is_used = true;
        Ok(())
    }

    fn read(
        &mut self,
        tensor: &str,
        location: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Vec<u8>, ExternalDataError> {
        let path = self.path(tensor, location)?;
        let unreadable = |source| ExternalDataError::Read { path: path.clone(), source };
        let file = match self.files.entry(path.clone()) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(File::open(&path).map_err(unreadable)?)
            }
        };
        let available = file.metadata().map_err(unreadable)?.len();
        let length = length.unwrap_or_else(|| available.saturating_sub(offset));
        if offset.checked_add(length).is_none_or(|end| end > available) {
            let (tensor, location) = (tensor.to_owned(), location.to_owned());
            return Err(ExternalDataError::Range { tensor, location, offset, length, available });
        }
        self.total = self.total.saturating_add(length);
        if self.total > MAX_FILE_BYTES {
            return Err(ExternalDataError::TooLarge { bytes: self.total });
        }
        file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
        let mut data = Vec::new();
        file.take(length).read_to_end(&mut data).map_err(unreadable)?;
        Ok(data)
    }

    /// The file, if it lies within the folder, symbolic links followed.
    fn path(&self, tensor: &str, location: &str) -> Result<PathBuf, ExternalDataError> {
        let outside =
            || ExternalDataError::Outside { tensor: tensor.to_owned(), location: location.to_owned() };
        let is_plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !Path::new(location).components().all(is_plain) {
            return Err(outside());
        }
        let path = self.folder.join(location);
        let real = fs::canonicalize(&path)
            .map_err(|source| ExternalDataError::Read { path: path.clone(), source })?;
        if real.starts_with(&self.folder) && real.is_file() { Ok(real) } else { Err(outside()) }
    }
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

fn number(tensor: &TensorProto, key: &'static str) -> Result<Option<u64>, ExternalDataError> {
    let Some(value) = entry(tensor, key) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| ExternalDataError::Entry {
        tensor: tensor.name.clone(),
        key,
        value: value.to_owned(),
        expected: "a number of bytes",
    })
}
