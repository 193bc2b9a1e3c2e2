//! Which engine was found best for a graph, and why: what is recorded of a comparison. How engines are compared is
//! for others to know.

use serde::{Deserialize, Serialize};

use crate::EngineName;

/// The engine that was chosen for a graph when it was uploaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineChoice {
    /// The engine.
    pub engine: EngineName,
    /// Why, in one sentence.
    pub reason: String,
    /// What was found out about each engine that was there.
    pub candidates: Vec<EngineCandidate>,
    /// How far the engines' outputs were apart at most, as a multiple of what is tolerated: 1 is just within. None where
    /// they were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_difference: Option<f64>,
}

/// What was found out about an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineCandidate {
    /// The engine.
    pub engine: EngineName,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How long it took for the inputs that it was tried with, where it was timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_microseconds: Option<f64>,
    /// Why it does not run the graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
