//! What can be typed: the global options and the list of commands. Each command's own arguments lie with it.

use clap::{Args, Parser, Subcommand};

use crate::client::HostUrl;
use crate::commands::{
    aliases, batch, check, configure, datasets, deployment, examine, inspect_dataset, models, pack, predict,
    predictions, push, schedules, serve, stats, versions,
};

/// Serves models as sandboxed Wasm components, and operates a host that does.
#[derive(Debug, Parser)]
#[command(name = "modelhost", version, propagate_version = false, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 success, 1 failed or refused, 2 wrong use, 3 no answer from the host.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which host, and how its answers are shown.
    #[command(flatten)]
    pub host: HostArguments,
}

/// Options of every command that talks to a host.
#[derive(Debug, Args)]
#[command(next_help_heading = "Host")]
pub struct HostArguments {
    /// Where the host is
    #[arg(long, global = true, env = "MODELHOST_URL", default_value = "http://127.0.0.1:8080")]
    pub url: HostUrl,
    /// Who is asking, for the log of revisions
    #[arg(long, global = true, env = "USER", value_name = "NAME", hide_env_values = true)]
    pub by: Option<String>,
    /// Print JSON instead of tables: what the host answered, as it is
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a host
    Serve(serve::Serve),
    /// Upload a component or an ONNX network as a new version of a model
    Push(push::Push),
    /// Put ONNX networks into a finished component
    Pack(pack::Pack),
    /// Show whether the host is ready, and what it is
    Status,
    /// List the engines that run networks, with versions, and why others are not there
    Engines,
    /// List the models
    Models,
    /// Show one model
    Model(models::ShowModel),
    /// List the versions of a model
    Versions(versions::ListVersions),
    /// Show one version: what it takes, answers and carries
    Version(versions::ShowVersion),
    /// List what was deployed, when, by whom and why
    Revisions(deployment::ListRevisions),
    /// Let a version answer for its model
    Deploy(deployment::Deploy),
    /// Deploy again what was deployed before
    Rollback(deployment::Rollback),
    /// Give a version a movable name, or take a name away
    Alias(aliases::Alias),
    /// Change or show how a model is served: engine, weight, limits, batches
    Configure(configure::Configure),
    /// Show what models did since the host started, and what they hold
    Stats(stats::Stats),
    /// Delete a version that is neither deployed nor named by an alias
    Delete(versions::Delete),
    /// Ask a model
    Predict(predict::Predict),
    /// List, show, put and delete datasets
    Datasets(datasets::Datasets),
    /// List, make, publish, roll back and ask tables of predictions that were made before
    Predictions(predictions::Predictions),
    /// Start jobs at their times
    Schedules(schedules::Schedules),
    /// Run models over datasets: start, watch and stop batch jobs
    Batch(batch::Batch),
    /// Check the data folder of a host that is not running
    Check(check::Check),
    /// Examine and compile an upload, in a process of its own
    #[command(hide = true)]
    Examine(examine::Examine),
    /// Look into the files of a dataset, in a process of its own
    #[command(hide = true)]
    InspectDataset(inspect_dataset::InspectDataset),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_host_can_be_named_after_the_command() {
        let cli = parse("modelhost versions --url http://h:1/ income --json").unwrap();
        assert_eq!(cli.host.url.to_string(), "http://h:1");
        assert!(cli.host.json);
        assert!(matches!(cli.command, Command::Versions(_)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "modelhost",
            "modelhost models --url ftp://h",
            "modelhost deploy m",
            "modelhost versions a/b",
            "modelhost alias m champion",
            "modelhost alias m champion 3 --delete",
            "modelhost push f",
            "modelhost pack c",
        ] {
            assert_eq!(parse(line).map(|_| ()).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_host_starts_its_helpers_by_these_names() {
        assert!(Cli::command().find_subcommand(modelhost_runtime::EXAMINE_SUBCOMMAND).is_some());
        assert!(parse("modelhost examine in.wasm out --memory-bytes=4294967296 --seconds=120").is_ok());
        assert!(Cli::command().find_subcommand(modelhost_batch::datasets::INSPECT_SUBCOMMAND).is_some());
        assert!(parse("modelhost inspect-dataset request --memory-bytes=4294967296 --seconds=120").is_ok());
    }
}
