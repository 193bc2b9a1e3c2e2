//! Owns the list of example models: what each is called, what is deployed and how it is asked.
//!
//! A model's request and expected answer lie in a file of its own. It must not know whether a
//! host runs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::plugins;
use crate::workspace::Workspace;

/// One example model.
pub struct Example {
    pub model: &'static str,
    source: Source,
    /// `{"request": …, "response": …}`
    exchange: &'static str,
}

enum Source {
    /// The component of `plugins/NAME`.
    Plugin(&'static str),
    /// A file of the checkout, such as a plain network.
    File(&'static str),
}

/// Every example model.
pub const EXAMPLES: &[Example] = &[
    Example { model: "income", source: Source::Plugin("income"), exchange: "plugins/income/example.json" },
    Example { model: "spam", source: Source::Plugin("spam"), exchange: "plugins/spam/example.json" },
    Example {
        model: "recommender",
        source: Source::Plugin("recommender"),
        exchange: "plugins/recommender/example.json",
    },
    Example {
        model: "reranker",
        source: Source::Plugin("reranker"),
        exchange: "plugins/reranker/example.json",
    },
    Example { model: "hotel", source: Source::Plugin("hotel"), exchange: "plugins/hotel/example.json" },
    Example {
        model: "novelist",
        source: Source::Plugin("novelist"),
        exchange: "plugins/novelist/example.json",
    },
    Example {
        model: "similarity",
        source: Source::Plugin("similarity"),
        exchange: "plugins/similarity/example.json",
    },
    Example { model: "iris", source: Source::File("examples/iris.onnx"), exchange: "examples/iris.json" },
];

impl Example {
    /// What to deploy.
    pub fn file(&self, workspace: &Workspace) -> PathBuf {
        match self.source {
            Source::Plugin(name) => plugins::folder(workspace).join(format!("{name}.wasm")),
            Source::File(path) => workspace.root.join(path),
        }
    }

    /// A line that can be pasted into a shell.
    pub fn curl(&self, workspace: &Workspace, url: &str) -> Result<String> {
        let body = self.part(workspace, "request")?.to_string();
        Ok(format!("curl -s {url}/v2/models/{}/infer -d {}", self.model, quote(&body)))
    }

    /// What the answer must contain.
    pub fn expected(&self, workspace: &Workspace) -> Result<Value> {
        self.part(workspace, "response")
    }

    fn part(&self, workspace: &Workspace, part: &str) -> Result<Value> {
        let path = workspace.root.join(self.exchange);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let exchange: Value =
            serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        let found = exchange.get(part).with_context(|| format!("{} has no \"{part}\"", path.display()))?;
        Ok(found.clone())
    }
}

/// In single quotes a shell leaves everything alone but the single quote itself.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod proofs {
    use std::process::Command;

    use super::quote;

    #[test]
    fn a_shell_reads_quoted_text_back() {
        let text = r#"{"data": ["it's $HOME", "a\nb `x` \"y\""]}"#;
        let line = format!("printf %s {}", quote(text));
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
    }
}
