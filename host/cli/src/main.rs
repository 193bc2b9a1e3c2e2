//! `modelhost`: the server's entry, and a client of its HTTP API.
//!
//! Exit codes: 0 for success, 1 where the host or the machine said no, 2 for a wrong use, 3 where no host answers.

mod allocator;
mod arguments;
mod client;
mod commands;
mod component_file;
mod config;
mod failure;
mod log_writer;
mod logging;
mod output;
mod table;
mod upload_progress;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_json = cli.host.json;
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.report(is_json));
            ExitCode::from(failure.exit_code())
        }
    }
}
