//! Runs: beginning one, following its job to its end, and what happens to all of this at a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use modelhost_core::ScheduleName;

use super::Schedules;
use super::record::{Cause, MissedRuns, Outcome, Run, Schedule};
use crate::Error;
use crate::jobs::{Job, JobId, JobState};

/// A paused job may be resumed at any time: it is looked at this often.
const PAUSED_JOB_INTERVAL: Duration = Duration::from_millis(500);

impl Schedules {
    /// Begins what is due, and answers how long it is until something is.
    pub(super) async fn see_to_what_is_due(self: &Arc<Self>) -> Result<Option<Duration>, Error> {
        let mut under_way = self.under_way.lock().await;
        let now = Timestamp::now();
        let mut next: Option<Timestamp> = None;
        for schedule in self.with_store(|store| store.all()).await? {
            if schedule.paused {
                continue;
            }
            let times = match schedule.specification.times(now) {
                Ok(times) => times,
                Err(error) => {
                    // An expression whose last time has passed.
                    tracing::debug!(schedule = %schedule.name, %error, "a schedule is not due any more");
                    continue;
                }
            };
            next = next.into_iter().chain(times.next_after(now)).min();
            // The last time of several, where this host was late.
            if let Some(due) = times.last_until(now).filter(|due| *due > schedule.seen_until) {
                self.due(&mut under_way, schedule, Cause::Due, due).await?;
            }
        }
        let until =
            |next: Timestamp| Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default();
        Ok(next.map(until))
    }

    async fn due(
        self: &Arc<Self>,
        under_way: &mut HashMap<ScheduleName, u64>,
        schedule: Schedule,
        cause: Cause,
        due: Timestamp,
    ) -> Result<(), Error> {
        match under_way.get(&schedule.name).copied() {
            None => self.begin(under_way, schedule, cause, due).await.map(drop),
            Some(number) => {
                tracing::warn!(schedule = %schedule.name, run = number, "a schedule is due while its last run is under way");
                let seen = Schedule { seen_until: due, ..schedule };
                self.with_store(move |store| {
                    let run = store.runs(&seen.name)?.into_iter().find(|run| run.number == number);
                    match run {
                        Some(run) => {
                            store.put_with_run(&seen, &Run { overlapped: run.overlapped + 1, ..run })
                        }
                        None => store.put(&seen),
                    }
                })
                .await
            }
        }
    }

    /// Records a run, makes its job, and follows that.
    pub(super) async fn begin(
        self: &Arc<Self>,
        under_way: &mut HashMap<ScheduleName, u64>,
        mut schedule: Schedule,
        cause: Cause,
        due: Timestamp,
    ) -> Result<Run, Error> {
        let number = schedule.next_run;
        schedule.next_run += 1;
        schedule.seen_until = schedule.seen_until.max(due);
        let started = Timestamp::now();
        let run = Run {
            number,
            cause,
            due,
            started,
            job: None,
            outcome: Outcome::Running,
            ended: None,
            error: None,
            overlapped: 0,
        };
        let (recorded, first) = (schedule.clone(), run.clone());
        self.with_store(move |store| store.put_with_run(&recorded, &first)).await?;
        under_way.insert(schedule.name.clone(), number);
        self.make_job(under_way, schedule, run).await
    }

    /// Makes the job of a run that is recorded.
    async fn make_job(
        self: &Arc<Self>,
        under_way: &mut HashMap<ScheduleName, u64>,
        schedule: Schedule,
        mut run: Run,
    ) -> Result<Run, Error> {
        let name = schedule.name;
        tracing::info!(schedule = %name, run = run.number, "a scheduled run begins");
        match self.jobs.create(schedule.specification.job, Some(author(&name, run.number))).await {
            Ok(job) => {
                run.job = Some(job.id);
                self.record(&name, &run).await?;
                self.follow(name, run.number, job.id);
            }
            Err(error) => {
                tracing::warn!(schedule = %name, run = run.number, %error, "the job of a scheduled run cannot be made");
                run.outcome = Outcome::Failed;
                run.ended = Some(Timestamp::now());
                run.error = Some(error.message);
                self.record(&name, &run).await?;
                under_way.remove(&name);
            }
        }
        Ok(run)
    }

    async fn record(&self, name: &ScheduleName, run: &Run) -> Result<(), Error> {
        let (name, run) = (name.clone(), run.clone());
        self.with_store(move |store| store.put_run(&name, &run)).await
    }

