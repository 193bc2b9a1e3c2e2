//! `versions`, `version` and `delete`: the uploads of a model.

use clap::Args;
use indicatif::BinaryBytes;
use modelhost_core::{
    ComponentMetadata, Digest, EngineChoice, Ensemble, ModelName, Signature, TensorDescription, VersionNumber,
};
use modelhost_registry::{Model, Version};

use super::models::{aliases_of, moment};
use super::{Session, selector};
use crate::client::Answer;
use crate::failure::Failure;
use crate::table;

/// Which model.
#[derive(Debug, Args)]
pub struct ListVersions {
    /// The model
    model: ModelName,
}

/// Which version.
#[derive(Debug, Args)]
pub struct ShowVersion {
    /// The model
    model: ModelName,
    /// A number or an alias
    #[arg(value_parser = selector)]
    version: String,
}

/// Which version.
#[derive(Debug, Args)]
pub struct Delete {
    /// The model
    model: ModelName,
    /// The number
    version: u64,
    /// Only if the model is still at this generation, as `modelhost model` shows it
    #[arg(long, value_name = "GENERATION")]
    if_match: Option<u64>,
}

/// Shows the versions of a model.
///
/// # Errors
/// As for all requests.
pub fn list(arguments: &ListVersions, session: &Session) -> Result<(), Failure> {
    let model = &arguments.model;
    // What is deployed and named is with the model; scripts get the list that the API has.
    if session.is_json {
        return session
            .show(&session.client.get(&format!("/v1/models/{model}/versions"))?, |_| Ok(String::new()));
    }
    let answer = session.client.get(&format!("/v1/models/{model}"))?;
    session.show(&answer, |answer| Ok(listing(&answer.read()?)))
}

/// A table of the versions of a model.
pub(super) fn listing(model: &Model) -> String {
    let header = ["version", "serves", "aliases", "digest", "size", "compiled", "created", "by", "component"];
    table::rows(header, model.versions.iter().map(|version| row(model, version)))
}

fn row(model: &Model, version: &Version) -> [String; 9] {
    let shares = model.deployment.iter().flat_map(|revision| &revision.traffic);
    let percent: u32 =
        shares.filter(|share| share.version == version.number).map(|share| u32::from(share.percent)).sum();
    [
        version.number.to_string(),
        if percent == 0 { String::new() } else { format!("{percent} %") },
        aliases_of(model, version.number),
        short(&version.digest),
        BinaryBytes(version.size_bytes).to_string(),
        BinaryBytes(version.compiled_size_bytes).to_string(),
        moment(version.created),
        version.uploaded_by.clone().unwrap_or_default(),
        component(version),
    ]
}

/// Enough of a digest to recognise it.
fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

