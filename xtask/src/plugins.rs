//! Owns building guest crates into components and where these files lie.
//!
//! Components are built in a target folder of their own, because their compiler may not be the
//! host's and must not invalidate the host's build. It must not know what a plugin does.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::guest_target::{self, GuestToolchain, TARGET};
use crate::workspace::{GuestCrate, Workspace};
use crate::{environment, steps};

/// The host keeps line tables for its backtraces; in a component they would be most of what is uploaded.
const WITHOUT_DEBUG_INFORMATION: [&str; 2] = ["profile.release.debug=false", "profile.release.strip=true"];

/// The command `plugins`.
pub fn run(workspace: &Workspace) -> Result<()> {
    let toolchain = guest_target::ensure(workspace)?;
    for component in build(workspace, &toolchain)? {
        println!("{}", component.display());
    }
    Ok(())
}

/// Builds `plugins/*`.
pub fn build(workspace: &Workspace, toolchain: &GuestToolchain) -> Result<Vec<PathBuf>> {
    build_folder(workspace, toolchain, "plugins", &folder(workspace))
}

/// Builds `tests/plugins/*`, the plugins that misbehave on purpose.
pub fn build_fixtures(workspace: &Workspace, toolchain: &GuestToolchain) -> Result<Vec<PathBuf>> {
    build_folder(workspace, toolchain, "tests/plugins", &fixtures_folder(workspace))
}

/// Where the components of `plugins/*` lie.
pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("plugins")
}

/// Where the components of `tests/plugins/*` lie.
pub fn fixtures_folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("test-plugins")
}

fn build_folder(
    workspace: &Workspace,
    toolchain: &GuestToolchain,
    sources: &str,
    destination: &Path,
) -> Result<Vec<PathBuf>> {
    let crates = workspace.guest_crates(sources)?;
    fs::create_dir_all(destination).with_context(|| format!("cannot create {}", destination.display()))?;
    remove_others(destination, &crates)?;
    if crates.is_empty() {
        steps::note(&format!("no crate of the workspace lies in {sources}/"));
        return Ok(Vec::new());
    }
    steps::loud(&format!("components of {sources}/ ({})", crates.len()), || {
        compile(workspace, toolchain, &crates)?;
        crates.iter().map(|guest| place(workspace, guest, destination)).collect()
    })
}

fn compile(workspace: &Workspace, toolchain: &GuestToolchain, crates: &[GuestCrate]) -> Result<()> {
    start_over_for(workspace, toolchain)?;
    let mut cargo = environment::guest_cargo(&workspace.root);
    toolchain.apply(&mut cargo);
    cargo.args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(build_folder_of(workspace));
    for setting in WITHOUT_DEBUG_INFORMATION {
        cargo.args(["--config", setting]);
    }
    for guest in crates {
        cargo.args(["--package", &guest.package]);
    }
    environment::run(&mut cargo)
}

/// Empties the target folder when it was filled with another standard library: Cargo only looks at
/// the compiler's version, and would link what does not fit.
fn start_over_for(workspace: &Workspace, toolchain: &GuestToolchain) -> Result<()> {
    let folder = build_folder_of(workspace);
    let stamp = folder.join("standard-library");
    if fs::read_to_string(&stamp).is_ok_and(|present| present == toolchain.identity()) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(&stamp, toolchain.identity()).with_context(|| format!("cannot write {}", stamp.display()))
}

fn build_folder_of(workspace: &Workspace) -> PathBuf {
    workspace.target.join("guest")
}

/// Copies a component to its place when its bytes changed, so that nothing downstream is rebuilt
/// for nothing and no reader sees half a file.
fn place(workspace: &Workspace, guest: &GuestCrate, destination: &Path) -> Result<PathBuf> {
    let built = build_folder_of(workspace).join(TARGET).join("release").join(&guest.artifact);
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let placed = destination.join(format!("{}.wasm", guest.name));
    if fs::read(&placed).is_ok_and(|present| present == bytes) {
        return Ok(placed);
    }
    let aside = destination.join(format!(".{}.{}", guest.name, std::process::id()));
    fs::write(&aside, &bytes).with_context(|| format!("cannot write {}", aside.display()))?;
    fs::rename(&aside, &placed).with_context(|| format!("cannot write {}", placed.display()))?;
    Ok(placed)
}

/// Removes components whose crate is gone.
fn remove_others(destination: &Path, crates: &[GuestCrate]) -> Result<()> {
    for entry in
        fs::read_dir(destination).with_context(|| format!("cannot list {}", destination.display()))?
    {
        let path = entry.context("cannot list components")?.path();
        let is_component = path.extension().is_some_and(|extension| extension == "wasm");
        let is_known =
            crates.iter().any(|guest| path.file_stem().is_some_and(|stem| stem == guest.name.as_str()));
        if !is_component || is_known {
            continue;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
