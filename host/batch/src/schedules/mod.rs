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

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use modelhost_core::{ErrorCode, ScheduleName};
use modelhost_registry::Registry;
use tokio::sync::{Mutex, Notify};

pub use record::{Cause, MissedRuns, Outcome, Run, Schedule, ScheduleSpecification, ScheduleView};

use self::store::ScheduleStore;
use crate::Error;
use crate::jobs::Jobs;
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
    /// Schedules change one after the other: the runs that are under way, by schedule, with their numbers.
    under_way: Mutex<HashMap<ScheduleName, u64>>,
    /// Told when the next time may be another one.
    changed: Notify,
}

impl Schedules {
    /// Opens the schedules of a data folder: sees to what was missed, goes on with the runs that were under way, and
    /// waits for what is due next.
    pub(crate) async fn open(
        jobs: Arc<Jobs>,
        registry: Arc<Registry>,
        work: Work,
    ) -> Result<Arc<Schedules>, Error> {
        let schedules = Arc::new(Schedules {
            jobs,
            store: ScheduleStore::new(registry),
            work: work.clone(),
            under_way: Mutex::default(),
            changed: Notify::new(),
        });
        schedules.restore().await?;
        work.handle().spawn(keep_time(Arc::downgrade(&schedules)));
        Ok(schedules)
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
        &self,
        name: ScheduleName,
        specification: ScheduleSpecification,
        by: Option<String>,
    ) -> Result<(ScheduleView, bool), Error> {
        let now = Timestamp::now();
        specification.times(now)?;
        specification.job.check()?;
        let _changing = self.under_way.lock().await;
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
    pub async fn pause(&self, name: ScheduleName) -> Result<ScheduleView, Error> {
        self.set_paused(name, true).await
    }

    /// Goes on with what is due from now on.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn resume(&self, name: ScheduleName) -> Result<ScheduleView, Error> {
        self.set_paused(name, false).await
    }

    async fn set_paused(&self, name: ScheduleName, paused: bool) -> Result<ScheduleView, Error> {
        let _changing = self.under_way.lock().await;
        let changed = self.with_store(move |store| {
            let mut schedule = store.existing(&name)?;
            if schedule.paused != paused {
                schedule.paused = paused;
                // What was due while it was paused was not missed.
                schedule.seen_until = Timestamp::now();
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
        let mut under_way = self.under_way.lock().await;
        under_way.remove(&name);
        self.with_store(move |store| {
            store.existing(&name)?;
            store.delete(&name)
        })
        .await?;
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
            let mut under_way = schedules.under_way.lock().await;
            if let Some(number) = under_way.get(&name) {
                let message = format!("run {number} of schedule \"{name}\" is under way");
                return Err(Error::new(ErrorCode::Conflict, message));
            }
            let schedule = schedules.with_store(move |store| store.existing(&name)).await?;
            schedules.begin(&mut under_way, schedule, Cause::Asked, Timestamp::now()).await
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
    Ok(ScheduleView { next_due, last_run: store.runs(&schedule.name)?.pop(), schedule })
}

/// Sees to what is due, for as long as there are schedules.
async fn keep_time(schedules: Weak<Schedules>) {
    loop {
        let Some(open) = schedules.upgrade() else { return };
        let next = open.see_to_what_is_due().await.unwrap_or_else(|error| {
            tracing::error!(%error, "schedules cannot be seen to");
            Some(PAUSE_AFTER_FAILURE)
        });
        let sleep = next.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = open.changed.notified() => {}
        }
    }
}
