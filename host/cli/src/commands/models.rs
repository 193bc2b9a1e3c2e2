//! `models` and `model`: what there is, and what answers.

use clap::Args;
use modelhost_core::{ModelName, VersionNumber};
use modelhost_registry::{Model, Revision};
use serde::Deserialize;

use super::Session;
use super::configure::summary;
use super::versions;
use crate::client::Answer;
use crate::failure::Failure;
use crate::table;

/// Which model.
#[derive(Debug, Args)]
pub struct ShowModel {
    /// The model
    model: ModelName,
}

#[derive(Deserialize)]
struct Listing {
    models: Vec<Model>,
}

/// Shows all models.
///
/// # Errors
/// As for all requests.
pub fn list(session: &Session) -> Result<(), Failure> {
    session.show(&session.client.get("/v1/models")?, |answer| {
        let listing: Listing = answer.read()?;
        if listing.models.is_empty() {
            return Ok("no models yet: modelhost push FILE --model NAME --deploy".to_owned());
        }
        let header = ["model", "serves", "since", "by", "versions", "aliases"];
        Ok(table::rows(header, listing.models.iter().map(row)))
    })
}

fn row(model: &Model) -> [String; 6] {
    let numbers: Vec<String> = model.versions.iter().map(|version| version.number.to_string()).collect();
    let (serves, since, by) = match &model.deployment {
        Some(revision) => (traffic(revision), moment(revision.time), revision.by.clone().unwrap_or_default()),
        None => ("nothing yet".to_owned(), String::new(), String::new()),
    };
    [model.name.to_string(), serves, since, by, numbers.join(" "), aliases(model)]
}

/// Shows one model and its versions.
///
/// # Errors
/// As for all requests.
pub fn show(arguments: &ShowModel, session: &Session) -> Result<(), Failure> {
    let answer = session.client.get(&format!("/v1/models/{}", arguments.model))?;
    session.show(&answer, describe)
}

fn describe(answer: &Answer) -> Result<String, Failure> {
    let model: Model = answer.read()?;
    let deployment = model.deployment.as_ref();
    let properties = table::properties([
        ("model", model.name.to_string()),
        ("serves", deployment.map_or_else(|| "nothing yet".to_owned(), traffic)),
        ("since", deployment.map(|revision| moment(revision.time)).unwrap_or_default()),
        ("revision", deployment.map(|revision| revision.number.to_string()).unwrap_or_default()),
        ("by", deployment.and_then(|revision| revision.by.clone()).unwrap_or_default()),
        ("comment", deployment.and_then(|revision| revision.comment.clone()).unwrap_or_default()),
        ("aliases", aliases(&model)),
        ("configured", summary(&model.configuration)),
        ("generation", model.generation.to_string()),
    ]);
    Ok(format!("{properties}\n\n{}", versions::listing(&model)))
}

fn aliases(model: &Model) -> String {
    let pairs: Vec<String> =
        model.aliases.iter().map(|(alias, number)| format!("{alias}={number}")).collect();
    pairs.join(" ")
}

/// The aliases that point at a version.
pub(super) fn aliases_of(model: &Model, number: VersionNumber) -> String {
    let names =
        model.aliases.iter().filter(|(_, version)| **version == number).map(|(alias, _)| alias.to_string());
    names.collect::<Vec<_>>().join(" ")
}

/// What a revision lets answer: `3`, or `3 (90 %) 4 (10 %)`.
pub(super) fn traffic(revision: &Revision) -> String {
    if revision.is_unloading() {
        return "unloaded".to_owned();
    }
    let shares = revision.traffic.iter().map(|share| match share.percent {
        100 => share.version.to_string(),
        percent => format!("{} ({percent} %)", share.version),
    });
    shares.collect::<Vec<_>>().join(" ")
}

/// A time to the second, in UTC.
pub(super) fn moment(time: jiff::Timestamp) -> String {
    format!("{time:.0}")
}
