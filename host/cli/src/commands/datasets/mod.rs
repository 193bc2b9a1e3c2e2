//! `datasets`: what there is, what is in it, putting and deleting.

mod form;
mod put;
mod show;

use clap::{Args, Subcommand};
use modelhost_batch::datasets::DatasetReference;
use modelhost_core::DatasetName;

use super::Session;
use crate::failure::Failure;

/// What to do with datasets; without a command they are listed.
#[derive(Debug, Args)]
pub struct Datasets {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the datasets
    List,
    /// Put files, or the URLs of objects, there as a new version of a dataset
    Put(put::Put),
    /// List the versions of a dataset
    Versions {
        /// The dataset
        dataset: DatasetName,
    },
    /// Show a version: its files, its card, and what it was made of
    Show(Which),
    /// Show the columns of a version
    Schema(Which),
    /// Show the first rows of a version
    Preview(show::Preview),
    /// Show what the values of each column are like; reads all of them
    Profile(Which),
    /// Delete a version that no job and no table needs
    Delete {
        /// The dataset and the number of the version, such as bookings@3
        dataset: DatasetReference,
    },
}

/// A version of a dataset.
#[derive(Debug, Args)]
struct Which {
    /// The dataset, and its version if it is not to be the latest: bookings, bookings@3
    dataset: DatasetReference,
}

/// Does what was typed.
///
/// # Errors
/// As for all requests.
pub fn run(arguments: &Datasets, session: &Session) -> Result<(), Failure> {
    match &arguments.command {
        None | Some(Command::List) => show::list(session),
        Some(Command::Put(put)) => put::run(put, session),
        Some(Command::Versions { dataset }) => show::versions(dataset, session),
        Some(Command::Show(Which { dataset })) => show::version(dataset, session),
        Some(Command::Schema(Which { dataset })) => show::schema(dataset, session),
        Some(Command::Preview(preview)) => show::preview(preview, session),
        Some(Command::Profile(Which { dataset })) => show::profile(dataset, session),
        Some(Command::Delete { dataset }) => delete(dataset, session),
    }
}

fn delete(reference: &DatasetReference, session: &Session) -> Result<(), Failure> {
    let DatasetReference { name, version: Some(number) } = reference else {
        let name = &reference.name;
        return Err(Failure::Usage(format!("which version? a version is deleted by its number: {name}@3")));
    };
    let answer = session.client.delete(&path(reference), None)?;
    session.show(&answer, |_| Ok(format!("version {number} of dataset {name} is deleted")))
}

/// Where a version is in the API.
fn path(reference: &DatasetReference) -> String {
    let version = reference.version.map_or_else(|| "latest".to_owned(), |number| number.to_string());
    format!("/v1/datasets/{}/versions/{version}", reference.name)
}
