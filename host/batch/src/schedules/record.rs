//! What is recorded about a schedule and its runs, and what is shown of them.

use jiff::Timestamp;
use modelhost_core::{ErrorCode, ScheduleName};
use serde::{Deserialize, Serialize};

use super::timing::Times;
use crate::Error;
use crate::jobs::{JobId, JobSpecification};

/// What starts a job again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpecification {
    /// Five fields (minute, hour, day of month, month, day of week), or six with seconds in front.
    pub cron: String,
    /// A name of the IANA time zone database, such as `Europe/Lisbon`. Default `UTC`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// What happens to runs that were due while the host did not run. Default `skip`.
    #[serde(default)]
    pub missed: MissedRuns,
    /// The job. The latest version of a dataset, and an alias of a model, are looked up at each run.
    pub job: JobSpecification,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl ScheduleSpecification {
    /// When it is due.
    pub(super) fn times(&self, now: Timestamp) -> Result<Times, Error> {
        Times::read(&self.cron, &self.time_zone, now)
            .map_err(|error| Error::new(ErrorCode::InvalidArgument, error.to_string()))
    }
}

/// What happens to runs that were due while the host did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissedRuns {
    /// Nothing.
    #[default]
    Skip,
    /// One run makes up for all of them, when the host starts.
    RunOnce,
}

/// A schedule, as it is kept and as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Which one.
    pub name: ScheduleName,
    /// What it does.
    pub specification: ScheduleSpecification,
    /// Whether it does nothing at its times.
    pub paused: bool,
    /// Who made it or changed it last, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Whatever was due until then was seen to.
    pub seen_until: Timestamp,
    /// The number that the next run will have.
    pub next_run: u64,
    /// For when the run was due that makes up for those that were missed while the host did not run, as long as it has
    /// to wait for the end of one that was under way before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed: Option<Timestamp>,
}

/// A schedule, with what is about to happen and what happened last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleView {
    /// What is kept of it.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// When it is due next; none where it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<Timestamp>,
    /// The last run, which may be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Run>,
}

/// A run of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// 1, 2, 3 … per schedule.
    pub number: u64,
    /// Why it took place.
    pub cause: Cause,
    /// For when it was due.
    pub due: Timestamp,
    /// When it began.
    pub started: Timestamp,
    /// Its job; none until it is made, or where it could not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// How it is, or went.
    pub outcome: Outcome,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How often the schedule was due while this run was under way. Those runs did not take place.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub overlapped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why a run took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was due.
    Due,
    /// It makes up for runs that were missed while the host did not run.
    Missed,
    /// Somebody asked for it.
    Asked,
}

/// How a run is, or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its job is under way, or about to be made.
    Running,
    /// Its job has published its output.
    Succeeded,
    /// Its job failed, or could not be made.
    Failed,
    /// Its job was cancelled.
    Cancelled,
    /// It did not take place: it was due while the host did not run. It stands for all that were.
    Skipped,
}

impl Run {
    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.outcome != Outcome::Running
    }
}
