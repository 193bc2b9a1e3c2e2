//! Owns what continuous integration runs, in its order, ending at the first failure.
//!
//! It must not know what any test tests.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{cache, environment, guest_target, onnxruntime, plugins, python, steps, up};

/// The command `test`.
pub fn run(workspace: &Workspace, with_clients: bool) -> Result<()> {
    part(workspace, "format", &["fmt", "--all", "--check"])?;
    build(workspace)?;
    part(
        workspace,
        "lints",
        &["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"],
    )?;
    tests(workspace)?;
    if with_clients {
        clients(workspace)?;
    }
    steps::heading("up --check");
    let data_dir = tempfile::tempdir().context("cannot create a data folder")?;
    up::check_built(workspace, free_address()?, data_dir.path())?;
    steps::heading("all passed");
    Ok(())
}

/// With both engines, where the second can be had.
fn tests(workspace: &Workspace) -> Result<()> {
    let library = onnxruntime::install();
    if let Err(error) = &library {
        steps::heading("WITHOUT ONNX RUNTIME: the tests of that engine are left out");
        steps::note(&format!("{error:#}"));
    }
    let library = library.map_or_else(|_| OsString::from("off"), PathBuf::into_os_string);
    steps::heading("tests");
    let mut cargo = environment::cargo(&workspace.root);
    let command = with_artifacts(&mut cargo, workspace).env("MODELHOST_ONNXRUNTIME", library);
    steps::loud("tests", || environment::run(command.args(["test", "--release", "--workspace"])))
}

/// Clients of others, in a virtual environment of Python in the cache folder.
fn clients(workspace: &Workspace) -> Result<()> {
    steps::heading("clients");
    let requirements = workspace.root.join("tests/clients/requirements.txt");
    let interpreter = python::environment(&cache::folder("clients")?, &requirements)?
        .context("python3 is needed to run clients of others: install it, or leave --clients out")?;
    let mut cargo = environment::cargo(&workspace.root);
    let command = with_artifacts(&mut cargo, workspace).env("MODELHOST_CLIENTS_PYTHON", interpreter);
    let test = ["test", "--release", "--workspace", "--test", "end_to_end", "--", "--ignored", "clients::"];
    steps::loud("clients", || environment::run(command.args(test).arg("--nocapture")))
}

/// Builds what the end-to-end tests and the benchmark run.
///
/// Everything at once: Cargo chooses the features of a dependency by what it is asked to build, and would
/// build wasmtime a second time for a smaller selection.
pub fn build(workspace: &Workspace) -> Result<()> {
    steps::heading("components and host");
    let toolchain = guest_target::ensure(workspace)?;
    plugins::build(workspace, &toolchain)?;
    plugins::build_fixtures(workspace, &toolchain)?;
    part(workspace, "host, tests and benchmarks", &["build", "--release", "--workspace", "--all-targets"])
}

/// Tells a program where everything lies that was built.
pub fn with_artifacts<'a>(command: &'a mut Command, workspace: &Workspace) -> &'a mut Command {
    command
        .env("MODELHOST_BINARY", workspace.host_binary())
        .env("MODELHOST_PLUGINS", plugins::folder(workspace))
        .env("MODELHOST_TEST_PLUGINS", plugins::fixtures_folder(workspace))
}

fn part(workspace: &Workspace, what: &str, arguments: &[&str]) -> Result<()> {
    steps::heading(what);
    let mut cargo = environment::cargo(&workspace.root);
    steps::loud(what, || environment::run(with_artifacts(&mut cargo, workspace).args(arguments)))
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    listener.local_addr().context("no free port")
}
