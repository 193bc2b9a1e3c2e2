//! What is recorded about a job, and what is shown of it.

use jiff::Timestamp;
use modelhost_core::{Digest, ModelName, ScheduleName, VersionNumber};
use serde::{Deserialize, Serialize};

use super::progress::Pace;
use super::specification::JobSpecification;
use crate::datasets::DatasetReference;

/// Names a job: 1, 2, 3 …; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl std::fmt::Display for JobId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::str::FromStr for JobId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<JobId, Self::Err> {
        text.parse().map(JobId)
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits until others have ended.
    Queued,
    /// Works.
    Running,
    /// Waits until it is resumed.
    Paused,
    /// Has published its output. Final.
    Succeeded,
    /// Has stopped; what it has done is kept until it is deleted. Final, unless it is resumed.
    Failed,
    /// Was stopped, and what it had done was thrown away. Final.
    Cancelled,
}

impl JobState {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Paused => "paused",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Whether nothing goes on by itself any more.
    pub fn is_final(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }
}

/// Rows by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// All that the job has to answer for.
    pub total: u64,
    /// Those with a prediction.
    pub succeeded: u64,
    /// Those without: they are in the errors.
    pub failed: u64,
    /// Those that `where` left out.
    pub filtered: u64,
    /// Those that no part has committed yet.
    pub incomplete: u64,
}

/// Splits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitCounts {
    /// All of them.
    pub total: u64,
    /// Those that are done.
    pub done: u64,
}

/// The version of a model that a job asks, whatever is deployed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedModel {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: VersionNumber,
    /// The digest of that.
    pub digest: Digest,
}

/// Names a run of a schedule, also where another schedule had the same name before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOf {
    /// The schedule.
    pub schedule: ScheduleName,
    /// When that was made.
    pub created: Timestamp,
    /// The number of the run.
    pub run: u64,
}

impl std::fmt::Display for RunOf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "schedule {}, run {}", self.schedule, self.run)
    }
}

/// A job, as it is kept and as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Which one.
    pub id: JobId,
    /// How far it is.
    pub state: JobState,
    /// What was asked for.
    pub specification: JobSpecification,
    /// The dataset version that it reads.
    pub dataset: DatasetReference,
    /// The model version that it asks.
    pub model: ResolvedModel,
    /// The dataset version that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<DatasetReference>,
    /// The job whose failed rows it tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// The dataset version whose rows go before its own, where it tries failed rows again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<DatasetReference>,
    /// Who asked for it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The run of a schedule that it is the job of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_of: Option<RunOf>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it began to work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Why it failed, or was paused without being asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Rows by what became of them.
    pub rows: RowCounts,
    /// How many splits are done.
    pub splits: SplitCounts,
}

/// A job, with how fast it goes where it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// What is kept of it.
    #[serde(flatten)]
    pub job: Job,
    /// How fast it goes.
    #[serde(flatten)]
    pub pace: Pace,
}

impl std::ops::Deref for JobView {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}
