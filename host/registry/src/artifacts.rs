//! The files that versions are made of: where they are, and how they get there whole.
//!
//! It trusts that a file's bytes have the digest that the caller computed while it wrote them;
//! `modelhost check` computes them again.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use modelhost_core::{Digest, Ensemble};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::data_dir::DataDir;
use crate::durable;
use crate::error::{IoContext as _, RegistryError};
use crate::model::Version;
use crate::references::{References, Reservation};
use crate::sealed;

/// The artifacts of a data folder.
#[derive(Debug)]
pub struct Artifacts {
    references: Arc<References>,
}

impl Artifacts {
    pub(crate) fn new(data: Arc<DataDir>) -> Artifacts {
        Artifacts { references: Arc::new(References::new(data)) }
    }

    pub(crate) fn references(&self) -> &References {
        &self.references
    }

    fn data(&self) -> &DataDir {
        self.references.data()
    }

    /// A new file to write an artifact to before it is stored. It vanishes when it is dropped, and at the next start.
    ///
    /// # Errors
    /// [`RegistryError::Io`] where it cannot be made.
    pub fn staging_file(&self) -> Result<NamedTempFile, RegistryError> {
        let staging = self.data().staging();
        NamedTempFile::new_in(&staging).when("create a file in", &staging)
    }

    /// Moves a finished component to its place, durably. Harmless where it is there already.
    ///
    /// # Errors
    /// [`RegistryError::Io`]; then nothing was stored.
    pub fn store_component(
        &self,
        staged: NamedTempFile,
        digest: &Digest,
    ) -> Result<Reservation, RegistryError> {
        self.store(staged, digest, self.component_path(digest))
    }

    /// Writes a graph to its place, durably. Harmless where it is there already.
    ///
    /// # Errors
    /// [`RegistryError::Io`]; then nothing was stored.
    pub fn store_graph(&self, bytes: &[u8], digest: &Digest) -> Result<Reservation, RegistryError> {
        let reservation = Reservation::new(&self.references, digest);
        durable::write(&self.data().staging(), bytes, &self.graph_path(digest))?;
        Ok(reservation)
    }

    /// Writes the file of an ensemble to its place, durably. Harmless where it is there already.
    ///
    /// # Errors
    /// [`RegistryError::Io`]; then nothing was stored.
    pub fn store_ensemble(&self, file: &[u8]) -> Result<Reservation, RegistryError> {
        let digest = Digest::of(file);
        let reservation = Reservation::new(&self.references, &digest);
        durable::write(&self.data().staging(), file, &ensemble_path(self.data(), &digest))?;
        Ok(reservation)
    }

    /// Moves machine code, made of the component with this digest, to its place, durably, over what is there.
    ///
    /// `settings_key` names the engine and its settings; it becomes a folder's name.
    ///
    /// # Errors
    /// [`RegistryError::Io`]; then nothing was stored. [`RegistryError::Misuse`] for a key that is no plain name.
    pub fn store_compiled(
        &self,
        settings_key: &str,
        component: &Digest,
        staged: NamedTempFile,
    ) -> Result<Reservation, RegistryError> {
        if !is_plain(settings_key) {
            return Err(RegistryError::Misuse(format!("settings key {settings_key:?} is no plain name")));
        }
        durable::create_dir(&self.data().compiled().join(settings_key))?;
        fs::set_permissions(staged.path(), Permissions::from_mode(0o600)).when("protect", staged.path())?;
        self.store(staged, component, self.compiled_path(settings_key, component))
    }

    /// Keeps the files of a digest from being removed, if there are any.
    pub fn reserve(&self, digest: &Digest) -> Option<Reservation> {
        let reservation = Reservation::new(&self.references, digest);
        let paths =
            [self.component_path(digest), self.graph_path(digest), ensemble_path(self.data(), digest)];
        paths.iter().any(|path| path.exists()).then_some(reservation)
    }

    fn store(
        &self,
        staged: NamedTempFile,
        digest: &Digest,
        path: PathBuf,
    ) -> Result<Reservation, RegistryError> {
        // Before the rename: a file at its place that nothing counts may be removed at any time.
        let reservation = Reservation::new(&self.references, digest);
        durable::place(staged.into_temp_path(), &path)?;
        Ok(reservation)
    }

    /// Where the component with this digest is, if it is stored.
    pub fn component_path(&self, digest: &Digest) -> PathBuf {
        component_path(self.data(), digest)
    }

