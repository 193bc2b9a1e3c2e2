//! The commands: each module turns one group of arguments into requests and shows what came back.

pub mod aliases;
pub mod batch;
pub mod check;
pub mod configure;
pub mod datasets;
pub mod deployment;
pub mod engines;
pub mod examine;
pub mod inspect_dataset;
pub mod models;
pub mod pack;
pub mod predict;
pub mod predictions;
pub mod push;
pub mod schedules;
pub mod serve;
pub mod stats;
pub mod status;
pub mod versions;

use modelhost_core::AliasName;

use crate::arguments::{Cli, Command, HostArguments};
use crate::client::{Answer, Client};
use crate::failure::Failure;
use crate::output;

/// Does what was typed.
///
/// # Errors
/// [`Failure`], with its exit code.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let host = cli.host;
    match cli.command {
        Command::Examine(arguments) => examine::run(&arguments),
        Command::InspectDataset(arguments) => inspect_dataset::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments, host.json),
        Command::Pack(arguments) => pack::run(&arguments, host.json),
        Command::Push(arguments) => push::run(&arguments, &Session::new(host)?),
        Command::Status => status::run(&Session::new(host)?),
        Command::Engines => engines::run(&Session::new(host)?),
        Command::Models => models::list(&Session::new(host)?),
        Command::Model(arguments) => models::show(&arguments, &Session::new(host)?),
        Command::Versions(arguments) => versions::list(&arguments, &Session::new(host)?),
        Command::Version(arguments) => versions::show(&arguments, &Session::new(host)?),
        Command::Delete(arguments) => versions::delete(&arguments, &Session::new(host)?),
        Command::Revisions(arguments) => deployment::list(&arguments, &Session::new(host)?),
        Command::Deploy(arguments) => deployment::deploy(&arguments, &Session::new(host)?),
        Command::Rollback(arguments) => deployment::roll_back(&arguments, &Session::new(host)?),
        Command::Alias(arguments) => aliases::run(&arguments, &Session::new(host)?),
        Command::Configure(arguments) => configure::run(&arguments, &Session::new(host)?),
        Command::Stats(arguments) => stats::run(&arguments, &Session::new(host)?),
        Command::Schedules(arguments) => schedules::run(&arguments, &Session::new(host)?),
        Command::Datasets(arguments) => datasets::run(&arguments, &Session::new(host)?),
        Command::Predictions(arguments) => predictions::run(&arguments, &Session::new(host)?),
        Command::Batch(arguments) => batch::run(&arguments, &Session::new(host)?),
        Command::Predict(arguments) => predict::run(&arguments, &Session::new(host)?),
    }
}

/// A host to talk to, and how its answers are to be shown.
pub struct Session {
    client: Client,
    is_json: bool,
}

impl Session {
    fn new(host: HostArguments) -> Result<Session, Failure> {
        Ok(Session { client: Client::new(host.url, host.by.as_deref())?, is_json: host.json })
    }

    /// Prints an answer: as it is for a script, else what `for_people` makes of it.
    fn show(
        &self,
        answer: &Answer,
        for_people: impl FnOnce(&Answer) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        if !self.is_json {
            return output::print(&for_people(answer)?);
        }
        // A change without an answer of its own still gives a script something to parse.
        output::print(if answer.text.is_empty() { "{}" } else { &answer.text })
    }
}

/// A version as it is typed: a number or an alias.
fn selector(text: &str) -> Result<String, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        text.parse::<AliasName>().map_err(|error| error.to_string())?;
    }
    Ok(text.to_owned())
}
