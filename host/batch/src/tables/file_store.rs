//! Where the files of all tables are: one folder for each table, one file for each version. They get there whole or not
//! at all; what no record names is removed at the next start.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use modelhost_core::{TableName, VersionNumber};
use modelhost_registry::{Registry, durable};
use tempfile::TempPath;

use crate::Error;
use crate::leftovers::Leftovers;

/// The folder of all tables in the data folder.
pub(super) const FOLDER: &str = "tables";

/// The versions of each table whose files are kept; none: all of them.
pub(super) type Kept = HashMap<TableName, Option<Vec<VersionNumber>>>;

#[derive(Clone, Debug)]
pub(super) struct FileStore {
    folder: PathBuf,
}

impl FileStore {
    pub(super) fn open(registry: &Registry) -> Result<FileStore, Error> {
        Ok(FileStore { folder: registry.folder(FOLDER)? })
    }

    /// Where the file of a version is.
    pub(super) fn path(&self, table: &TableName, version: VersionNumber) -> PathBuf {
        self.of_table(table).join(file_name(version))
    }

    /// Moves a finished file to its place, durably.
    ///
    /// # Errors
    /// A disk that is full or fails.
    pub(super) fn place(
        &self,
        staged: TempPath,
        table: &TableName,
        version: VersionNumber,
    ) -> Result<(), Error> {
        durable::create_dir(&self.of_table(table))?;
        Ok(durable::place(staged, &self.path(table, version))?)
    }

    /// Removes the file of a version that no record names any more. Those who read it go on; where it stays, the next
    /// start removes it.
    pub(super) fn remove(&self, table: &TableName, version: VersionNumber) {
        let path = self.path(table, version);
        warn_unless_gone(&path, fs::remove_file(&path));
    }

    /// Removes all files of a table that no record names any more.
    pub(super) fn remove_table(&self, table: &TableName) {
        let path = self.of_table(table);
        warn_unless_gone(&path, fs::remove_dir_all(&path));
    }

    /// Clears away every file that belongs to none of these versions. Of a table with none given, all are kept.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(super) fn sweep(&self, kept: &Kept, leftovers: &Leftovers) -> Result<(), Error> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            match name.and_then(|name: TableName| kept.get(&name)) {
                Some(Some(versions)) => sweep_table(&path, versions, leftovers)?,
                Some(None) => {}
                None => leftovers.clear(&path),
            }
        }
        Ok(())
    }

    /// The highest number that a file of a table has.
    pub(super) fn newest(&self, table: &TableName) -> Option<VersionNumber> {
        let entries = fs::read_dir(self.of_table(table)).ok()?;
        let numbers = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(VersionNumber(name.strip_suffix(".arrow")?.parse().ok()?))
        });
        numbers.max()
    }

    fn of_table(&self, table: &TableName) -> PathBuf {
        self.folder.join(table.as_str())
    }
}

fn sweep_table(folder: &Path, versions: &[VersionNumber], leftovers: &Leftovers) -> Result<(), Error> {
    let kept: HashSet<String> = versions.iter().copied().map(file_name).collect();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_none_or(|name| !kept.contains(name)) {
            leftovers.clear(&entry.path());
        }
    }
    Ok(())
}

/// What the file of a version is called in the folder of its table.
pub(super) fn file_name(version: VersionNumber) -> String {
    format!("{version}.arrow")
}

fn warn_unless_gone(path: &Path, removed: std::io::Result<()>) {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "what is left of a table cannot be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_recorded_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore { folder: folder.path().to_owned() };
        let name = |name: &str| -> TableName { name.parse().unwrap() };
        for (table, version) in [("a", 1), ("a", 2), ("b", 1)] {
            let path = store.path(&name(table), VersionNumber(version));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::write(folder.path().join("a/2.arrow.part"), "x").unwrap();
        fs::write(folder.path().join("leftover"), "x").unwrap();
        assert_eq!(store.newest(&name("a")), Some(VersionNumber(2)));
        let kept = [(name("a"), Some(vec![VersionNumber(2)])), (name("c"), Some(vec![])), (name("d"), None)];
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("d/1.arrow"), "x").unwrap();
        store.sweep(&HashMap::from(kept), &Leftovers::Removed).unwrap();
        assert!(folder.path().join("d/1.arrow").exists());
        fs::remove_dir_all(folder.path().join("d")).unwrap();
        let list = |path: &Path| -> Vec<String> {
            fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        assert_eq!(
            (list(folder.path()), list(&folder.path().join("a"))),
            (vec!["a".into()], vec!["2.arrow".into()])
        );
        store.remove(&name("a"), VersionNumber(2));
        store.remove(&name("a"), VersionNumber(2));
        store.remove_table(&name("a"));
        assert!(list(folder.path()).is_empty());
    }
}