    /// Where the graph with this digest is, if it is stored.
    pub fn graph_path(&self, digest: &Digest) -> PathBuf {
        graph_path(self.data(), digest)
    }

    /// Where the machine code of the component with this digest is, if it was compiled under these settings.
    pub fn compiled_path(&self, settings_key: &str, component: &Digest) -> PathBuf {
        self.data().compiled().join(settings_key).join(format!("{}.cwasm", component.hex()))
    }
}

/// What an ensemble is as a file, of which its version has the digest: the same steps of the same versions give the same.
pub fn ensemble_file(description: Option<&str>, ensemble: &Ensemble) -> Vec<u8> {
    #[derive(Serialize)]
    struct EnsembleFile<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        ensemble: &'a Ensemble,
    }
    sealed::to_json(&EnsembleFile { description, ensemble })
}

/// Where the file of a version is that has its digest.
pub(crate) fn version_path(data: &DataDir, version: &Version) -> PathBuf {
    let path = if version.ensemble.is_some() { ensemble_path } else { component_path };
    path(data, &version.digest)
}

fn ensemble_path(data: &DataDir, digest: &Digest) -> PathBuf {
    data.ensembles().join(format!("{}.json", digest.hex()))
}

pub(crate) fn component_path(data: &DataDir, digest: &Digest) -> PathBuf {
    data.components().join(format!("{}.wasm", digest.hex()))
}

pub(crate) fn graph_path(data: &DataDir, digest: &Digest) -> PathBuf {
    data.graphs().join(format!("{}.onnx", digest.hex()))
}

fn is_plain(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::TempDir;

    use super::*;

    fn artifacts(folder: &TempDir) -> Artifacts {
        Artifacts::new(Arc::new(DataDir::open(folder.path()).unwrap()))
    }

    fn staged(artifacts: &Artifacts, bytes: &[u8]) -> NamedTempFile {
        let mut file = artifacts.staging_file().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn an_artifact_stays_as_long_as_anything_needs_it() {
        let folder = TempDir::new().unwrap();
        let artifacts = artifacts(&folder);
        let digest = Digest::of(b"component");
        let first = artifacts.store_component(staged(&artifacts, b"component"), &digest).unwrap();
        let second = artifacts.store_component(staged(&artifacts, b"component"), &digest).unwrap();
        drop(first);
        assert_eq!(fs::read(artifacts.component_path(&digest)).unwrap(), b"component");
        artifacts.references().hold(&[digest]);
        drop(second);
        assert!(artifacts.component_path(&digest).exists());
        artifacts.references().release(&[digest]);
        assert!(!artifacts.component_path(&digest).exists());
        assert_eq!(artifacts.data().staging().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn compiled_code_is_private_replaced_and_goes_with_its_component() {
        let folder = TempDir::new().unwrap();
        let artifacts = artifacts(&folder);
        let digest = Digest::of(b"component");
        let component = artifacts.store_component(staged(&artifacts, b"component"), &digest).unwrap();
        for code in [b"old", b"new"] {
            let file = staged(&artifacts, code);
            fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
            drop(artifacts.store_compiled("wasmtime-48", &digest, file).unwrap());
        }
        let path = artifacts.compiled_path("wasmtime-48", &digest);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(component);
        assert!(!path.exists());
    }

    #[test]
    fn a_settings_key_stays_in_its_folder() {
        let folder = TempDir::new().unwrap();
        let artifacts = artifacts(&folder);
        for key in ["", ".", "..", "a/b", "../x", "-", "a b", &"x".repeat(129)] {
            let stored = artifacts.store_compiled(key, &Digest::of(b"c"), staged(&artifacts, b"c"));
            assert!(matches!(stored, Err(RegistryError::Misuse(_))), "{key:?}");
        }
    }

    #[test]
    fn racing_uploads_and_deletions_never_lose_a_reserved_file() {
        let folder = TempDir::new().unwrap();
        let artifacts = artifacts(&folder);
        let digest = Digest::of(b"graph");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let reservation = artifacts.store_graph(b"graph", &digest).unwrap();
                        assert_eq!(fs::read(artifacts.graph_path(&digest)).unwrap(), b"graph");
                        drop(reservation);
                    }
                });
            }
        });
        assert!(!artifacts.graph_path(&digest).exists());
    }
}
