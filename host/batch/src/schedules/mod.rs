//! Schedules: jobs that start at their times. A run is recorded before its job is made, and what became of it
//! afterwards, so that a run takes place once, whatever ends the host in between.
//!
//! One task waits for the next time at which anything is due. Each schedule has one run under way at most: what is due
//! meanwhile does not take place, and is counted. What a job is, and how it goes on after a restart, is known to
//! [`crate::jobs`].

mod record;
mod run;
mod store;
mod timing;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use modelhost_core::{ErrorCode, ScheduleName};
use modelhost_registry::Registry;
use tokio::sync::{Mutex, Notify};

pub use record::{Cause, MissedRuns, Outcome, Run, Schedule, ScheduleSpecification, ScheduleView};

use self::store::ScheduleStore;
use crate::Error;
use crate::jobs::{Jobs, RunOf};
use crate::work::Work;

/// The clock of the machine may be set while it is slept: it is looked at this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// After a failure of the registry.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// All schedules of one data folder.
pub struct Schedules {
    jobs: Arc<Jobs>,
    store: ScheduleStore,
    work: Work,
    /// What was due before and did not take place was missed.
    opened: Timestamp,
    /// Schedules change one after the other.
    state: Mutex<State>,
    /// Told when the next time may be another one.
    changed: Arc<Notify>,
}

/// What is known of schedules beyond their records.
#[derive(Default)]
struct State {
    /// The runs that are under way.
    under_way: HashMap<ScheduleName, RunOf>,
    /// Those for which it is known what the restart means: the run that was under way goes on, and what was missed is
    /// seen to.
    settled: HashSet<ScheduleName>,
}

impl Schedules {
    /// Opens the schedules of a data folder. What the restart means for each is seen to in the background, or before
    /// anything else is done with it; what is due then, at its time.
    pub(crate) fn open(jobs: Arc<Jobs>, registry: Arc<Registry>, work: Work) -> Arc<Schedules> {
        let schedules = Arc::new(Schedules {
            jobs,
            store: ScheduleStore::new(registry),
            work: work.clone(),
            opened: Timestamp::now(),
            state: Mutex::default(),
            changed: Arc::new(Notify::new()),
        });
        work.handle().spawn(keep_time(Arc::downgrade(&schedules), schedules.changed.clone()));
        schedules
    }

    /// All schedules, by name.
    ///
    /// # Errors
    /// Failures of the registry.
    pub async fn list(&self) -> Result<Vec<ScheduleView>, Error> {
        let all = self.with_store(|store| store.all()?.into_iter().map(|one| view(store, one)).collect());
        all.await
    }

