//! `deploy`, `rollback` and `revisions`: which version answers, and which did.

use clap::Args;
use modelhost_core::{ModelName, VersionNumber};
use modelhost_registry::{Model, Revision, TrafficShare};
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::models::{moment, traffic};
use super::{Session, selector};
use crate::client::Answer;
use crate::failure::Failure;
use crate::table;

/// Which model.
#[derive(Debug, Args)]
pub struct ListRevisions {
    /// The model
    model: ModelName,
}

/// Which version, and why.
#[derive(Debug, Args)]
pub struct Deploy {
    /// The model
    model: ModelName,
    /// A number or an alias
    #[arg(value_parser = selector)]
    version: String,
    /// Why, and under which condition
    #[command(flatten)]
    change: Change,
}

/// To which revision, and why.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The model
    model: ModelName,
    /// The revision to restore; by default the one before the current one
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
    /// Why, and under which condition
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
struct Change {
    /// Why, for the log of revisions
    #[arg(long)]
    comment: Option<String>,
    /// Only if the model is still at this generation, as `modelhost model` shows it
    #[arg(long, value_name = "GENERATION")]
    if_match: Option<u64>,
}

#[derive(Serialize)]
struct DeploymentRequest<'a> {
    traffic: [TrafficShare; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
}

#[derive(Serialize)]
struct RollbackRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
}

#[derive(Deserialize)]
struct Listing {
    revisions: Vec<Revision>,
}

/// Lets a version answer.
///
/// # Errors
/// As for all requests.
pub fn deploy(arguments: &Deploy, session: &Session) -> Result<(), Failure> {
    let model = &arguments.model;
    let (version, expected) = resolve(arguments, session)?;
    let comment = arguments.change.comment.as_deref();
    let request = DeploymentRequest { traffic: [TrafficShare::all(version)], comment };
    let path = format!("/v1/models/{model}/deployment");
    let answer = session.client.send(Method::PUT, &path, &request, expected)?;
    session.show(&answer, |answer| {
        let revision: Revision = answer.read()?;
        Ok(format!("version {} of {model} answers, as revision {}", traffic(&revision), revision.number))
    })
}

/// The number of the version, and the generation that the model must still have: with an alias the one at which
/// it was looked up, so that it cannot move in between.
fn resolve(arguments: &Deploy, session: &Session) -> Result<(VersionNumber, Option<u64>), Failure> {
    let Deploy { model, version, change } = arguments;
    if let Ok(number) = version.parse() {
        return Ok((VersionNumber(number), change.if_match));
    }
    let record: Model = session.client.get(&format!("/v1/models/{model}"))?.read()?;
    let named = record.aliases.iter().find(|(alias, _)| alias.as_str() == version);
    match named {
        Some((_, number)) => Ok((*number, change.if_match.or(Some(record.generation)))),
        None => {
            Err(Failure::Refused { status: 404, message: format!("model {model} has no alias {version:?}") })
        }
    }
}

/// Restores an earlier revision.
///
/// # Errors
/// As for all requests.
pub fn roll_back(arguments: &Rollback, session: &Session) -> Result<(), Failure> {
    let Rollback { model, to, change } = arguments;
    let request = RollbackRequest { revision: *to, comment: change.comment.as_deref() };
    let path = format!("/v1/models/{model}/rollback");
    let answer = session.client.send(Method::POST, &path, &request, change.if_match)?;
    session.show(&answer, |answer| {
        let revision: Revision = answer.read()?;
        let restored =
            revision.restores.map(|number| format!(", which restores {number}")).unwrap_or_default();
        let (answers, number) = (traffic(&revision), revision.number);
        Ok(format!("version {answers} of {model} answers, as revision {number}{restored}"))
    })
}

/// Shows the log of revisions, the newest first.
///
/// # Errors
/// As for all requests.
pub fn list(arguments: &ListRevisions, session: &Session) -> Result<(), Failure> {
    let answer = session.client.get(&format!("/v1/models/{}/revisions", arguments.model))?;
    session.show(&answer, log)
}

fn log(answer: &Answer) -> Result<String, Failure> {
    let Listing { mut revisions } = answer.read()?;
    revisions.sort_by_key(|revision| std::cmp::Reverse(revision.number));
    let header = ["revision", "time", "serves", "by", "restores", "comment"];
    Ok(table::rows(header, revisions.into_iter().map(row)))
}

fn row(revision: Revision) -> [String; 6] {
    [
        revision.number.to_string(),
        moment(revision.time),
        traffic(&revision),
        revision.by.unwrap_or_default(),
        revision.restores.map(|number| number.to_string()).unwrap_or_default(),
        revision.comment.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_hold_only_what_was_typed() {
        let deployment = DeploymentRequest { traffic: [TrafficShare::all(VersionNumber(3))], comment: None };
        assert_eq!(
            serde_json::to_string(&deployment).unwrap(),
            r#"{"traffic":[{"version":3,"percent":100}]}"#
        );
        let rollback = RollbackRequest { revision: None, comment: Some("broken") };
        assert_eq!(serde_json::to_string(&rollback).unwrap(), r#"{"comment":"broken"}"#);
    }

    #[test]
    fn the_newest_revision_comes_first() {
        let text = r#"{"revisions":[
            {"number":1,"time":"2026-01-02T03:04:05Z","traffic":[{"version":1,"percent":100}],"by":"ada"},
            {"number":2,"time":"2026-01-03T03:04:05.9Z","traffic":[{"version":3,"percent":90},{"version":1,"percent":10}],"restores":1}
        ]}"#;
        let shown = log(&Answer { is_created: false, text: text.to_owned() }).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("REVISION  TIME"));
        assert!(
            lines[1].starts_with("2 ") && lines[1].contains("3 (90 %) 1 (10 %)") && lines[1].ends_with(" 1")
        );
        assert!(
            lines[2].starts_with("1 ")
                && lines[2].contains("2026-01-02T03:04:05Z")
                && lines[2].ends_with("ada")
        );
    }
}
