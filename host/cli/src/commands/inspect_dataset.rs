//! `inspect-dataset`: the process that looks into the files of a dataset, started by the host before it makes a version
//! of them. Nothing happens here before it limits itself: no thread, no log.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use modelhost_batch::datasets::run_inspection;
use modelhost_runtime::confinement::{end_with_the_host, limit_this_process};

use crate::failure::Failure;

/// What the host passes on.
#[derive(Debug, Args)]
pub struct InspectDataset {
    /// The file that says which files
    request: PathBuf,
    /// Bytes of address space
    #[arg(long)]
    memory_bytes: u64,
    /// Seconds of processor time
    #[arg(long)]
    seconds: u64,
}

/// Looks into the files.
///
/// # Errors
/// Where the machine fails, not the files.
pub fn run(arguments: &InspectDataset) -> Result<(), Failure> {
    limit_this_process(arguments.memory_bytes, arguments.seconds)
        .context("this process cannot be limited")?;
    end_with_the_host().context("the host cannot be watched")?;
    Ok(run_inspection(&arguments.request).context("the request cannot be read or answered")?)
}
