//! Owns the order of bringing modelhost up: build, start, deploy the example models, show how to
//! ask them; or ask them and compare.
//!
//! It must not know how a component is built, or how the host does anything: it talks to it as
//! any client does.

mod client;
mod examples;
mod host;
mod hybrid;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use comfy_table::{Table, presets};

use self::client::Client;
use self::examples::{EXAMPLES, Example};
use self::host::{Host, Interrupts};
use crate::workspace::Workspace;
use crate::{answers, environment, guest_target, plugins, steps};

/// Brings everything up and serves until interrupted.
pub fn run(workspace: &Workspace, listen: SocketAddr, data_dir: &Path) -> Result<()> {
    ensure_free(listen)?;
    build(workspace)?;
    let interrupts = Interrupts::watch()?;
    let mut host = Host::start(workspace, listen, data_dir)?;
    let served = bring_up(workspace, &mut host, &interrupts);
    // Ctrl-C during the set-up ends the steps too: their failure is then no news.
    if !interrupts.any() {
        served?;
        host.wait_until_interrupted(&interrupts)?;
    }
    host.stop(&interrupts)?;
    eprintln!("stopped");
    Ok(())
}

/// Builds everything, then asks every example model once and compares.
pub fn check(workspace: &Workspace, listen: SocketAddr, data_dir: &Path) -> Result<()> {
    ensure_free(listen)?;
    build(workspace)?;
    check_built(workspace, listen, data_dir)
}

/// The same, when everything is built already.
pub fn check_built(workspace: &Workspace, listen: SocketAddr, data_dir: &Path) -> Result<()> {
    ensure_free(listen)?;
    let interrupts = Interrupts::watch()?;
    let mut host = Host::start(workspace, listen, data_dir)?;
    let outcome = bring_up(workspace, &mut host, &interrupts).and_then(|()| ask_all(workspace, host.url()));
    host.stop(&interrupts)?;
    ensure!(!interrupts.any(), "interrupted");
    outcome
}

/// Builds the host. Components come first: the host embeds one of them.
pub fn build(workspace: &Workspace) -> Result<()> {
    let toolchain = guest_target::ensure(workspace)?;
    plugins::build(workspace, &toolchain)?;
    build_host(workspace)
}

/// Builds the host, with the rest of the workspace.
///
/// Cargo chooses the features of a dependency by what it is asked to build: for the host alone it would choose others
/// than for the tests, and build the engines once more when those are run. The rest adds seconds.
pub fn build_host(workspace: &Workspace) -> Result<()> {
    steps::loud("the host", || {
        environment::run(environment::cargo(&workspace.root).args(["build", "--release", "--workspace"]))
    })
}

fn ensure_free(listen: SocketAddr) -> Result<()> {
    ensure!(listen.port() != 0, "the port must be a definite one, not 0");
    let bound = TcpListener::bind(listen);
    bound.map(drop).with_context(|| {
        format!("cannot listen on {listen}; is another server there? --listen takes another address")
    })
}

fn bring_up(workspace: &Workspace, host: &mut Host, interrupts: &Interrupts) -> Result<()> {
    host.wait_until_ready(interrupts)?;
    let client = Client::new(workspace.host_binary(), host.url().to_owned());
    for example in EXAMPLES {
        deploy(workspace, &client, example)?;
    }
    hybrid::set_up(workspace, &client)?;
    show_served(&client)?;
    println!("\nAsk them:\n");
    for example in EXAMPLES {
        println!("{}\n", example.curl(workspace, host.url())?);
    }
    println!("{}\n", hybrid::curl(host.url()));
    Ok(())
}

/// Leaves alone what the host has: an operator may have rolled it back.
fn deploy(workspace: &Workspace, client: &Client, example: &Example) -> Result<()> {
    let file = example.file(workspace);
    if client.has(example.model, &file)? {
        steps::note(&format!("{} is deployed already", example.model));
        return Ok(());
    }
    steps::loud(&format!("deploying {}", example.model), || client.push(example.model, &file))
}

fn show_served(client: &Client) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["model", "version", "digest", "inputs"]);
    for example in EXAMPLES {
        let served = client.served(example.model)?;
        table.add_row([example.model, &served.versions, &served.digest, &served.inputs]);
    }
    println!("{table}");
    Ok(())
}

fn ask_all(workspace: &Workspace, url: &str) -> Result<()> {
    let mut wrong = Vec::new();
    for example in EXAMPLES {
        match ask(workspace, url, example) {
            Ok(()) => println!("ok     {}", example.model),
            Err(error) => {
                println!("WRONG  {}: {error:#}", example.model);
                wrong.push(example.model);
            }
        }
    }
    ensure!(wrong.is_empty(), "not as expected: {}", wrong.join(", "));
    Ok(())
}

/// Runs the very line that `up` shows, in a shell.
fn ask(workspace: &Workspace, url: &str, example: &Example) -> Result<()> {
    let line = example.curl(workspace, url)?;
    println!("$ {line}");
    // A proxy that the environment names is for the outside.
    let answer = environment::read(Command::new("sh").args(["-c", &line]).env("NO_PROXY", "*"))?;
    println!("{}", answer.trim_end());
    let actual = serde_json::from_str(&answer).context("the answer is no JSON")?;
    let found = answers::difference(&example.expected(workspace)?, &actual);
    ensure!(found.is_none(), "{}", found.unwrap_or_default());
    Ok(())
}
