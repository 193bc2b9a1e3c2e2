//! Which artifacts are needed: a count for each digest, and the removal of files whose count falls to nothing.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use modelhost_core::Digest;
use parking_lot::Mutex;

use crate::data_dir::DataDir;
use crate::durable;
use crate::error::RegistryError;

/// The counts. Files are removed while they are locked, so that nobody begins to need a digest in the midst of it.
#[derive(Debug)]
pub(crate) struct References {
    counts: Mutex<HashMap<Digest, u64>>,
    /// Shared, so that the folder stays locked while a reservation may still remove files from it.
    data: Arc<DataDir>,
}

impl References {
    pub(crate) fn new(data: Arc<DataDir>) -> References {
        References { counts: Mutex::default(), data }
    }

    pub(crate) fn data(&self) -> &DataDir {
        &self.data
    }

    /// Counts each of these once more.
    pub(crate) fn hold(&self, digests: &[Digest]) {
        let mut counts = self.counts.lock();
        for digest in digests {
            *counts.entry(*digest).or_insert(0) += 1;
        }
    }

    /// Counts each of these once less, and removes the files of those that nothing needs any more.
    pub(crate) fn release(&self, digests: &[Digest]) {
        let mut counts = self.counts.lock();
        for digest in digests {
            let Some(count) = counts.get_mut(digest) else { continue };
            *count -= 1;
            if *count == 0 {
                counts.remove(digest);
                self.remove_files(digest);
            }
        }
    }

    pub(crate) fn is_needed(&self, digest: &Digest) -> bool {
        self.counts.lock().contains_key(digest)
    }

    fn remove_files(&self, digest: &Digest) {
        let paths = self.files_of(digest);
        let removed: io::Result<()> =
            paths.and_then(|paths| paths.iter().try_for_each(|path| durable::remove(path)));
        if let Err(error) = removed {
            // The next start sweeps them.
            tracing::warn!(%digest, %error, "files that nothing needs could not be removed");
        }
    }

    /// Where files of this digest may be, of whichever kind.
    fn files_of(&self, digest: &Digest) -> io::Result<Vec<PathBuf>> {
        let hex = digest.hex();
        let mut paths = vec![
            self.data.components().join(format!("{hex}.wasm")),
            self.data.graphs().join(format!("{hex}.onnx")),
            self.data.ensembles().join(format!("{hex}.json")),
        ];
        for settings in self.data.compiled().read_dir()? {
            paths.push(settings?.path().join(format!("{hex}.cwasm")));
        }
        Ok(paths)
    }

    /// Removes every artifact that nothing needs: what a crash left. Files with other names are left alone.
    pub(crate) fn sweep(&self) -> Result<(), RegistryError> {
        for file in artifact_files(&self.data)? {
            if !self.is_needed(&file.digest) {
                tracing::info!(digest = %file.digest, "removed an artifact that no version needs");
                if let Err(error) = durable::remove(&file.path) {
                    tracing::warn!(digest = %file.digest, %error, "an artifact that no version needs could not be removed");
                }
            }
        }
        Ok(())
    }
}

/// A file named by a digest.
pub(crate) struct ArtifactFile {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
}

/// All artifacts on the disk.
pub(crate) fn artifact_files(data: &DataDir) -> Result<Vec<ArtifactFile>, RegistryError> {
    let mut folders =
        vec![(data.components(), ".wasm"), (data.graphs(), ".onnx"), (data.ensembles(), ".json")];
    let compiled = data.compiled();
    for (name, is_dir) in durable::list(&compiled)? {
        if is_dir {
            folders.push((compiled.join(name), ".cwasm"));
        }
    }
    let mut files = Vec::new();
    for (folder, extension) in folders {
        for (name, _) in durable::list(&folder)? {
            let digest = name.strip_suffix(extension).and_then(|hex| format!("sha256:{hex}").parse().ok());
            files.extend(digest.map(|digest| ArtifactFile { path: folder.join(&name), digest }));
        }
    }
    Ok(files)
}

/// Keeps the files of one digest from being removed, until it is dropped.
///
/// Keep those of an upload until [`crate::Registry::add_version`] has returned. Dropping one may remove files:
/// not in async code.
#[derive(Debug)]
#[must_use = "the artifact is removed when its reservation is dropped before a version refers to it"]
pub struct Reservation {
    references: Arc<References>,
    digest: Digest,
}

impl Reservation {
    pub(crate) fn new(references: &Arc<References>, digest: &Digest) -> Reservation {
        references.hold(&[*digest]);
        Reservation { references: Arc::clone(references), digest: *digest }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.references.release(&[self.digest]);
    }
}
