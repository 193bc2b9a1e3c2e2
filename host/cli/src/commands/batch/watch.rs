//! A job on its way, as a bar on a terminal and plain lines elsewhere, all on standard error. What it has come to goes
//! to standard output.

use std::io::{BufRead, BufReader};

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use modelhost_batch::jobs::{JobState, JobView};

use super::Session;
use super::shown;
use crate::failure::Failure;

/// Watches a job until it is final or paused, and shows what it has come to.
///
/// # Errors
/// A job that does not exist, or that did not succeed.
pub fn to_the_end(session: &Session, job: u64) -> Result<(), Failure> {
    let mut shown = Shown::new(job);
    loop {
        let events = BufReader::new(session.client.open(&format!("/v1/jobs/{job}/events"))?);
        for line in events.lines() {
            // A connection that breaks is opened again: the job goes on without it.
            let Ok(line) = line else { break };
            let Some(json) = line.strip_prefix("data: ") else { continue };
            let view: JobView = serde_json::from_str(json).map_err(|error| Failure::Local(error.into()))?;
            shown.update(&view);
        }
        let answer = session.client.get(&format!("/v1/jobs/{job}"))?;
        let view: JobView = answer.read()?;
        if view.state.is_final() || view.state == JobState::Paused {
            shown.bar.finish_and_clear();
            session.show(&answer, |_| Ok(shown::job(&view)))?;
            return outcome(&view);
        }
    }
}

fn outcome(view: &JobView) -> Result<(), Failure> {
    match view.state {
        JobState::Succeeded | JobState::Paused => Ok(()),
        JobState::Failed => {
            let reason = view.error.as_deref().unwrap_or("its log says why");
            Err(Failure::Local(anyhow!("job {} failed: {reason}", view.id)))
        }
        state => Err(Failure::Local(anyhow!("job {} is {}", view.id, shown::state(state)))),
    }
}

struct Shown {
    bar: ProgressBar,
    state: Option<JobState>,
    tenth: u64,
}

impl Shown {
    fn new(job: u64) -> Shown {
        let bar = ProgressBar::no_length();
        let template = "job {prefix} {msg} {wide_bar} {human_pos}/{human_len} rows";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_prefix(job.to_string());
        Shown { bar, state: None, tenth: 0 }
    }

    fn update(&mut self, view: &JobView) {
        let done = view.pace.rows_done.unwrap_or(view.rows.total - view.rows.incomplete);
        self.bar.set_length(view.rows.total);
        self.bar.set_position(done);
        let mut message = shown::state(view.state).to_owned();
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
        let is_news = self.state != Some(view.state) || tenth != self.tenth;
        if self.bar.is_hidden() && is_news {
            eprintln!("job {}: {message}, {done} of {} rows", view.id, view.rows.total);
        }
        (self.state, self.tenth) = (Some(view.state), tenth);
        self.bar.set_message(message);
    }
}
