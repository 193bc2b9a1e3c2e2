//! What the author of a component puts into it beside code and networks: what it is, and requests to try it with.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The standard metadata of a component, as `wasm-tools metadata` reads and writes it. All of it is the
/// author's word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ComponentMetadata {
    /// The component's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The author's own version, such as `1.4.0`; not a version number of modelhost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the component does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authors: Option<String>,
    /// An SPDX licence expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licenses: Option<String>,
    /// Where the source code is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where to read more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// The revision of the source code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// A request that a component brings along, in a custom section: where in the component's file its JSON lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleSection {
    /// The name.
    pub name: String,
    /// Where it begins, in bytes from the start of the component.
    pub offset: u64,
    /// How many bytes it has.
    pub size_bytes: u64,
}

/// What a component can do beside answering one request with one response, as its exports and custom sections say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Whether it answers a request with many responses where it is asked to.
    pub streaming: bool,
    /// What it is good for, under the names that model hubs use, such as `text-generation`.
    pub tasks: BTreeSet<String>,
}

impl Capabilities {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Capabilities::default()
    }
}
