//! What becomes of files that no record names. As a rule an interruption left them, and they are removed. Where the
//! journal was rebuilt, their records may be among what it has lost: then they are set aside, for an operator to look at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use modelhost_registry::{Registry, RegistryError, durable};

use crate::Error;

/// In the data folder, with a numbered folder for each start that set something aside.
const FOLDER: &str = "files-without-records";

/// How files without records are treated at this start.
#[derive(Clone, Debug)]
pub(crate) enum Leftovers {
    Removed,
    SetAside {
        /// The data folder.
        root: PathBuf,
        /// Where they go in it, under the paths that they had.
        to: PathBuf,
    },
}

impl Leftovers {
    /// As the data folder wants it that was opened.
    ///
    /// # Errors
    /// A data folder that cannot be read.
    pub(crate) fn at_start(registry: &Registry) -> Result<Leftovers, Error> {
        if !registry.was_rebuilt() {
            return Ok(Leftovers::Removed);
        }
        let folder = registry.folder(FOLDER)?;
        let root = folder.parent().unwrap_or(&folder).to_owned();
        let free = (1_u64..).map(|number| folder.join(number.to_string())).find(|path| !path.exists());
        let to = free.unwrap_or(folder);
        tracing::warn!(to = %to.display(), "the journal was rebuilt: files that no record names are set aside");
        Ok(Leftovers::SetAside { root, to })
    }

    /// Whether they are kept.
    pub(crate) fn are_set_aside(&self) -> bool {
        matches!(self, Leftovers::SetAside { .. })
    }

    /// Sees to a file or a folder that no record names. Where that fails, it stays, and the log says so.
    pub(crate) fn clear(&self, path: &Path) {
        let (cleared, what) = match self {
            Leftovers::Removed => (remove(path).map_err(Error::from), "removed"),
            Leftovers::SetAside { root, to } => (set_aside(path, root, to).map_err(Error::from), "set aside"),
        };
        match cleared {
            Ok(()) => tracing::info!(path = %path.display(), "{what} what no record names"),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what no record names cannot be {what}");
            }
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn set_aside(path: &Path, root: &Path, to: &Path) -> Result<(), RegistryError> {
    let target = to.join(path.strip_prefix(root).unwrap_or(path));
    let failed = |doing, source| RegistryError::Io { doing, path: path.to_owned(), source };
    if let Some(folder) = target.parent() {
        durable::create_dir(folder)?;
    }
    fs::rename(path, &target).map_err(|error| failed("set aside", error))?;
    target.parent().map_or(Ok(()), durable::sync_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_keeps_its_path() {
        let root = tempfile::tempdir().unwrap();
        let (root, to) = (root.path().to_owned(), root.path().join(FOLDER).join("1"));
        for path in ["datasets/a.csv", "tables/t/1.arrow", "tables/u/1.arrow", "jobs/7/parts/x"] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), path).unwrap();
        }
        let leftovers = Leftovers::SetAside { root: root.clone(), to: to.clone() };
        for path in ["datasets/a.csv", "tables/t/1.arrow", "tables/u", "jobs/7", "datasets/gone.csv"] {
            leftovers.clear(&root.join(path));
            assert!(!root.join(path).exists(), "{path}");
        }
        for path in ["datasets/a.csv", "tables/t/1.arrow", "tables/u/1.arrow", "jobs/7/parts/x"] {
            assert_eq!(fs::read_to_string(to.join(path)).unwrap(), path);
        }
        Leftovers::Removed.clear(&to);
        assert!(!to.exists());
    }
}