fn component(version: &Version) -> String {
    if let Some(ensemble) = &version.ensemble {
        return format!("ensemble of {} steps", ensemble.steps.len());
    }
    let metadata = &version.metadata;
    let parts = [metadata.name.as_deref(), metadata.version.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Shows one version.
///
/// # Errors
/// As for all requests.
pub fn show(arguments: &ShowVersion, session: &Session) -> Result<(), Failure> {
    let ShowVersion { model, version } = arguments;
    let answer = session.client.get(&format!("/v1/models/{model}/versions/{version}"))?;
    session.show(&answer, describe)
}

fn describe(answer: &Answer) -> Result<String, Failure> {
    let version: Version = answer.read()?;
    let ComponentMetadata { description, authors, licenses, source, homepage, revision, .. } =
        &version.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let properties = table::properties([
        ("version", version.number.to_string()),
        ("digest", version.digest.to_string()),
        ("size", BinaryBytes(version.size_bytes).to_string()),
        ("compiled", BinaryBytes(version.compiled_size_bytes).to_string()),
        ("created", moment(version.created)),
        ("by", text(&version.uploaded_by)),
        ("component", component(&version)),
        ("streams", if version.capabilities.streaming { "yes".to_owned() } else { String::new() }),
        ("tasks", version.capabilities.tasks.iter().cloned().collect::<Vec<_>>().join(", ")),
        ("description", text(description)),
        ("authors", text(authors)),
        ("licences", text(licenses)),
        ("source", text(source)),
        ("homepage", text(homepage)),
        ("commit", text(revision)),
    ]);
    let mut parts = vec![properties, tensors(&version.signature)];
    parts.extend(version.ensemble.as_ref().map(steps));
    if !version.graphs.is_empty() {
        let rows = version.graphs.iter().map(|graph| {
            [
                graph.description.name.clone(),
                BinaryBytes(graph.size_bytes).to_string(),
                short(&graph.digest),
                graph.engine_choice.as_ref().map(engine).unwrap_or_default(),
            ]
        });
        parts.push(table::rows(["graph", "size", "digest", "engine"], rows));
    }
    if !version.samples.is_empty() {
        let rows = version
            .samples
            .iter()
            .map(|sample| [sample.name.clone(), BinaryBytes(sample.size_bytes).to_string()]);
        parts.push(table::rows(["sample", "size"], rows));
    }
    Ok(parts.join("\n\n"))
}

/// The engine that was chosen, why, and why others do not run the graph.
fn engine(choice: &EngineChoice) -> String {
    let refused = choice.candidates.iter().filter_map(|candidate| {
        let error = candidate.error.as_ref()?;
        Some(format!("; {} does not run it: {error}", candidate.engine))
    });
    format!("{}: {}{}", choice.engine, choice.reason, refused.collect::<String>())
}

/// A table of what a version takes and answers.
pub(super) fn tensors(signature: &Signature) -> String {
    let row = |role: &str, tensor: &TensorDescription| {
        [role.to_owned(), tensor.name.clone(), tensor.datatype.to_string(), format!("{:?}", tensor.shape)]
    };
    let inputs = signature.inputs.iter().map(|tensor| row("input", tensor));
    let outputs = signature.outputs.iter().map(|tensor| row("output", tensor));
    table::rows(["tensor", "name", "datatype", "shape"], inputs.chain(outputs))
}

/// A table of what an ensemble calls, and who gives what to whom.
pub(super) fn steps(ensemble: &Ensemble) -> String {
    let rows = ensemble.steps.iter().enumerate().map(|(index, step)| {
        let maps = |map: &std::collections::BTreeMap<String, String>, arrow: &str| {
            let pairs: Vec<String> = map.iter().map(|(own, name)| format!("{own} {arrow} {name}")).collect();
            pairs.join(", ")
        };
        [
            (index + 1).to_string(),
            format!("{}@{}", step.model, step.version),
            short(&step.digest),
            maps(&step.inputs, "<-"),
            maps(&step.outputs, "->"),
        ]
    });
    table::rows(["step", "model", "digest", "inputs", "outputs"], rows)
}

/// Deletes a version.
///
/// # Errors
/// As for all requests; a version that is deployed or has an alias is kept.
pub fn delete(arguments: &Delete, session: &Session) -> Result<(), Failure> {
    let model = &arguments.model;
    let number = VersionNumber(arguments.version);
    let answer =
        session.client.delete(&format!("/v1/models/{model}/versions/{number}"), arguments.if_match)?;
    session.show(&answer, |_| Ok(format!("version {number} of {model} is deleted")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model() -> Model {
        let version = |number: u64| {
            json!({
                "number": number,
                "digest": Digest::of(&[number as u8]),
                "size_bytes": 2048,
                "created": "2026-01-02T03:04:05.678Z",
                "signature": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], "outputs": []},
                "graphs": [],
                "metadata": {"name": "income", "version": "1.4.0"},
                "compiled_size_bytes": 4096,
            })
        };
        serde_json::from_value(json!({
            "name": "income",
            "generation": 7,
            "versions": [version(1), version(3)],
            "aliases": {"champion": 3},
            "deployment": {"number": 2, "time": "2026-01-02T03:04:05Z", "traffic": [{"version": 3, "percent": 100}]},
            "next_version": 4,
        }))
        .unwrap()
    }

    #[test]
    fn the_table_says_which_version_serves() {
        let table = listing(&model());
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..3], ["VERSION", "SERVES", "ALIASES"]);
        let hex = Digest::of(&[1]).hex();
        assert_eq!(lines[1][..5], ["1", &hex[..12], "2.00", "KiB", "4.00"]);
        assert_eq!(lines[2][..4], ["3", "100", "%", "champion"]);
        assert!(lines[2].ends_with(&["2026-01-02T03:04:05Z", "income", "1.4.0"]));
    }

    #[test]
    fn steps_are_shown_with_what_they_pass_on() {
        let digest = Digest::of(b"component");
        let ensemble: Ensemble = serde_json::from_value(json!({
            "inputs": ["text"],
            "outputs": ["label"],
            "steps": [{
                "model": "spam", "version": 3, "digest": digest,
                "inputs": {"text": "text"}, "outputs": {"label": "label", "score": "p"},
            }],
        }))
        .unwrap();
        let table = steps(&ensemble);
        let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        let hex = &digest.hex()[..12];
        assert_eq!(
            words,
            ["1", "spam@3", hex, "text", "<-", "text", "label", "->", "label,", "score", "->", "p"]
        );
    }

    #[test]
    fn tensors_are_shown_with_type_and_shape() {
        let table = tensors(&model().versions[0].signature);
        assert_eq!(table, "TENSOR  NAME  DATATYPE  SHAPE\ninput   x     FP32      [-1, 4]");
    }
}
