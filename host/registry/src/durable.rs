//! Writing files and folders so that they survive a loss of power: written aside, fsynced, renamed, folder fsynced.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use tempfile::{NamedTempFile, TempPath};

use crate::error::{IoContext as _, RegistryError};

/// Makes a folder, and those above it, for this user only. Nothing happens where it is there already.
///
/// # Errors
/// [`RegistryError::Io`].
pub fn create_dir(path: &Path) -> Result<(), RegistryError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).when("create", path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Makes renames, new files and removals in this folder durable.
///
/// # Errors
/// [`RegistryError::Io`].
pub fn sync_dir(path: &Path) -> Result<(), RegistryError> {
    File::open(path).and_then(|folder| folder.sync_all()).when("sync", path)
}

/// Moves a finished file to its place, over whatever is there.
///
/// # Errors
/// [`RegistryError::Io`]; then the place is as it was, unless it was the folder that could not be synced.
pub fn place(staged: TempPath, target: &Path) -> Result<(), RegistryError> {
    // By path: a compiler may have replaced the file that the temporary handle was opened on.
    File::open(&staged).and_then(|file| file.sync_all()).when("sync", &staged)?;
    staged.persist(target).map_err(|failure| failure.error).when("rename a finished file to", target)?;
    target.parent().map_or(Ok(()), sync_dir)
}

/// Writes a file as a whole or not at all. It is made in `staging`, which is on the disk of `target`.
///
/// # Errors
/// [`RegistryError::Io`].
pub fn write(staging: &Path, bytes: &[u8], target: &Path) -> Result<(), RegistryError> {
    let mut staged = NamedTempFile::new_in(staging).when("create a file in", staging)?;
    staged.write_all(bytes).when("write", staged.path())?;
    place(staged.into_temp_path(), target)
}

/// Removes a file; one that is not there is fine. Not fsynced: a file that comes back is swept at the next start.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The names in a folder that are text, with whether each is a folder. None where the folder is not there.
pub(crate) fn list(path: &Path) -> Result<Vec<(String, bool)>, RegistryError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.when("list", path)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.when("list", path)?;
        let is_dir = entry.file_type().when("list", path)?.is_dir();
        names.extend(entry.file_name().into_string().ok().map(|name| (name, is_dir)));
    }
    names.sort();
    Ok(names)
}
