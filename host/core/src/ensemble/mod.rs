//! Ensembles: a model that is a pipeline of versions of other models. What an author declares, what that is once every
//! name stands for one version, whether it fits together, and which step is next. It knows no versions but by what they
//! take and answer, and runs nothing.
//!
//! The words are those of Triton's ensemble scheduling: each step maps its own inputs and outputs by name to tensors of the
//! ensemble.

mod check;
mod flow;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, ModelName, VersionNumber};

pub use check::InvalidEnsemble;
pub use flow::{EnsembleFlow, EnsemblePlan, ReadyStep, UnexpectedTensors};

/// Steps of one ensemble. More are a sign that something generates them.
pub const MAX_ENSEMBLE_STEPS: usize = 64;

/// Ensembles within ensembles, the outermost counted.
pub const MAX_ENSEMBLE_DEPTH: usize = 8;

/// A document that declares an ensemble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleDeclaration {
    /// What it does, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The pipeline.
    pub ensemble: DeclaredEnsemble,
}

/// A pipeline whose steps name models as people do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredEnsemble {
    /// The tensors that a request brings, in this order. Their types and shapes follow from the steps that take them.
    pub inputs: Vec<String>,
    /// The tensors that are answered, in this order.
    pub outputs: Vec<String>,
    /// The calls. Their order says nothing: a step runs as soon as its inputs are there.
    pub steps: Vec<DeclaredStep>,
}

/// A step that names a model as people do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredStep {
    /// `name@3`, `name@alias`, or `name` for the version that is deployed now.
    pub model: String,
    /// For each input of that version the tensor of the ensemble that it takes.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// For outputs of that version the names that they have in the ensemble; what is left out is dropped.
    pub outputs: BTreeMap<String, String>,
}

/// A pipeline of versions that never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ensemble {
    /// The tensors that a request brings, in this order.
    pub inputs: Vec<String>,
    /// The tensors that are answered, in this order.
    pub outputs: Vec<String>,
    /// The calls.
    pub steps: Vec<EnsembleStep>,
}

/// A call of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnsembleStep {
    /// The model.
    pub model: ModelName,
    /// Its version.
    pub version: VersionNumber,
    /// Of that version, which had this digest when the ensemble was made.
    pub digest: Digest,
    /// For each input of that version the tensor of the ensemble that it takes.
    pub inputs: BTreeMap<String, String>,
    /// For outputs of that version the names that they have in the ensemble.
    pub outputs: BTreeMap<String, String>,
}

impl Ensemble {
    /// Whether this version is one of its steps.
    pub fn names(&self, model: &ModelName, version: VersionNumber) -> bool {
        self.steps.iter().any(|step| step.version == version && step.model == *model)
    }

    /// What a sentence calls the step of this index.
    pub fn title(&self, step: usize) -> StepTitle<'_> {
        StepTitle { number: step + 1, step: self.steps.get(step) }
    }
}

/// A step in a sentence: `step 2 (spam version 3)`.
#[derive(Clone, Copy, Debug)]
pub struct StepTitle<'a> {
    number: usize,
    step: Option<&'a EnsembleStep>,
}

impl fmt::Display for StepTitle<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "step {}", self.number)?;
        match self.step {
            Some(EnsembleStep { model, version, .. }) => write!(formatter, " ({model} version {version})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod examples;
#[cfg(test)]
mod property_tests;
