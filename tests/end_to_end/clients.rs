//! Clients of others, unchanged, against the real binary. What each of them is asked to do is in `clients/clients.py`.

use std::path::Path;
use std::process::Command;

use modelhost_tests::component::with_graph;
use modelhost_tests::host::Setup;
use modelhost_tests::{artifacts, onnx};

/// `cargo xtask test --clients` installs the clients, and says where their Python is.
#[test]
#[ignore = "needs clients from PyPI: cargo xtask test --clients"]
fn every_client_works() {
    let python = std::env::var_os("MODELHOST_CLIENTS_PYTHON").expect("cargo xtask test --clients sets it");
    let host = Setup::new().start();
    let doubling = |plugin, name| with_graph(plugin, name, &onnx::multiplication(2.0));
    host.deploy_new("labelled", &doubling(artifacts::test_plugin("labelled"), "first"));
    host.deploy_new("large", &doubling(artifacts::plugin("onnx"), "model"));
    host.deploy_new("echo", &artifacts::test_plugin("echo"));
    host.deploy_new("novelist", &artifacts::plugin("novelist"));
    host.deploy_new("similarity", &artifacts::plugin("similarity"));
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new(python)
        .arg(checkout.join("clients/clients.py"))
        .arg(host.address().to_string())
        .arg(checkout.join("../docs/compatibility.md"))
        .status()
        .unwrap();
    assert!(status.success(), "a client does not work; the host's log: {}", host.log());
}
