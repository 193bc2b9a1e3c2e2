//! `schedules`: jobs that start at their times.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use modelhost_batch::schedules::{MissedRuns, Outcome, Run, ScheduleView};
use modelhost_core::ScheduleName;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::Session;
use super::models::moment;
use crate::client::Answer;
use crate::failure::Failure;
use crate::table;

/// What to do with schedules; without a command they are listed.
#[derive(Debug, Args)]
pub struct Schedules {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the schedules
    List,
    /// Make a schedule, or replace what one does
    Add(Add),
    /// Show a schedule
    Show(Which),
    /// List the last runs, the newest first
    History(Which),
    /// Do nothing at its times until it is resumed; a run that is under way goes on
    Pause(Which),
    /// Go on with what is due from now on
    Resume(Which),
    /// Begin a run now
    RunNow(Which),
    /// Delete a schedule and its history
    Delete(Which),
}

/// A schedule.
#[derive(Debug, Args)]
struct Which {
    /// The schedule
    schedule: ScheduleName,
}

/// What starts when.
#[derive(Debug, Args)]
struct Add {
    /// The schedule
    schedule: ScheduleName,
    /// Minute, hour, day of month, month and day of week, such as "0 3 * * *"; with a sixth field in front, seconds
    #[arg(long)]
    cron: String,
    /// The time zone of that, by its IANA name
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// What happens to runs that were due while the host did not run: skip, or run-once for all of them together
    #[arg(long, value_name = "WHAT", value_parser = missed, default_value = "skip")]
    missed: MissedRuns,
    /// The job, as TOML or JSON, as `POST /v1/jobs` takes it
    #[arg(long, value_name = "FILE")]
    job: PathBuf,
}

#[derive(Deserialize)]
struct Listing {
    schedules: Vec<ScheduleView>,
}

#[derive(Deserialize)]
struct Runs {
    runs: Vec<Run>,
}

/// Does what was typed.
///
/// # Errors
/// As for all requests.
pub fn run(arguments: &Schedules, session: &Session) -> Result<(), Failure> {
    match &arguments.command {
        None | Some(Command::List) => list(session),
        Some(Command::Add(arguments)) => add(arguments, session),
        Some(Command::Show(which)) => session.show(&session.client.get(&path(which, ""))?, describe),
        Some(Command::History(which)) => session.show(&session.client.get(&path(which, "/runs"))?, history),
        Some(Command::Pause(which)) => change(which, "pause", session),
        Some(Command::Resume(which)) => change(which, "resume", session),
        Some(Command::RunNow(which)) => run_now(which, session),
        Some(Command::Delete(which)) => {
            let answer = session.client.delete(&path(which, ""), None)?;
            session.show(&answer, |_| Ok(format!("schedule {} is deleted", which.schedule)))
        }
    }
}

fn path(which: &Which, rest: &str) -> String {
    format!("/v1/schedules/{}{rest}", which.schedule)
}

fn list(session: &Session) -> Result<(), Failure> {
    session.show(&session.client.get("/v1/schedules")?, |answer| {
        let Listing { schedules } = answer.read()?;
        if schedules.is_empty() {
            return Ok("no schedules yet: modelhost schedules add NAME --cron … --job FILE".to_owned());
        }
        let header = ["schedule", "cron", "time zone", "next", "last run", "outcome"];
        let row = |view: &ScheduleView| {
            let specification = &view.schedule.specification;
            let last = view.last_run.as_ref();
            [
                view.schedule.name.to_string(),
                specification.cron.clone(),
                specification.time_zone.clone(),
                next(view),
                last.map(|run| moment(run.started)).unwrap_or_default(),
                last.map(outcome).unwrap_or_default(),
            ]
        };
        Ok(table::rows(header, schedules.iter().map(row)))
    })
}

