//! Owns what continuous integration runs, in its order, ending at the first failure.
//!
//! It must not know what any test tests.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{environment, guest_target, plugins, steps, up};

/// The command `test`.
pub fn run(workspace: &Workspace) -> Result<()> {
    part(workspace, "format", &["fmt", "--all", "--check"])?;
    build(workspace)?;
    part(
        workspace,
        "lints",
        &["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"],
    )?;
    part(workspace, "tests", &["test", "--release", "--workspace"])?;
    steps::heading("up --check");
    let data_dir = tempfile::tempdir().context("cannot create a data folder")?;
    up::check_built(workspace, free_address()?, data_dir.path())?;
    steps::heading("all passed");
    Ok(())
}

/// Builds what the end-to-end tests and the benchmark run.
pub fn build(workspace: &Workspace) -> Result<()> {
    steps::heading("components and host");
    let toolchain = guest_target::ensure(workspace)?;
    plugins::build(workspace, &toolchain)?;
    plugins::build_fixtures(workspace, &toolchain)?;
    up::build_host(workspace)
}

/// Cargo that tells its programs where everything lies that was built.
pub fn cargo_with_artifacts(workspace: &Workspace) -> Command {
    let mut cargo = environment::cargo(&workspace.root);
    cargo
        .env("MODELHOST_BINARY", workspace.host_binary())
        .env("MODELHOST_PLUGINS", plugins::folder(workspace))
        .env("MODELHOST_TEST_PLUGINS", plugins::fixtures_folder(workspace));
    cargo
}

fn part(workspace: &Workspace, what: &str, arguments: &[&str]) -> Result<()> {
    steps::heading(what);
    steps::loud(what, || environment::run(cargo_with_artifacts(workspace).args(arguments)))
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    listener.local_addr().context("no free port")
}
