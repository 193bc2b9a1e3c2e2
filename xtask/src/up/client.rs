//! Owns talking to a running host: through the command line where a command exists, and through
//! the inference protocol for what serves.
//!
//! It must not know which models there are, or that this program started the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::environment;

/// A client of one host.
pub struct Client {
    binary: PathBuf,
    url: String,
}

/// What a model serves, as shown in a table.
pub struct Served {
    pub versions: String,
    pub digest: String,
    pub inputs: String,
}

/// A version that the host has.
#[derive(Debug, PartialEq)]
struct Version {
    number: String,
    digest: String,
}

impl Client {
    pub fn new(binary: PathBuf, url: String) -> Self {
        Self { binary, url }
    }

    /// Whether a model answers and has a version of this very file.
    ///
    /// A plain network becomes a component on its way, with a digest that is not the file's: any
    /// version of the model counts then.
    pub fn has(&self, model: &str, file: &Path) -> Result<bool> {
        let (status, _) = get(&format!("{}/v2/models/{model}/ready", self.url))?;
        if status != 200 {
            return Ok(false);
        }
        let versions = self.versions(model)?;
        if file.extension().is_none_or(|extension| extension != "wasm") {
            return Ok(!versions.is_empty());
        }
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(versions.iter().any(|version| version.digest.ends_with(&digest)))
    }

    /// Uploads a file and makes it answer.
    pub fn push(&self, model: &str, file: &Path) -> Result<()> {
        environment::run(self.command("push").arg(file).args(["--model", model, "--deploy"]))
    }

    /// What the host says at a path, such as `/v1/predictions/top-items`; none where it has nothing there.
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        let (status, body) = get(&format!("{}{path}", self.url))?;
        if status == 404 {
            return Ok(None);
        }
        ensure!(status == 200, "the host does not show {path}: {status} {body}");
        serde_json::from_str(&body).map(Some).with_context(|| format!("{path} is no JSON"))
    }

    /// Any command of the host's own client.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        let Some((command, rest)) = arguments.split_first() else { return Ok(()) };
        environment::run(self.command(command).args(rest))
    }

    /// What answers for a model.
    pub fn served(&self, model: &str) -> Result<Served> {
        let (status, metadata) = get(&format!("{}/v2/models/{model}", self.url))?;
        ensure!(status == 200, "the host does not describe {model}: {status} {metadata}");
        let metadata: Value =
            serde_json::from_str(&metadata).context("the description of a model is no JSON")?;
        let numbers = serving_versions(&metadata);
        let digests: Vec<String> = self
            .versions(model)?
            .into_iter()
            .filter(|version| numbers.contains(&version.number))
            .map(|version| short(&version.digest))
            .collect();
        Ok(Served { versions: numbers.join(", "), digest: digests.join(", "), inputs: inputs(&metadata) })
    }

    fn versions(&self, model: &str) -> Result<Vec<Version>> {
        let listing = environment::read(self.command("versions").args([model, "--json"]))?;
        let listing: Value = serde_json::from_str(&listing).context("the list of versions is no JSON")?;
        Ok(parse_versions(&listing))
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.args([name, "--url", &self.url]);
        command
    }
}

/// Status and body of a page; an error only when there is no answer.
pub fn get(url: &str) -> Result<(u16, String)> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .proxy(None)
        .build();
    let mut response =
        ureq::Agent::from(config).get(url).call().with_context(|| format!("no answer from {url}"))?;
    let body = response.body_mut().read_to_string().with_context(|| format!("half an answer from {url}"))?;
    Ok((response.status().as_u16(), body))
}

/// A list of versions, alone or under a key.
fn parse_versions(listing: &Value) -> Vec<Version> {
    let list = listing.as_array().or_else(|| listing.get("versions")?.as_array());
    list.into_iter()
        .flatten()
        .filter_map(|entry| {
            let number = entry.get("version").or_else(|| entry.get("number"))?;
            let number = number.as_str().map_or_else(|| number.to_string(), str::to_owned);
            Some(Version { number, digest: entry.get("digest")?.as_str()?.to_owned() })
        })
        .collect()
}

fn serving_versions(metadata: &Value) -> Vec<String> {
    let versions = metadata.get("versions").and_then(Value::as_array);
    versions.into_iter().flatten().filter_map(|version| version.as_str().map(str::to_owned)).collect()
}

fn inputs(metadata: &Value) -> String {
    let inputs = metadata.get("inputs").and_then(Value::as_array);
    let shown = inputs.into_iter().flatten().map(|input| {
        let text = |key: &str| input.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
        let shape = input.get("shape").map(Value::to_string).unwrap_or_default();
        format!("{} {}{shape}", text("name"), text("datatype"))
    });
    shown.collect::<Vec<_>>().join("\n")
}

fn short(digest: &str) -> String {
    let hexadecimal = digest.rsplit(':').next().unwrap_or(digest);
    hexadecimal.chars().take(12).collect()
}

#[cfg(test)]
mod proofs {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_read_alone_or_under_a_key() {
        let expected = [Version { number: "2".to_owned(), digest: "sha256:ab".to_owned() }];
        assert_eq!(parse_versions(&json!([{"version": 2, "digest": "sha256:ab"}])), expected);
        assert_eq!(parse_versions(&json!({"versions": [{"number": "2", "digest": "sha256:ab"}]})), expected);
        assert_eq!(parse_versions(&json!({"error": "no"})), []);
    }

    #[test]
    fn inputs_are_shown_with_type_and_shape() {
        let metadata = json!({"inputs": [{"name": "age", "datatype": "FP32", "shape": [-1, 1]}]});
        assert_eq!(inputs(&metadata), "age FP32[-1,1]");
    }

    #[test]
    fn a_short_digest_has_no_prefix() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
    }
}