    /// Waits for the end of a job in the background, and records it.
    fn follow(self: &Arc<Self>, name: ScheduleName, number: u64, job: JobId) {
        let schedules = Arc::downgrade(self);
        let jobs = self.jobs.clone();
        self.work.handle().spawn(async move {
            let ended = loop {
                match jobs.ended(job).await {
                    // A job that is deleted has ended somehow.
                    Err(error) => break Err(error),
                    Ok(ended) if ended.state.is_final() => break Ok(ended),
                    Ok(_) => tokio::time::sleep(PAUSED_JOB_INTERVAL).await,
                }
            };
            let Some(schedules) = schedules.upgrade() else { return };
            if let Err(error) = schedules.end(&name, number, ended).await {
                tracing::error!(schedule = %name, run = number, %error, "the end of a run cannot be recorded");
            }
        });
    }

    async fn end(&self, name: &ScheduleName, number: u64, ended: Result<Job, Error>) -> Result<(), Error> {
        let mut under_way = self.under_way.lock().await;
        // The schedule was deleted, and perhaps made again.
        if under_way.get(name) != Some(&number) {
            return Ok(());
        }
        let recorded = name.clone();
        self.with_store(move |store| {
            let run = store.runs(&recorded)?.into_iter().find(|run| run.number == number);
            match run {
                Some(run) => store.put_run(&recorded, &with_end(run, ended)),
                None => Ok(()),
            }
        })
        .await?;
        under_way.remove(name);
        Ok(())
    }

    /// What a restart means for each schedule: a run that was under way goes on, and what was missed is seen to.
    pub(super) async fn restore(self: &Arc<Self>) -> Result<(), Error> {
        let mut under_way = self.under_way.lock().await;
        let made = self.jobs.list().await?;
        let now = Timestamp::now();
        for schedule in self.with_store(|store| store.all()).await? {
            let name = schedule.name.clone();
            let last = self.with_store(move |store| Ok(store.runs(&name)?.pop())).await?;
            if let Some(run) = last.filter(|run| !run.is_over()) {
                let author = author(&schedule.name, run.number);
                let job = run.job.or_else(|| {
                    // The host ended between the making of the job and its being written down.
                    made.iter().find(|job| job.by.as_deref() == Some(&*author)).map(|job| job.id)
                });
                under_way.insert(schedule.name.clone(), run.number);
                match job {
                    Some(job) => {
                        let run = Run { job: Some(job), ..run };
                        self.record(&schedule.name, &run).await?;
                        self.follow(schedule.name.clone(), run.number, job);
                    }
                    None => drop(self.make_job(&mut under_way, schedule.clone(), run).await?),
                }
            }
            self.see_to_what_was_missed(&mut under_way, schedule, now).await?;
        }
        Ok(())
    }

    async fn see_to_what_was_missed(
        self: &Arc<Self>,
        under_way: &mut HashMap<ScheduleName, u64>,
        schedule: Schedule,
        now: Timestamp,
    ) -> Result<(), Error> {
        let times = schedule.specification.times(now).ok().filter(|_| !schedule.paused);
        let last = times.and_then(|times| times.last_until(now));
        let Some(due) = last.filter(|due| *due > schedule.seen_until) else { return Ok(()) };
        match schedule.specification.missed {
            MissedRuns::RunOnce => self.due(under_way, schedule, Cause::Missed, due).await,
            MissedRuns::Skip => {
                tracing::info!(schedule = %schedule.name, %due, "runs were missed and are skipped");
                let seen = Schedule { seen_until: due, ..schedule };
                self.with_store(move |store| store.put(&seen)).await
            }
        }
    }
}

/// Who a job was made by, from which its run is found again.
fn author(name: &ScheduleName, number: u64) -> String {
    format!("schedule {name}, run {number}")
}

fn with_end(run: Run, ended: Result<Job, Error>) -> Run {
    let (outcome, time, error) = match ended {
        Ok(job) => {
            let outcome = match job.state {
                JobState::Succeeded => Outcome::Succeeded,
                JobState::Cancelled => Outcome::Cancelled,
                _ => Outcome::Failed,
            };
            (outcome, job.ended, job.error)
        }
        Err(error) => (Outcome::Failed, None, Some(error.message)),
    };
    Run { outcome, ended: Some(time.unwrap_or_else(Timestamp::now)), error, ..run }
}
