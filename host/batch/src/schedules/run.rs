//! Runs: beginning one, following its job to its end, and what happens to all of this at a restart.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use modelhost_core::ErrorCode;
use tokio::sync::oneshot;

use super::record::{Cause, MissedRuns, Outcome, Run, Schedule};
use super::timing::Times;
use super::{LONGEST_SLEEP, PAUSE_AFTER_FAILURE, Schedules, State};
use crate::Error;
use crate::jobs::{Job, JobId, JobSpecification, JobState, Jobs, RunOf};

/// A paused job may be resumed at any time: it is looked at this often.
const PAUSED_JOB_INTERVAL: Duration = Duration::from_millis(500);
/// A clock may be set back so far, and nothing that was due before is due again. One that was wrong by more must not keep
/// a schedule from its times for years.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// A run that was recorded.
pub(super) struct Begun {
    run: Run,
    with_job: oneshot::Receiver<Run>,
}

impl Begun {
    /// The run, once its job is made, or cannot be.
    pub(super) async fn with_job(self) -> Run {
        self.with_job.await.unwrap_or(self.run)
    }
}

impl Schedules {
    /// Begins what is due, and answers how long it is until something is.
    pub(super) async fn see_to_what_is_due(self: &Arc<Self>) -> Result<Option<Duration>, Error> {
        let mut state = self.state.lock().await;
        let now = Timestamp::now();
        let mut next: Option<Timestamp> = None;
        for schedule in self.with_store(|store| store.all()).await? {
            let name = schedule.name.clone();
            let again = self.see_to(&mut state, schedule, now).await.unwrap_or_else(|error| {
                tracing::error!(schedule = %name, %error, "a schedule cannot be seen to");
                now.checked_add(PAUSE_AFTER_FAILURE).ok()
            });
            next = next.into_iter().chain(again).min();
        }
        let until =
            |next: Timestamp| Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default();
        Ok(next.map(until))
    }

    /// Begins what is due of one schedule, and answers when something is again.
    pub(super) async fn see_to(
        self: &Arc<Self>,
        state: &mut State,
        schedule: Schedule,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let mut schedule = self.settle(state, schedule, now).await?;
        if schedule.paused {
            return Ok(None);
        }
        if let Some(owed) = schedule.owed.filter(|_| !state.under_way.contains_key(&schedule.name)) {
            let begun = self.begin(state, schedule.clone(), Cause::Missed, owed).await?;
            schedule = Schedule { next_run: begun.run.number + 1, owed: None, ..schedule };
        }
        let Some(times) = times(&schedule, now) else { return Ok(None) };
        // The last time of several, where this host was late.
        if let Some(due) = times.last_until(now).filter(|due| *due > schedule.seen_until) {
            self.due(state, schedule, due).await?;
        }
        Ok(times.next_after(now))
    }

    async fn due(
        self: &Arc<Self>,
        state: &mut State,
        schedule: Schedule,
        due: Timestamp,
    ) -> Result<(), Error> {
        let Some(RunOf { run: number, .. }) = state.under_way.get(&schedule.name).cloned() else {
            return self.begin(state, schedule, Cause::Due, due).await.map(drop);
        };
        tracing::warn!(schedule = %schedule.name, run = number, "a schedule is due while its last run is under way");
        let seen = Schedule { seen_until: due, ..schedule };
        self.with_store(move |store| match store.run(&seen.name, number)? {
            Some(run) => store.put_with_run(&seen, &Run { overlapped: run.overlapped + 1, ..run }),
            None => store.put(&seen),
        })
        .await
    }

    /// Records a run, and has its job made and followed.
    pub(super) async fn begin(
        self: &Arc<Self>,
        state: &mut State,
        mut schedule: Schedule,
        cause: Cause,
        due: Timestamp,
    ) -> Result<Begun, Error> {
        let run = new_run(&schedule, cause, due);
        schedule.next_run += 1;
        match cause {
            // What is due is due all the same.
            Cause::Asked => {}
            Cause::Due | Cause::Missed => schedule.seen_until = schedule.seen_until.max(due),
        }
        if cause == Cause::Missed {
            schedule.owed = None;
        }
        let (recorded, first) = (schedule.clone(), run.clone());
        self.with_store(move |store| store.put_with_run(&recorded, &first)).await?;
        let with_job = self.drive(state, schedule, run.clone());
        Ok(Begun { run, with_job })
    }

