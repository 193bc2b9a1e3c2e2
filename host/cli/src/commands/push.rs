//! `push`: from a file to a version.

use std::path::PathBuf;

use clap::Args;
use indicatif::BinaryBytes;
use modelhost_core::{Digest, Ensemble, ModelName, Signature, VersionNumber};
use modelhost_registry::Revision;
use serde::Deserialize;
use ureq::http::Method;

use super::Session;
use super::versions::{steps, tensors};
use crate::client::{Answer, Upload};
use crate::component_file;
use crate::failure::Failure;
use crate::upload_progress::UploadProgress;

/// What to upload, and what to do with it.
#[derive(Debug, Args)]
pub struct Push {
    /// A component (.wasm), a network (.onnx), which is put into the generic plugin, or an ensemble of models (.json, .toml)
    file: PathBuf,
    /// The model that gets a new version; made if there is none of this name
    #[arg(long)]
    model: ModelName,
    /// A request that the model answers, in JSON: the host warms it up with this; may be repeated
    #[arg(long = "sample", value_name = "FILE")]
    samples: Vec<PathBuf>,
    /// Let the version answer for its model at once
    #[arg(long)]
    deploy: bool,
    /// Why it is deployed, for the log of revisions
    #[arg(long, requires = "deploy")]
    comment: Option<String>,
}

#[derive(Deserialize)]
struct Uploaded {
    number: VersionNumber,
    digest: Digest,
    size_bytes: u64,
    signature: Signature,
    ensemble: Option<Ensemble>,
    deployed: Option<Revision>,
}

/// Uploads, and shows how it goes on.
///
/// # Errors
/// A file that is no model, or a host that does not take it.
pub fn run(arguments: &Push, session: &Session) -> Result<(), Failure> {
    let mut upload = component_file::open(&arguments.file, &arguments.samples)?;
    let name = arguments.file.file_name().unwrap_or_default().display().to_string();
    let progress = UploadProgress::start(&name, upload.length, "the host checks it and makes it ready");
    let mut bytes = progress.watch(&mut upload.bytes);
    let sent = Upload {
        method: Method::POST,
        path: &path(arguments),
        content_type: upload.content_type,
        length: upload.length,
        limit: "serving.max_upload_bytes",
    };
    let answer = session.client.upload(&sent, &mut bytes);
    drop(progress);
    session.show(&answer?, |answer| describe(arguments, answer))
}

fn path(arguments: &Push) -> String {
    let mut path = format!("/v1/models/{}/versions", arguments.model);
    if arguments.deploy {
        path.push_str("?deploy=true");
        if let Some(comment) = &arguments.comment {
            path.push_str("&comment=");
            path.extend(form_urlencoded::byte_serialize(comment.as_bytes()));
        }
    }
    path
}

fn describe(arguments: &Push, answer: &Answer) -> Result<String, Failure> {
    let Uploaded { number, digest, size_bytes, signature, ensemble, deployed } = answer.read()?;
    let model = &arguments.model;
    let first = if answer.is_created {
        format!("version {number} of {model} is ready: {}, {digest}", BinaryBytes(size_bytes))
    } else {
        format!("version {number} of {model} has these bytes already: {digest}")
    };
    let deployment = match deployed {
        Some(revision) => format!("deployed as revision {}", revision.number),
        None if arguments.deploy => "it is deployed already".to_owned(),
        None => format!("it answers by its number; for all requests: modelhost deploy {model} {number}"),
    };
    let steps = ensemble.map(|ensemble| format!("{}\n", steps(&ensemble))).unwrap_or_default();
    Ok(format!("{first}\n{}\n{steps}{deployment}", tensors(&signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push() -> Push {
        let model = "income".parse().unwrap();
        Push { file: "f".into(), model, samples: Vec::new(), deploy: false, comment: None }
    }

    fn described(is_created: bool, deploy: bool, deployed: &str) -> String {
        let digest = Digest::of(b"component");
        let text = format!(
            r#"{{"number":3,"digest":"{digest}","size_bytes":2048,"signature":{{"inputs":[],"outputs":[]}}{deployed}}}"#
        );
        let push = Push { deploy, comment: None, ..push() };
        describe(&push, &Answer { is_created, text }).unwrap()
    }

    #[test]
    fn what_became_of_an_upload_is_said() {
        let revision = r#","deployed":{"number":2,"time":"2026-01-02T03:04:05Z","traffic":[]}"#;
        let fresh = described(true, true, revision);
        assert!(fresh.starts_with("version 3 of income is ready: 2.00 KiB, sha256:"), "{fresh}");
        assert!(fresh.ends_with("deployed as revision 2"), "{fresh}");
        let again = described(false, true, "");
        assert!(
            again.contains("has these bytes already") && again.ends_with("it is deployed already"),
            "{again}"
        );
        assert!(described(true, false, "").ends_with("modelhost deploy income 3"));
    }

    #[test]
    fn a_comment_survives_the_query() {
        let push = Push { deploy: true, comment: Some("50 % & more".to_owned()), ..push() };
        assert_eq!(path(&push), "/v1/models/income/versions?deploy=true&comment=50+%25+%26+more");
        assert_eq!(path(&Push { deploy: false, comment: None, ..push }), "/v1/models/income/versions");
    }
}