fn add(arguments: &Add, session: &Session) -> Result<(), Failure> {
    let body = json!({
        "cron": arguments.cron,
        "time_zone": arguments.time_zone,
        "missed": arguments.missed,
        "job": read_job(&arguments.job)?,
    });
    let path = format!("/v1/schedules/{}", arguments.schedule);
    let answer = session.client.send(Method::PUT, &path, &body, None)?;
    session.show(&answer, |answer| {
        let view: ScheduleView = answer.read()?;
        let done = if answer.is_created { "is made" } else { "is changed" };
        Ok(format!("schedule {} {done}: {}", view.schedule.name, next(&view)))
    })
}

/// TOML, unless the file's name says JSON. What is in it is for the host to judge.
fn read_job(path: &Path) -> Result<Value, Failure> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let wrong = || format!("{} is no job", path.display());
    let job = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).with_context(wrong)?
    } else {
        toml::from_str(&text).with_context(wrong)?
    };
    Ok(job)
}

fn change(which: &Which, what: &str, session: &Session) -> Result<(), Failure> {
    let answer = session.client.post_text(&path(which, &format!("/{what}")), "{}")?;
    session.show(&answer, |answer| {
        let view: ScheduleView = answer.read()?;
        Ok(format!("schedule {}: {}", view.schedule.name, next(&view)))
    })
}

fn run_now(which: &Which, session: &Session) -> Result<(), Failure> {
    let answer = session.client.post_text(&path(which, "/run"), "{}")?;
    session.show(&answer, |answer| {
        let run: Run = answer.read()?;
        Ok(format!("run {} of schedule {}: {}", run.number, which.schedule, outcome(&run)))
    })
}

fn describe(answer: &Answer) -> Result<String, Failure> {
    let view: ScheduleView = answer.read()?;
    let specification = &view.schedule.specification;
    let missed = match specification.missed {
        MissedRuns::Skip => "are skipped",
        MissedRuns::RunOnce => "are made up for by one run",
    };
    let last = view.last_run.as_ref();
    Ok(table::properties([
        ("schedule", view.schedule.name.to_string()),
        ("cron", specification.cron.clone()),
        ("time zone", specification.time_zone.clone()),
        ("missed runs", missed.to_owned()),
        ("next", next(&view)),
        (
            "last run",
            last.map(|run| format!("{}, {}", moment(run.started), outcome(run))).unwrap_or_default(),
        ),
        ("dataset", specification.job.dataset.clone()),
        ("model", specification.job.model.clone()),
        ("output", specification.job.output.dataset.clone()),
        ("by", view.schedule.by.clone().unwrap_or_default()),
        ("created", moment(view.schedule.created)),
    ]))
}

fn history(answer: &Answer) -> Result<String, Failure> {
    let Runs { runs } = answer.read()?;
    let header = ["run", "cause", "due", "started", "ended", "job", "outcome", "overlapped"];
    let row = |run: &Run| {
        [
            run.number.to_string(),
            text(&run.cause),
            moment(run.due),
            moment(run.started),
            run.ended.map(moment).unwrap_or_default(),
            run.job.map(|job| job.to_string()).unwrap_or_default(),
            outcome(run),
            if run.overlapped == 0 { String::new() } else { run.overlapped.to_string() },
        ]
    };
    Ok(table::rows(header, runs.iter().map(row)))
}

fn next(view: &ScheduleView) -> String {
    match view.next_due {
        _ if view.schedule.paused => "paused".to_owned(),
        Some(due) => format!("next {}", moment(due)),
        None => "never due again".to_owned(),
    }
}

fn outcome(run: &Run) -> String {
    match (&run.outcome, &run.error, run.job) {
        (Outcome::Running, _, Some(job)) => format!("running as job {job}"),
        (outcome, Some(error), _) => format!("{}: {error}", text(outcome)),
        (outcome, None, _) => text(outcome),
    }
}

/// A word of the API.
fn text(word: &impl serde::Serialize) -> String {
    serde_json::to_value(word).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn missed(text: &str) -> Result<MissedRuns, String> {
    match text {
        "skip" => Ok(MissedRuns::Skip),
        "run-once" => Ok(MissedRuns::RunOnce),
        _ => Err("expected skip or run-once".to_owned()),
    }
}