    /// From a recorded run to its recorded end, in the background. Answers the run once its job is made, or cannot be.
    fn drive(self: &Arc<Self>, state: &mut State, schedule: Schedule, run: Run) -> oneshot::Receiver<Run> {
        let id = RunOf { schedule: schedule.name, created: schedule.created, run: run.number };
        state.under_way.insert(id.schedule.clone(), id.clone());
        tracing::info!(schedule = %id.schedule, run = id.run, "a scheduled run goes on");
        let (told, with_job) = oneshot::channel();
        let (schedules, jobs) = (Arc::downgrade(self), self.jobs.clone());
        self.work.handle().spawn(async move {
            let made = match run.job {
                Some(job) => Ok(job),
                None => make_job(&jobs, &id, schedule.specification.job).await,
            };
            let run = match &made {
                Ok(job) => Run { job: Some(*job), ..run },
                Err(error) => with_failure(run, error),
            };
            if let (Some(schedules), Ok(job)) = (schedules.upgrade(), &made) {
                schedules.record_job(&id, *job).await;
            }
            // Nobody may have asked.
            let _ = told.send(run);
            let ended = match made {
                Ok(job) => follow(&jobs, job).await,
                Err(error) => Err(error),
            };
            record_end(&schedules, &id, &ended).await;
        });
        with_job
    }

    /// Where it fails, the job says of which run it is.
    async fn record_job(&self, id: &RunOf, job: JobId) {
        let state = self.state.lock().await;
        if state.under_way.get(&id.schedule) != Some(id) {
            return;
        }
        let (name, number) = (id.schedule.clone(), id.run);
        let change = move |run: Run| Run { job: Some(job), ..run };
        let recorded = self.with_store(move |store| store.change_run(&name, number, change)).await;
        if let Err(error) = recorded {
            tracing::error!(schedule = %id.schedule, run = id.run, %error, "the job of a run cannot be recorded");
        }
    }

    /// Records the end of a run, unless its schedule was deleted.
    async fn end(&self, id: &RunOf, ended: &Result<Job, Error>) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        if state.under_way.get(&id.schedule) != Some(id) {
            return Ok(());
        }
        let (name, number, ended) = (id.schedule.clone(), id.run, ended.clone());
        self.with_store(move |store| store.change_run(&name, number, |run| with_end(run, ended))).await?;
        state.under_way.remove(&id.schedule);
        // Another run may have to make up for those that were missed.
        self.changed.notify_one();
        Ok(())
    }

    /// What the restart means for a schedule, once: a run that was under way goes on, and what was missed is seen to.
    pub(super) async fn settle(
        self: &Arc<Self>,
        state: &mut State,
        schedule: Schedule,
        now: Timestamp,
    ) -> Result<Schedule, Error> {
        let schedule = self.with_clock_of(schedule, now).await?;
        if state.settled.contains(&schedule.name) {
            return Ok(schedule);
        }
        if !state.under_way.contains_key(&schedule.name) {
            self.go_on(state, &schedule).await?;
        }
        let schedule = self.see_to_what_was_missed(state, schedule).await?;
        state.settled.insert(schedule.name.clone());
        Ok(schedule)
    }

    async fn with_clock_of(&self, schedule: Schedule, now: Timestamp) -> Result<Schedule, Error> {
        if schedule.seen_until.duration_since(now) <= CLOCK_TOLERANCE {
            return Ok(schedule);
        }
        tracing::warn!(schedule = %schedule.name, seen_until = %schedule.seen_until, "the clock was set back");
        self.put_record(Schedule { seen_until: now, ..schedule }).await
    }

    async fn go_on(self: &Arc<Self>, state: &mut State, schedule: &Schedule) -> Result<(), Error> {
        let looked_at = schedule.clone();
        let last = self.with_store(move |store| store.last_run(&looked_at)).await?;
        let Some(mut run) = last.filter(|run| !run.is_over()) else { return Ok(()) };
        if run.job.is_none() {
            // The host may have ended between the making of the job and its being written down.
            let id = RunOf { schedule: schedule.name.clone(), created: schedule.created, run: run.number };
            let jobs = self.jobs.list().await?;
            run.job = jobs.iter().find(|job| job.run_of.as_ref() == Some(&id)).map(|job| job.id);
        }
        drop(self.drive(state, schedule.clone(), run));
        Ok(())
    }

    async fn see_to_what_was_missed(
        self: &Arc<Self>,
        state: &mut State,
        schedule: Schedule,
    ) -> Result<Schedule, Error> {
        let times = times(&schedule, self.opened).filter(|_| !schedule.paused);
        let last = times.and_then(|times| times.last_until(self.opened));
        let Some(due) = last.filter(|due| *due > schedule.seen_until) else { return Ok(schedule) };
        match schedule.specification.missed {
            // It takes place as soon as nothing is under way.
            MissedRuns::RunOnce => {
                self.put_record(Schedule { owed: Some(due), seen_until: due, ..schedule }).await
            }
            // They were due while that run was under way, too.
            MissedRuns::Skip if state.under_way.contains_key(&schedule.name) => {
                self.due(state, schedule.clone(), due).await?;
                Ok(Schedule { seen_until: due, ..schedule })
            }
            MissedRuns::Skip => {
                tracing::info!(schedule = %schedule.name, %due, "runs were missed and are skipped");
                let run = new_run(&schedule, Cause::Missed, due);
                let run = Run { outcome: Outcome::Skipped, ended: Some(run.started), ..run };
                let seen = Schedule { seen_until: due, next_run: schedule.next_run + 1, ..schedule };
                let recorded = seen.clone();
                self.with_store(move |store| store.put_with_run(&recorded, &run)).await?;
                Ok(seen)
            }
        }
    }

    async fn put_record(&self, schedule: Schedule) -> Result<Schedule, Error> {
        self.with_store(move |store| store.put(&schedule).map(|()| schedule)).await
    }
}

