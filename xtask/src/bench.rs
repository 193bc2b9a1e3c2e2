//! Owns starting the benchmark with everything built that it measures.
//!
//! It must not know what is measured.

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{environment, test};

/// The command `bench`.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    test::build(workspace)?;
    let mut cargo = test::cargo_with_artifacts(workspace);
    cargo.args(["run", "--release", "--package", "modelhost-bench", "--"]).args(arguments);
    environment::run(&mut cargo)
}
