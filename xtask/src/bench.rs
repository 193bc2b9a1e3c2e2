//! Owns starting the benchmark with everything built that it measures.
//!
//! It must not know what is measured.

use std::process::Command;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{environment, steps, test};

/// The command `bench`.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    test::build(workspace)?;
    steps::heading("benchmark");
    let mut benchmark = Command::new(workspace.binary("modelhost-bench"));
    environment::run(test::with_artifacts(&mut benchmark, workspace).args(arguments))
}
