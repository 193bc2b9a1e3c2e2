//! Makes sure that the standard library of the guests' target is there, and says which compiler
//! has it.
//!
//! Owns the order of the ways to get it: what is there already, rustup, Debian's packages. It must
//! not know what is built with it.

mod apt;
mod debian;
mod rustup;

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::workspace::Workspace;
use crate::{cache, environment, steps};

/// What guests are compiled for; its linker emits components.
pub const TARGET: &str = "wasm32-wasip2";

/// The compiler for guests.
#[derive(Debug, Default)]
pub struct GuestToolchain {
    /// The checkout's own compiler when absent.
    rustc: Option<PathBuf>,
    /// Where that compiler finds its shared libraries.
    libraries: Vec<PathBuf>,
    /// Tells one build of its standard library from another, which Cargo cannot.
    identity: String,
}

impl GuestToolchain {
    /// Makes a Cargo command compile with it.
    pub fn apply(&self, cargo: &mut Command) {
        let Some(rustc) = &self.rustc else { return };
        cargo.env("RUSTC", rustc);
        self.apply_libraries(cargo);
    }

    /// Makes programs of this toolchain find their libraries, before any that the caller's has.
    fn apply_libraries(&self, command: &mut Command) {
        let present = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let present = env::split_paths(&present).filter(|path| !path.as_os_str().is_empty());
        let joined = env::join_paths(self.libraries.iter().cloned().chain(present));
        // A path with a colon in it cannot be listed; the compiler then says what it misses.
        command.env("LD_LIBRARY_PATH", joined.unwrap_or_default());
    }
}

/// Finds the target's standard library, or gets it in the first way that works.
pub fn ensure(workspace: &Workspace) -> Result<GuestToolchain> {
    if let Some(toolchain) = present(&workspace.root)? {
        steps::note(&format!("{TARGET} is there{}", toolchain.origin()));
        return Ok(toolchain);
    }
    let cache = cache::folder("guest-target")?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let _lock = lock(&cache.join("lock"))?;
    // Another run may have finished while this one waited.
    if let Some(toolchain) = present(&workspace.root)? {
        return Ok(toolchain);
    }
    obtain(workspace, &cache)
}

impl GuestToolchain {
    /// What is compiled with one standard library cannot be linked with another.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    fn origin(&self) -> String {
        self.rustc.as_ref().map(|rustc| format!(" ({})", rustc.display())).unwrap_or_default()
    }
}

/// What needs no network: the checkout's toolchain, or one that was made earlier.
fn present(root: &Path) -> Result<Option<GuestToolchain>> {
    if rustup::has_target(root)? {
        return Ok(Some(GuestToolchain::default()));
    }
    debian::finished(&cache::folder("guest-target")?)
}

fn obtain(workspace: &Workspace, cache: &Path) -> Result<GuestToolchain> {
    let by_rustup =
        match steps::quiet(&format!("rustup target add {TARGET}"), || rustup::add_target(&workspace.root)) {
            Ok(()) => return Ok(GuestToolchain::default()),
            Err(error) => error,
        };
    steps::note(&format!("{by_rustup:#}"));
    debian::build(workspace, cache).map_err(|by_debian| {
        anyhow!(
            "no standard library for {TARGET}, and no way to get one:\n  \
             rustup: {by_rustup:#}\n  Debian's packages: {by_debian:#}"
        )
    })
}

/// Waits for any other run that is at it. The lock goes when the file is dropped, or the process.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            steps::note("another run is getting the guest target: waiting for it")
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Whether a folder of libraries holds a standard library.
fn holds_std(libraries: &Path) -> bool {
    std_in(libraries).is_some()
}

/// The standard library in a folder of libraries.
fn std_in(libraries: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(libraries).ok()?.flatten();
    let found = files.find(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with("libstd-") && name.ends_with(".rlib"))
    });
    found.map(|entry| entry.path())
}

/// The checkout's own compiler, free of what chooses another one.
fn own_rustc(root: &Path) -> Command {
    let mut command = Command::new("rustc");
    command.current_dir(root).env_remove("RUSTC");
    command
}

/// What the checkout's own compiler prints for `--print WHAT`.
fn own_rustc_prints(root: &Path, what: &[&str]) -> Result<String> {
    let printed = environment::read(own_rustc(root).args(what))?;
    Ok(printed.trim().to_owned())
}
