//! The records that callers see: models, versions, revisions. All of them serialize as the HTTP API shows them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use modelhost_core::{
    AliasName, Capabilities, ComponentMetadata, Digest, EngineChoice, Ensemble, GraphDescription,
    ModelConfiguration, ModelName, SampleSection, Signature, VersionNumber,
};
use serde::{Deserialize, Serialize};

/// A served name with all that belongs to it, as it was at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The name.
    pub name: ModelName,
    /// Grows by one with each change; what HTTP calls the entity tag.
    pub generation: u64,
    /// The versions that exist, in ascending order of their numbers; never empty.
    pub versions: Vec<Version>,
    /// Movable names, each for a version that exists.
    pub aliases: BTreeMap<AliasName, VersionNumber>,
    /// The newest revision; none until something was deployed.
    pub deployment: Option<Revision>,
    /// How an operator wants it to be served; left out where nothing was configured.
    #[serde(default, skip_serializing_if = "ModelConfiguration::is_default")]
    pub configuration: ModelConfiguration,
    /// The number that the next version will have. Numbers are never used twice.
    pub next_version: VersionNumber,
}

impl Model {
    /// The version with that number.
    pub fn version(&self, number: VersionNumber) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }
}

/// One uploaded component, or one declared ensemble: immutable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// 1, 2, 3 … per model.
    pub number: VersionNumber,
    /// Of the component; of an ensemble that of its [file](crate::ensemble_file).
    pub digest: Digest,
    /// Of the same, in bytes.
    pub size_bytes: u64,
    /// When it was added.
    pub created: Timestamp,
    /// By whom, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_by: Option<String>,
    /// What it takes and answers.
    pub signature: Signature,
    /// The networks it carries.
    pub graphs: Vec<GraphArtifact>,
    /// The requests that it brings along, which warm it up whenever it is loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<SampleSection>,
    /// What it can do beside answering one request with one response. Nothing in records of hosts that did not ask.
    #[serde(default, skip_serializing_if = "Capabilities::is_empty")]
    pub capabilities: Capabilities,
    /// What its author says about it.
    pub metadata: ComponentMetadata,
    /// Of the machine code that was made of it at upload, in bytes.
    pub compiled_size_bytes: u64,
    /// For an ensemble: its steps. It has no component then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<Ensemble>,
}

/// A version that is to be added: everything that is known before it has a number.
#[derive(Clone, Debug, PartialEq)]
pub struct NewVersion {
    /// Of the component, or the file of the ensemble, which is stored already.
    pub digest: Digest,
    /// Of the same, in bytes.
    pub size_bytes: u64,
    /// By whom, where that is known.
    pub uploaded_by: Option<String>,
    /// What it takes and answers.
    pub signature: Signature,
    /// The networks it carries, which are stored already.
    pub graphs: Vec<GraphArtifact>,
    /// The requests that it brings along.
    pub samples: Vec<SampleSection>,
    /// What it can do beside answering one request with one response.
    pub capabilities: Capabilities,
    /// What its author says about it.
    pub metadata: ComponentMetadata,
    /// Of the machine code that was made of it, in bytes.
    pub compiled_size_bytes: u64,
    /// For an ensemble: its steps, which must be versions that exist.
    pub ensemble: Option<Ensemble>,
}

/// A network that a component carries, stored as a file of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphArtifact {
    /// Its name, inputs and outputs.
    #[serde(flatten)]
    pub description: GraphDescription,
    /// Of the file.
    pub digest: Digest,
    /// Of the file, in bytes.
    pub size_bytes: u64,
    /// The engine that was chosen for it. None in records of hosts that had only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_choice: Option<EngineChoice>,
}

/// One state of a model's deployment; an entry of a log that only grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// 1, 2, 3 … per model.
    pub number: u64,
    /// When it was made.
    pub time: Timestamp,
    /// Which versions answer; empty where the model was unloaded.
    pub traffic: Vec<TrafficShare>,
    /// Who made it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// For a rollback: the number of the older revision that this one restores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
}

impl Revision {
    /// Whether it takes the model out of service: no version of it answers, under any name, until a later revision.
    pub fn is_unloading(&self) -> bool {
        self.traffic.is_empty()
    }

    /// Whether this version answers requests under this revision.
    pub fn names(&self, version: VersionNumber) -> bool {
        self.traffic.iter().any(|share| share.version == version)
    }
}

/// How much of a model's traffic a version answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficShare {
    /// The version.
    pub version: VersionNumber,
    /// 0 to 100.
    pub percent: u8,
}

impl TrafficShare {
    /// All traffic to one version.
    pub fn all(version: VersionNumber) -> TrafficShare {
        TrafficShare { version, percent: 100 }
    }
}

/// What is to be deployed, by whom and why. A rollback is [`crate::Registry::rollback`] instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentChange {
    /// For now exactly one version with 100 percent.
    pub traffic: Vec<TrafficShare>,
    /// Who asks for it, where that is known.
    pub by: Option<String>,
    /// Why.
    pub comment: Option<String>,
}

/// What became of a version that was to be added.
#[derive(Clone, Debug, PartialEq)]
pub struct Added {
    /// The version, new or not.
    pub version: Version,
    /// False where the model already had a version of the same bytes, and nothing was changed.
    pub created: bool,
    /// The generation of the model now.
    pub generation: u64,
}
