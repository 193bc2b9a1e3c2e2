//! Owns how sub-processes are started: which variables they see, where their output goes and how
//! a failure reads.
//!
//! `cargo run` describes the crate it runs in dozens of variables, and a shell may carry compiler
//! flags that are meant for the host. Neither may reach the inner builds. It must not know why a
//! command is run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Set by `cargo run` about this very program; the inner Cargo sets its own.
const OF_THE_OUTER_RUN: &[&str] =
    &["CARGO", "CARGO_CRATE_NAME", "CARGO_BIN_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];

/// Choose a compiler or its flags for the host, and would break a guest build.
const MEANT_FOR_THE_HOST: &[&str] = &[
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
];

/// Cargo as a user would call it in `root`; RUSTUP_TOOLCHAIN stays, so a `+toolchain` still counts.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    for (name, _) in std::env::vars_os() {
        let about_the_outer_crate = name.to_str().is_some_and(|name| {
            OF_THE_OUTER_RUN.contains(&name)
                || name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
        });
        if about_the_outer_crate {
            command.env_remove(name);
        }
    }
    command
}

/// Cargo for a guest: also free of compiler settings that are meant for the host.
///
/// An empty wrapper also overrides one from Cargo's configuration, which would mix two compilers.
pub fn guest_cargo(root: &Path) -> Command {
    let mut command = cargo(root);
    for name in MEANT_FOR_THE_HOST {
        command.env_remove(name);
    }
    command.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
    command
}

/// Runs to the end with the output on the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

/// Runs to the end and returns what it printed.
pub fn read(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}: {}", output.status, last_lines(&output));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{shown} printed something else than text"))
}

/// A file that takes the output of long steps.
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    pub fn create(path: PathBuf) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path, file })
    }

    /// Runs to the end with all output in the log, whose path a failure names.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        let shown = show(command);
        let stdout = self.file.try_clone().context("cannot share the log file")?;
        let stderr = self.file.try_clone().context("cannot share the log file")?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let status = command.status().with_context(|| format!("cannot start {shown}"))?;
        ensure!(status.success(), "{shown}: {status} (log: {})", self.path.display());
        Ok(())
    }
}

/// The program and its arguments, as they would be typed.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What a failed program said last.
pub fn last_lines(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