    /// A schedule.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn get(&self, name: ScheduleName) -> Result<ScheduleView, Error> {
        self.with_store(move |store| view(store, store.existing(&name)?)).await
    }

    /// The last runs of a schedule, the newest first.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn history(&self, name: ScheduleName) -> Result<Vec<Run>, Error> {
        self.with_store(move |store| {
            store.existing(&name)?;
            let mut runs = store.runs(&name)?;
            runs.reverse();
            Ok(runs)
        })
        .await
    }

    /// Makes a schedule, or replaces what one does. Answers whether it is new.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for what cannot be a schedule, in one sentence; failures of the registry.
    pub async fn put(
        self: &Arc<Self>,
        name: ScheduleName,
        specification: ScheduleSpecification,
        by: Option<String>,
    ) -> Result<(ScheduleView, bool), Error> {
        let now = Timestamp::now();
        specification.times(now)?;
        specification.job.check()?;
        let mut state = self.state.lock().await;
        let looked_for = name.clone();
        if let Some(before) = self.with_store(move |store| store.get(&looked_for)).await? {
            // What the times until now made due takes place all the same.
            self.see_to(&mut state, before, now).await?;
        }
        state.settled.insert(name.clone());
        let put = self.with_store(move |store| {
            let before = store.get(&name)?;
            let is_new = before.is_none();
            let fresh = || Schedule {
                name,
                specification: specification.clone(),
                paused: false,
                by: None,
                created: now,
                seen_until: now,
                next_run: 1,
                owed: None,
            };
            let mut schedule = before.unwrap_or_else(fresh);
            schedule.specification = specification.clone();
            schedule.by = by;
            // Times of the new expression that lie in the past were never missed.
            schedule.seen_until = now;
            store.put(&schedule)?;
            Ok((view(store, schedule)?, is_new))
        });
        let put = put.await?;
        self.changed.notify_one();
        Ok(put)
    }

    /// Does nothing at its times, until it is resumed. A run that is under way goes on.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn pause(self: &Arc<Self>, name: ScheduleName) -> Result<ScheduleView, Error> {
        self.set_paused(name, true).await
    }

    /// Goes on with what is due from now on.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn resume(self: &Arc<Self>, name: ScheduleName) -> Result<ScheduleView, Error> {
        self.set_paused(name, false).await
    }

    async fn set_paused(self: &Arc<Self>, name: ScheduleName, paused: bool) -> Result<ScheduleView, Error> {
        let mut state = self.state.lock().await;
        let looked_for = name.clone();
        let before = self.with_store(move |store| store.existing(&looked_for)).await?;
        self.see_to(&mut state, before, Timestamp::now()).await?;
        let changed = self.with_store(move |store| {
            let mut schedule = store.existing(&name)?;
            if schedule.paused != paused {
                schedule.paused = paused;
                // What was due while it was paused was not missed.
                schedule.seen_until = Timestamp::now();
                schedule.owed = None;
                store.put(&schedule)?;
            }
            view(store, schedule)
        });
        let changed = changed.await?;
        self.changed.notify_one();
        Ok(changed)
    }

    /// Deletes a schedule and what is known of its runs. The job of a run that is under way goes on.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn delete(&self, name: ScheduleName) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        let deleted = name.clone();
        self.with_store(move |store| {
            store.existing(&deleted)?;
            store.delete(&deleted)
        })
        .await?;
        state.under_way.remove(&name);
        state.settled.remove(&name);
        self.changed.notify_one();
        Ok(())
    }

    /// Begins a run now, also of a schedule that is paused. Answers the run, whose job is made already where it can be.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; [`ErrorCode::Conflict`] while a run is under way.
    pub async fn run_now(self: &Arc<Self>, name: ScheduleName) -> Result<Run, Error> {
        let schedules = self.clone();
        let begun = async move {
            let mut state = schedules.state.lock().await;
            let looked_for = name.clone();
            let schedule = schedules.with_store(move |store| store.existing(&looked_for)).await?;
            let now = Timestamp::now();
            let schedule = schedules.settle(&mut state, schedule, now).await?;
            if let Some(RunOf { run, .. }) = state.under_way.get(&name) {
                let message = format!("run {run} of schedule \"{name}\" is under way");
                return Err(Error::new(ErrorCode::Conflict, message));
            }
            let begun = schedules.begin(&mut state, schedule, Cause::Asked, now).await?;
            drop(state);
            Ok(begun.with_job().await)
        };
        // To its end, whether or not somebody still waits for the answer.
        self.work.run(begun).await
    }

    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ScheduleStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store.clone();
        self.work.block(move || work(&store)).await
    }
}

fn view(store: &ScheduleStore, schedule: Schedule) -> Result<ScheduleView, Error> {
    let times = schedule.specification.times(schedule.seen_until).ok().filter(|_| !schedule.paused);
    let next_due = times.and_then(|times| times.next_after(schedule.seen_until));
    Ok(ScheduleView { next_due, last_run: store.last_run(&schedule)?, schedule })
}

/// Sees to what is due, for as long as there are schedules.
async fn keep_time(schedules: Weak<Schedules>, changed: Arc<Notify>) {
    loop {
        let Some(open) = schedules.upgrade() else { return };
        let next = open.see_to_what_is_due().await.unwrap_or_else(|error| {
            tracing::error!(%error, "schedules cannot be seen to");
            Some(PAUSE_AFTER_FAILURE)
        });
        drop(open);
        let sleep = next.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = changed.notified() => {}
        }
    }
}
