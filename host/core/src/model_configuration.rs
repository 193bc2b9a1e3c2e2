//! How an operator wants a model to be served: which engine, how much of the machine, which batches. The words are
//! those of Triton's model configuration where it has them. Nothing here says what a value does when it is not set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::TableName;

/// A library that runs graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// The library that is built in.
    Tract,
    /// ONNX Runtime, which is loaded from a shared library where there is one.
    OnnxRuntime,
}

impl EngineName {
    /// Every engine, the one that is always there first.
    pub const ALL: [EngineName; 2] = [EngineName::Tract, EngineName::OnnxRuntime];

    /// The name in configurations and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            EngineName::Tract => "tract",
            EngineName::OnnxRuntime => "onnxruntime",
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Which engine is to run the graphs of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnginePreference {
    /// For each graph the one that was chosen for it when the version was uploaded.
    #[default]
    Auto,
    /// The built-in engine for every graph.
    Tract,
    /// ONNX Runtime for every graph.
    OnnxRuntime,
}

impl EnginePreference {
    /// The engine that is asked for; none for [`EnginePreference::Auto`].
    pub const fn engine(self) -> Option<EngineName> {
        match self {
            EnginePreference::Auto => None,
            EnginePreference::Tract => Some(EngineName::Tract),
            EnginePreference::OnnxRuntime => Some(EngineName::OnnxRuntime),
        }
    }
}

impl From<EngineName> for EnginePreference {
    fn from(engine: EngineName) -> EnginePreference {
        match engine {
            EngineName::Tract => EnginePreference::Tract,
            EngineName::OnnxRuntime => EnginePreference::OnnxRuntime,
        }
    }
}

impl FromStr for EnginePreference {
    type Err = String;

    fn from_str(text: &str) -> Result<EnginePreference, String> {
        let known = |engine: &EngineName| engine.as_str() == text;
        match (text, EngineName::ALL.into_iter().find(known)) {
            ("auto", _) => Ok(EnginePreference::Auto),
            (_, Some(EngineName::Tract)) => Ok(EnginePreference::Tract),
            (_, Some(EngineName::OnnxRuntime)) => Ok(EnginePreference::OnnxRuntime),
            _ => Err("expected auto, tract or onnxruntime".to_owned()),
        }
    }
}

/// How a model is served. What is not set follows the configuration of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfiguration {
    /// Which engine runs the model's graphs.
    pub engine: EnginePreference,
    /// The model's share of the machine beside other models that are busy at the same moment: one of weight 2 gets
    /// twice as much as one of weight 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<NonZeroU32>,
    /// Requests that run at one moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_requests: Option<NonZeroU32>,
    /// Requests that wait for their turn; more are refused as overloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queued_requests: Option<u32>,
    /// How calls of the model's graphs are put together.
    pub dynamic_batching: DynamicBatching,
    /// The same for single graphs, by the names under which the plugin carries them; what is not set there follows
    /// [`ModelConfiguration::dynamic_batching`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub graphs: BTreeMap<String, DynamicBatching>,
    /// The prediction tables that its plugin may read, by name; they need not exist yet.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub prediction_tables: BTreeSet<TableName>,
}

/// The largest weight. What matters is how weights compare: more than this says nothing more.
const MAX_WEIGHT: u32 = 10_000;

/// The longest that a call may wait for others to join it. A batch that takes longer to gather is a batch job.
const MAX_QUEUE_DELAY_MICROSECONDS: u64 = 10_000_000;

/// A value that no configuration can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: expected {expected}")]
pub struct InvalidConfiguration {
    /// The field, such as `graphs.encoder.max_queue_delay_microseconds`.
    pub field: String,
    /// What was given.
    pub value: u64,
    /// What may be given.
    pub expected: String,
}

impl ModelConfiguration {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == ModelConfiguration::default()
    }

    /// Checks what the types of the fields leave open.
    ///
    /// # Errors
    /// [`InvalidConfiguration`] for the first field that is out of range.
    pub fn check(&self) -> Result<(), InvalidConfiguration> {
        if let Some(weight) = self.weight.filter(|weight| weight.get() > MAX_WEIGHT) {
            return Err(InvalidConfiguration {
                field: "weight".to_owned(),
                value: weight.get().into(),
                expected: format!("1 to {MAX_WEIGHT}"),
            });
        }
        self.dynamic_batching.check("dynamic_batching")?;
        self.graphs.iter().try_for_each(|(name, batching)| batching.check(&format!("graphs.{name}")))
    }
}

/// How calls that wait for a graph at the same moment are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamicBatching {
    /// Rows of one execution; 1 runs every call alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch_size: Option<NonZeroU32>,
    /// Microseconds that a call waits for others to join it. 0: only those that wait already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue_delay_microseconds: Option<u64>,
    /// Calls that wait for the graph; more are refused as overloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue_size: Option<NonZeroU32>,
}

impl DynamicBatching {
    /// This, and what `other` says about what is not set here.
    #[must_use]
    pub fn or(self, other: DynamicBatching) -> DynamicBatching {
        DynamicBatching {
            max_batch_size: self.max_batch_size.or(other.max_batch_size),
            max_queue_delay_microseconds: self
                .max_queue_delay_microseconds
                .or(other.max_queue_delay_microseconds),
            max_queue_size: self.max_queue_size.or(other.max_queue_size),
        }
    }

    fn check(&self, field: &str) -> Result<(), InvalidConfiguration> {
        match self.max_queue_delay_microseconds {
            Some(value) if value > MAX_QUEUE_DELAY_MICROSECONDS => Err(InvalidConfiguration {
                field: format!("{field}.max_queue_delay_microseconds"),
                value,
                expected: format!("at most {MAX_QUEUE_DELAY_MICROSECONDS}"),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        let weight = NonZeroU32::new(MAX_WEIGHT + 1);
        let heavy = ModelConfiguration { weight, ..ModelConfiguration::default() };
        assert_eq!(heavy.check().unwrap_err().to_string(), "weight is 10001: expected 1 to 10000");
        let slow =
            DynamicBatching { max_queue_delay_microseconds: Some(u64::MAX), ..DynamicBatching::default() };
        let graphs = BTreeMap::from([("encoder".to_owned(), slow)]);
        let late = ModelConfiguration { graphs, ..ModelConfiguration::default() };
        let sentence = late.check().unwrap_err().to_string();
        assert!(sentence.starts_with("graphs.encoder.max_queue_delay_microseconds is"), "{sentence}");
        assert_eq!(ModelConfiguration::default().check(), Ok(()));
    }

    #[test]
    fn what_a_graph_leaves_open_follows_the_model() {
        let one = NonZeroU32::new(1);
        let graph = DynamicBatching { max_batch_size: one, ..DynamicBatching::default() };
        let model = DynamicBatching {
            max_batch_size: NonZeroU32::new(8),
            max_queue_delay_microseconds: Some(50),
            max_queue_size: None,
        };
        let together = graph.or(model);
        assert_eq!((together.max_batch_size, together.max_queue_delay_microseconds), (one, Some(50)));
    }

    #[test]
    fn the_default_is_written_with_its_engine_alone() {
        assert!(ModelConfiguration::default().is_default());
        assert_eq!("onnxruntime".parse(), Ok(EnginePreference::OnnxRuntime));
        assert!("Tract".parse::<EnginePreference>().is_err());
    }
}
