//! Owns a virtual environment of Python with exactly the packages that a file of requirements names.
//!
//! It must not know what runs in it, nor where pip gets packages from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{environment, steps};

/// The interpreter of the environment in `folder`, which is made anew where the requirements are others than before.
/// None where there is no Python on this machine.
pub fn environment(folder: &Path, requirements: &Path) -> Result<Option<PathBuf>> {
    let wanted = fs::read(requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let interpreter = folder.join("bin").join("python");
    // Written last, so that an environment that was left half-made is not taken for a whole one.
    let installed = folder.join("requirements.txt");
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(Some(interpreter));
    }
    if environment::read(Command::new("python3").arg("--version")).is_err() {
        return Ok(None);
    }
    steps::quiet("make a virtual environment of Python", || {
        environment::read(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))
    })?;
    steps::quiet(&format!("install {} with pip", requirements.display()), || {
        let mut pip = Command::new(&interpreter);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        environment::read(pip.arg(requirements))
    })?;
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(Some(interpreter))
}
