//! What an operator says about a table, and what is recorded of it.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use jiff::Timestamp;
use modelhost_core::{AliasName, DatasetName, ErrorCode, ModelName, Parameter, TableName, VersionNumber};
use modelhost_serving::VersionSelector;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::datasets::{DatasetCard, DatasetReference, Lineage};

/// How a table is made and read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSettings {
    /// The column that rows are found by: whole numbers or strings, each once.
    pub key: String,
    /// The dataset whose versions are published, where a publication does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetName>,
    /// The age from which on predictions are stale, counted from when predicting began. None: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<NonZeroU64>,
    /// What is answered then. By default what there is, marked as stale.
    #[serde(default)]
    pub when_stale: WhenStale,
    /// The model that answers where the table cannot. None: it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveSettings>,
    /// Versions that are kept, the current one among them. By default 3.
    #[serde(default = "default_kept")]
    pub keep_versions: NonZeroU32,
}

fn default_kept() -> NonZeroU32 {
    const { NonZeroU32::new(3).expect("three is not zero") }
}

/// What is answered when predictions are older than they may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenStale {
    /// They are, and marked as stale.
    #[default]
    ServeStale,
    /// What the model says now; where it cannot be asked, the stale ones, marked.
    Live,
}

/// The model that answers where a table cannot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveSettings {
    /// Which model.
    pub model: ModelName,
    /// Which version of it. None: what is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<LiveVersion>,
    /// The table, with the same keys, that has the inputs, in columns that are called like them. None: clients send them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<TableName>,
    /// Parameters that go with every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Parameter>,
}

/// A version by its number, or by a name that may move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the number of a version or an alias")]
pub enum LiveVersion {
    /// This version.
    Number(VersionNumber),
    /// Whatever the alias points at.
    Alias(AliasName),
}

impl LiveSettings {
    pub(super) fn selector(&self) -> VersionSelector {
        match &self.version {
            None => VersionSelector::Deployed,
            Some(LiveVersion::Number(number)) => VersionSelector::Number(*number),
            Some(LiveVersion::Alias(alias)) => VersionSelector::Alias(alias.clone()),
        }
    }
}

impl TableSettings {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`].
    pub(super) fn check(&self, name: &TableName) -> Result<(), Error> {
        let refuse = |sentence: &str| Err(Error::new(ErrorCode::InvalidArgument, sentence));
        if self.key.is_empty() {
            return refuse("key is empty: expected the name of a column");
        }
        if self.when_stale == WhenStale::Live && self.live.is_none() {
            return refuse("when_stale is live, but no model is named: expected live with a model");
        }
        match self.live.as_ref().and_then(|live| live.features.as_ref()) {
            Some(features) if features == name => refuse("live.features names the table itself"),
            _ => Ok(()),
        }
    }
}

/// A table as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// What it is called.
    pub name: TableName,
    /// What the operator says about it.
    pub settings: TableSettings,
    /// The version that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<VersionNumber>,
    /// Those that are kept, oldest first.
    pub versions: Vec<TableVersion>,
    /// The number of the version that is published next.
    pub next_version: VersionNumber,
}

/// One state of a table. Immutable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableVersion {
    /// 1, 2, 3 … per table; never used twice.
    pub number: VersionNumber,
    /// What it was made of.
    pub dataset: DatasetReference,
    /// What that was made of, where a job made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// What may be done with it, and which columns are sensitive: the card of the dataset, without its description.
    #[serde(default)]
    pub card: DatasetCard,
    /// When predicting began, or the dataset was made by hand: from here on the predictions age.
    pub predicted: Timestamp,
    /// When it was published.
    pub published: Timestamp,
    /// By whom, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Rows: keys.
    pub rows: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// What the file can be told by: the checksum of its footer, which has those of the rest.
    pub checksum: u32,
    /// What its keys are.
    pub key_kind: KeyKind,
    /// What is found under a key.
    pub columns: Vec<TableColumn>,
}

/// What the keys of a version are, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Whole numbers of 64 bits.
    Integer,
    /// Strings.
    Text,
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            KeyKind::Integer => "whole numbers",
            KeyKind::Text => "strings",
        })
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableColumn {
    /// What it is called.
    pub name: String,
    /// Its type, as Arrow calls it.
    #[serde(rename = "type")]
    pub data_type: String,
}

impl Table {
    pub(super) fn version(&self, number: VersionNumber) -> Option<&TableVersion> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// Makes this version the one that answers, and forgets those that are too many. Answers what was forgotten.
    pub(super) fn add(&mut self, version: TableVersion) -> Vec<VersionNumber> {
        self.current = Some(version.number);
        self.next_version = VersionNumber(version.number.0 + 1);
        self.versions.push(version);
        self.forget_old()
    }

    /// Forgets the oldest versions, but never the one that answers.
    pub(super) fn forget_old(&mut self) -> Vec<VersionNumber> {
        let kept = self.settings.keep_versions.get() as usize;
        let mut forgotten = Vec::new();
        while self.versions.len() > kept {
            let oldest = self.versions.iter().position(|version| Some(version.number) != self.current);
            let Some(oldest) = oldest else { break };
            forgotten.push(self.versions.remove(oldest).number);
        }
        forgotten
    }

    /// The version that a rollback restores: the one that is asked for, or the newest before the one that answers.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] for a version that is not kept, [`ErrorCode::Conflict`] where there is none to restore.
    pub(super) fn rollback_target(&self, asked: Option<VersionNumber>) -> Result<VersionNumber, Error> {
        let name = &self.name;
        if let Some(number) = asked {
            let missing = || {
                let kept: Vec<String> =
                    self.versions.iter().map(|version| version.number.to_string()).collect();
                let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
                let sentence = format!("table {name} has no version {number}: it keeps {kept}");
                Error::new(ErrorCode::NotFound, sentence)
            };
            return self.version(number).map(|version| version.number).ok_or_else(missing);
        }
        let before = self.versions.iter().rev().find(|version| Some(version.number) < self.current);
        before.map(|version| version.number).ok_or_else(|| {
            Error::new(
                ErrorCode::Conflict,
                format!("table {name} keeps no version before the one that answers"),
            )
        })
    }
}
