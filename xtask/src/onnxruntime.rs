//! Owns bringing ONNX Runtime onto this machine: the shared library out of the package `onnxruntime` of Python, into
//! the user's cache folder, where a host finds it.
//!
//! It must not know what the library is used for, nor where Python's tools get packages from.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{cache, environment, steps};

/// The version that the tests are written against. A host takes others too.
pub const VERSION: &str = "1.32.0";

/// Takes the shared library, and the licence with those of what is in it, out of an archive into a folder.
const UNPACK: &str = r#"
import shutil, sys, zipfile
archive, folder = sys.argv[1:]
with zipfile.ZipFile(archive) as wheel:
    for name in wheel.namelist():
        base = name.rsplit("/", 1)[-1]
        is_library = name.startswith("onnxruntime/capi/libonnxruntime.")
        if is_library or base in ("LICENSE", "ThirdPartyNotices.txt"):
            with wheel.open(name) as source, open(f"{folder}/{base}", "wb") as target:
                shutil.copyfileobj(source, target)
"#;

/// The command `onnxruntime`.
pub fn run() -> Result<()> {
    let library = install()?;
    steps::note(&format!("ONNX Runtime {VERSION}: {}", library.display()));
    steps::note("a host that starts now finds it; `modelhost engines` shows it");
    Ok(())
}

/// The library, installed if it is not there yet.
pub fn install() -> Result<PathBuf> {
    let folder = cache::folder("onnxruntime")?.join(VERSION);
    if let Some(library) = library_in(&folder) {
        return Ok(library);
    }
    let pip = Pip::find()?;
    let parent = folder.parent().context("the cache folder has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    // Beside its place, so that it can be renamed into it.
    let aside = tempfile::tempdir_in(parent).context("cannot create a folder in the cache")?;
    let archive =
        steps::quiet(&format!("download ONNX Runtime {VERSION} with pip"), || pip.download(aside.path()))?;
    let unpacked = aside.path().join("unpacked");
    fs::create_dir(&unpacked).context("cannot create a folder in the cache")?;
    steps::quiet("unpack its shared library", || pip.unpack(&archive, &unpacked))?;
    ensure!(library_in(&unpacked).is_some(), "the package onnxruntime {VERSION} has no shared library in it");
    if let Err(error) = fs::rename(&unpacked, &folder) {
        // Another run may have come first, with the same files.
        ensure!(library_in(&folder).is_some(), "cannot move the library to {}: {error}", folder.display());
    }
    library_in(&folder).with_context(|| format!("no library in {}", folder.display()))
}

fn library_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let is_library = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime."))
    };
    entries.filter(is_library).min()
}

/// A Python that has pip.
struct Pip {
    python: &'static str,
}

impl Pip {
    fn find() -> Result<Pip> {
        let has_pip =
            |python: &&str| environment::read(Command::new(python).args(["-m", "pip", "--version"])).is_ok();
        let python = ["python3", "python"].into_iter().find(has_pip);
        let python = python.context(
            "python3 with pip is needed to install ONNX Runtime: install it, or name a library of your own in inference.onnxruntime",
        )?;
        Ok(Pip { python })
    }

    fn download(&self, folder: &Path) -> Result<PathBuf> {
        let package = format!("onnxruntime=={VERSION}");
        let options =
            ["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"];
        let mut command = Command::new(self.python);
        environment::read(command.args(options).arg("--dest").arg(folder).arg(package))?;
        let entries = fs::read_dir(folder).context("cannot read the cache folder")?.flatten();
        let archive =
            entries.map(|entry| entry.path()).find(|path| path.extension() == Some(&OsString::from("whl")));
        match archive {
            Some(archive) => Ok(archive),
            None => bail!("pip left no package onnxruntime {VERSION} for this platform"),
        }
    }

    fn unpack(&self, archive: &Path, folder: &Path) -> Result<()> {
        environment::read(Command::new(self.python).args(["-c", UNPACK]).arg(archive).arg(folder)).map(drop)
    }
}
