//! What lies in a data folder, to be compared with what lay there before.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Every file below a folder, by its path relative to it, with its bytes' length. The store that is sled's own is
/// left out: it writes when it likes. The journal, which has every change, is in.
pub fn listing(root: &Path) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    collect(root, root, &mut files);
    files
}

/// The names of the files in one folder, those in folders below it included.
pub fn names(folder: &Path) -> Vec<String> {
    listing(folder).into_keys().map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, u64>) {
    // A folder may vanish while it is being read: what is in it is gone then.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else { continue };
        let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if metadata.is_dir() {
            if relative != "registry" {
                collect(root, &path, files);
            }
        } else {
            files.insert(relative, metadata.len());
        }
    }
}
