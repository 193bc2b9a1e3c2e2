//! A job on its way, as a bar on a terminal and plain lines elsewhere, all on standard error. What it has come to goes
//! to standard output.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use modelhost_batch::jobs::{JobState, JobView};

use super::Session;
use super::shown;
use crate::failure::Failure;

/// How long a host that has answered before may be away.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between one connection and the next.
const PAUSE: Duration = Duration::from_millis(500);

/// Watches a job until it is final or paused, and shows what it has come to.
///
/// # Errors
/// A job that does not exist, or that did not succeed.
pub fn to_the_end(session: &Session, job: u64) -> Result<(), Failure> {
    let mut shown = Shown::new(job);
    let mut last_heard = None;
    loop {
        match look(session, job, &mut shown, &mut last_heard) {
            Ok(None) => {}
            Ok(Some(outcome)) => return outcome,
            // A host that restarts goes on with its jobs. One that was never there is not waited for.
            Err(error) => match last_heard {
                Some(heard) if is_away(&error) && Instant::now() - heard < PATIENCE => shown.wait(),
                _ => return Err(error),
            },
        }
        std::thread::sleep(PAUSE);
    }
}

/// Watches a job until it has stopped, or the connection ends: none then, as the job may go on without it.
fn look(
    session: &Session,
    job: u64,
    shown: &mut Shown,
    last_heard: &mut Option<Instant>,
) -> Result<Option<Result<(), Failure>>, Failure> {
    let events = BufReader::new(session.client.open(&format!("/v1/jobs/{job}/events"))?);
    for line in events.lines() {
        let Ok(line) = line else { break };
        *last_heard = Some(Instant::now());
        let Some(json) = line.strip_prefix("data: ") else { continue };
        let view: JobView = serde_json::from_str(json).map_err(|error| Failure::Local(error.into()))?;
        shown.update(&view);
    }
    let answer = session.client.get(&format!("/v1/jobs/{job}"))?;
    let view: JobView = answer.read()?;
    if !view.state.is_final() && view.state != JobState::Paused {
        return Ok(None);
    }
    shown.bar.finish_and_clear();
    session.show(&answer, |_| Ok(shown::job(&view)))?;
    Ok(Some(outcome(&view)))
}

/// Whether the host may be about to start or to end.
fn is_away(error: &Failure) -> bool {
    matches!(error, Failure::Unreachable { .. } | Failure::Refused { status: 503, .. })
}

fn outcome(view: &JobView) -> Result<(), Failure> {
    match view.state {
        JobState::Succeeded => Ok(()),
        JobState::Paused => match &view.error {
            None => Ok(()),
            Some(reason) => Err(Failure::Local(anyhow!("job {} is paused: {reason}", view.id))),
        },
        JobState::Failed => {
            let reason = view.error.as_deref().unwrap_or("its log says why");
            Err(Failure::Local(anyhow!("job {} failed: {reason}", view.id)))
        }
        state => Err(Failure::Local(anyhow!("job {} is {}", view.id, state.name()))),
    }
}

struct Shown {
    bar: ProgressBar,
    state: Option<JobState>,
    tenth: u64,
    is_waiting: bool,
}

impl Shown {
    fn new(job: u64) -> Shown {
        let bar = ProgressBar::no_length();
        let template = "job {prefix} {msg} {wide_bar} {human_pos}/{human_len} rows";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_prefix(job.to_string());
        Shown { bar, state: None, tenth: 0, is_waiting: false }
    }

    /// The host does not answer at the moment.
    fn wait(&mut self) {
        self.bar.set_message("waits for the host");
        if self.bar.is_hidden() && !self.is_waiting {
            eprintln!("job {}: waits for the host, which does not answer", self.bar.prefix());
        }
        self.is_waiting = true;
    }

    fn update(&mut self, view: &JobView) {
        let done = view.pace.rows_done.unwrap_or(view.rows.total - view.rows.incomplete);
        self.bar.set_length(view.rows.total);
        self.bar.set_position(done);
        let mut message = view.state.name().to_owned();
        if let Some(rate) = view.pace.rows_per_second {
            message += &format!(", {rate:.0} rows/s");
        }
        if let Some(seconds) = view.pace.seconds_left {
            message += &format!(", {seconds:.0} s left");
        }
        if view.rows.failed > 0 {
            message += &format!(", {} failed", view.rows.failed);
        }
        let tenth = done * 10 / view.rows.total.max(1);
        let is_news = self.state != Some(view.state) || tenth != self.tenth || self.is_waiting;
        self.is_waiting = false;
        if self.bar.is_hidden() && is_news {
            eprintln!("job {}: {message}, {done} of {} rows", view.id, view.rows.total);
        }
        (self.state, self.tenth) = (Some(view.state), tenth);
        self.bar.set_message(message);
    }
}
