//! `alias`: movable names for versions.

use clap::Args;
use modelhost_core::{AliasName, ModelName};
use ureq::http::Method;

use super::Session;
use crate::failure::Failure;

/// Which name, and for what.
#[derive(Debug, Args)]
pub struct Alias {
    /// The model
    model: ModelName,
    /// The name, such as champion
    alias: AliasName,
    /// The number of the version that gets the name
    #[arg(required_unless_present = "delete", conflicts_with = "delete")]
    version: Option<u64>,
    /// Take the name away
    #[arg(long)]
    delete: bool,
    /// Only if the model is still at this generation, as `modelhost model` shows it
    #[arg(long, value_name = "GENERATION")]
    if_match: Option<u64>,
}

/// Sets or deletes an alias.
///
/// # Errors
/// As for all requests.
pub fn run(arguments: &Alias, session: &Session) -> Result<(), Failure> {
    let Alias { model, alias, version, if_match, .. } = arguments;
    let path = format!("/v1/models/{model}/aliases/{alias}");
    match version {
        Some(number) => {
            let request = serde_json::json!({ "version": number });
            let answer = session.client.send(Method::PUT, &path, &request, *if_match)?;
            session.show(&answer, |_| Ok(format!("{alias} is now version {number} of {model}")))
        }
        None => {
            let answer = session.client.delete(&path, *if_match)?;
            session.show(&answer, |_| Ok(format!("{alias} is no name of {model} any more")))
        }
    }
}