/// When a schedule is due; none where it is never due again.
fn times(schedule: &Schedule, now: Timestamp) -> Option<Times> {
    let times = schedule.specification.times(now);
    times
        .inspect_err(|error| tracing::debug!(schedule = %schedule.name, %error, "a schedule is not due"))
        .ok()
}

fn new_run(schedule: &Schedule, cause: Cause, due: Timestamp) -> Run {
    Run {
        number: schedule.next_run,
        cause,
        due,
        started: Timestamp::now(),
        job: None,
        outcome: Outcome::Running,
        ended: None,
        error: None,
        overlapped: 0,
    }
}

async fn make_job(jobs: &Arc<Jobs>, id: &RunOf, specification: JobSpecification) -> Result<JobId, Error> {
    match jobs.create_for_run(specification, id.clone()).await {
        Ok(job) => Ok(job.id),
        Err(error) => {
            tracing::warn!(schedule = %id.schedule, run = id.run, %error, "the job of a scheduled run cannot be made");
            Err(error)
        }
    }
}

/// Waits for the end of a job. One that was deleted has ended somehow.
async fn follow(jobs: &Jobs, job: JobId) -> Result<Job, Error> {
    loop {
        let pause = match jobs.ended(job).await {
            Ok(ended) if ended.state.is_final() => return Ok(ended),
            Err(error) if error.code == ErrorCode::NotFound => return Err(error),
            Ok(_) => PAUSED_JOB_INTERVAL,
            Err(error) => {
                tracing::warn!(%job, %error, "the job of a scheduled run cannot be looked at");
                PAUSE_AFTER_FAILURE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Records the end of a run. Until it is recorded, the schedule has a run under way, and begins no other.
async fn record_end(schedules: &Weak<Schedules>, id: &RunOf, ended: &Result<Job, Error>) {
    let mut pause = PAUSE_AFTER_FAILURE;
    while let Some(open) = schedules.upgrade() {
        match open.end(id, ended).await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(schedule = %id.schedule, run = id.run, %error, "the end of a run cannot be recorded");
            }
        }
        drop(open);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_SLEEP);
    }
}

fn with_failure(run: Run, error: &Error) -> Run {
    let (ended, error) = (Some(Timestamp::now()), Some(error.message.clone()));
    Run { outcome: Outcome::Failed, ended, error, ..run }
}

fn with_end(run: Run, ended: Result<Job, Error>) -> Run {
    match ended {
        Err(error) => with_failure(run, &error),
        Ok(job) => {
            let outcome = match job.state {
                JobState::Succeeded => Outcome::Succeeded,
                JobState::Cancelled => Outcome::Cancelled,
                _ => Outcome::Failed,
            };
            let (number, ended) = (Some(job.id), job.ended.unwrap_or_else(Timestamp::now));
            Run { outcome, job: number, ended: Some(ended), error: job.error, ..run }
        }
    }
}
