//! Which requests run, which wait and which are refused.
//!
//! The host runs a bounded number of requests at one moment, for each holds a sandbox with its memory. Where more want
//! to run, the next free slot goes to the model that received the least service for its weight: its slots times the
//! time that they were taken ([`FairQueue`]). So a model that is flooded waits for itself, not others for it. Within a
//! model the priority of a request goes before its arrival. Each model has limits of its own for what runs and what
//! waits, so that one that is overloaded refuses its own clients and nobody else's.
//!
//! A slot is not a share of a core: a request that waits for inference, perhaps to be put into a batch with others, holds
//! its slot as well, so there have to be many more slots than cores. Who gets the cores among those that run is
//! decided where they run, by the same weights.
//!
//! The lock of the queue is held for some tens of nanoseconds at a time, by whichever model.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use modelhost_core::{ErrorCode, FairQueue, FlowId, Standing, Ticket, Turn};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::configuration::Limits;
use crate::error::Error;

type Queue = FairQueue<oneshot::Sender<Place>>;

/// The slots of a host, for all models.
pub(crate) struct Slots {
    queue: Mutex<Queue>,
}

/// The door of a model.
pub(crate) struct Admission {
    slots: Arc<Slots>,
    flow: FlowId,
    max_waiting: AtomicUsize,
    /// Requests that wait for something else before they ask for a slot.
    outside: AtomicUsize,
}

/// What is known about a request that wants to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// The lowest number goes first.
    pub(crate) priority: u32,
    /// When its client stops waiting, if it said so.
    pub(crate) deadline: Option<Instant>,
    /// How long such requests take once they run, if that is known.
    pub(crate) service_time: Option<Duration>,
}

/// A slot that a request has taken. It is free again when this is dropped.
pub(crate) struct Place {
    slots: Arc<Slots>,
    /// Taken when it is given back.
    turn: Option<Turn>,
    began: Instant,
}

impl Slots {
    pub(crate) fn new(number: usize) -> Arc<Slots> {
        Arc::new(Slots { queue: Mutex::new(FairQueue::new(number)) })
    }

    fn place(self: &Arc<Slots>, turn: Turn) -> Place {
        Place { slots: self.clone(), turn: Some(turn), began: Instant::now() }
    }

    /// Changes the queue and lets those run who may then.
    fn change(self: &Arc<Slots>, change: impl FnOnce(&mut Queue)) {
        let mut granted = Vec::new();
        let mut queue = self.queue.lock();
        change(&mut queue);
        while let Some((turn, waiting)) = queue.grant() {
            granted.push((self.place(turn), waiting));
        }
        drop(queue);
        for (place, waiting) in granted {
            // Who gave up in this very moment has no use for it.
            if let Err(place) = waiting.send(place) {
                place.forgo();
            }
        }
    }
}

impl Admission {
    pub(crate) fn new(slots: Arc<Slots>, limits: Limits) -> Admission {
        let flow = slots.queue.lock().add_flow(limits.weight, limits.running);
        Admission { slots, flow, max_waiting: AtomicUsize::new(limits.waiting), outside: AtomicUsize::new(0) }
    }

    /// Changes the limits. Who runs or waits already goes on.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.max_waiting.store(limits.waiting, Ordering::Relaxed);
        self.slots.change(|queue| queue.set_flow(self.flow, limits.weight, limits.running));
    }

    /// Whether a request that comes now has any prospect. To be asked before work is done for it.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] where too many wait already.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.refuse_if_full(&self.slots.queue.lock())
    }

    /// Waits until the request may run. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] at once where too many wait already; [`ErrorCode::DeadlineExceeded`] at once where the
    /// deadline would most likely pass before an answer, and while waiting when it does.
    pub(crate) async fn enter(&self, asking: Asking) -> Result<Place, Error> {
        let mut waiting = match self.start_or_queue(asking)? {
            Entry::Started(place) => return Ok(place),
            Entry::Queued(waiting) => waiting,
        };
        let granted = match asking.deadline {
            None => (&mut waiting.granted).await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), &mut waiting.granted).await {
                Ok(granted) => granted,
                Err(_) => return Err(late("the deadline passed while the request was waiting")),
            },
        };
        let place = granted.map_err(|_| Error::internal("a request was dropped from the queue"))?;
        match self.refuse_if_late(&asking, self.slots.queue.lock().standing(self.flow), Duration::ZERO) {
            Ok(()) => Ok(place),
            Err(error) => {
                place.forgo();
                Err(error)
            }
        }
    }

    /// Counts a request that waits for something else than a slot, such as its version to be loaded, until this is
    /// dropped. It takes no slot meanwhile: others can use it.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] where too many do already.
    pub(crate) fn wait_outside(&self) -> Result<Outside<'_>, Error> {
        let max_waiting = self.max_waiting.load(Ordering::Relaxed).max(1);
        let more = |outside| (outside < max_waiting).then_some(outside + 1);
        match self.outside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Outside(&self.outside)),
            Err(_) => Err(Error::overloaded(Duration::ZERO)),
        }
    }

    fn start_or_queue(&self, asking: Asking) -> Result<Entry<'_>, Error> {
        let mut queue = self.slots.queue.lock();
        let standing = queue.standing(self.flow);
        if queue.can_start(self.flow) {
            // One that runs alone is let go on: nothing else could tell that the model has become faster.
            let others = Standing { running: standing.running + 1, ..standing };
            self.refuse_if_late(&asking, others, Duration::ZERO)?;
            let turn = queue.start(self.flow).ok_or_else(|| Error::internal("a free slot was not free"))?;
            return Ok(Entry::Started(self.slots.place(turn)));
        }
        self.refuse_if_full(&queue)?;
        if asking.deadline.is_some() {
            let wait = waiting_time(standing, queue.ahead(self.flow, asking.priority) + 1);
            self.refuse_if_late(&asking, Standing { running: standing.running + 1, ..standing }, wait)?;
        }
        let (grant, granted) = oneshot::channel();
        let ticket = queue.push(self.flow, asking.priority, grant);
        Ok(Entry::Queued(Waiting { slots: &self.slots, ticket, granted }))
    }

    fn refuse_if_full(&self, queue: &Queue) -> Result<(), Error> {
        let standing = queue.standing(self.flow);
        if standing.waiting < self.max_waiting.load(Ordering::Relaxed) || queue.can_start(self.flow) {
            return Ok(());
        }
        Err(Error::overloaded(waiting_time(standing, standing.waiting)))
    }

    /// `standing` counts the request itself as running.
    fn refuse_if_late(&self, asking: &Asking, standing: Standing, wait: Duration) -> Result<(), Error> {
        let Some(deadline) = asking.deadline else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late("the deadline passed before the request could run"));
        }
        let needed = wait + asking.service_time.unwrap_or_default();
        if standing.running <= 1 || needed <= left {
            return Ok(());
        }
        Err(late(format!(
            "the deadline would pass before there is an answer: {} ms are left, some {} ms are needed",
            left.as_millis(),
            needed.as_millis().max(1)
        )))
    }
}

/// How long the last of so many has to wait, if requests go on ending as fast as they did.
fn waiting_time(standing: Standing, waiting: usize) -> Duration {
    let running = u64::try_from(standing.running.max(1)).unwrap_or(u64::MAX);
    let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
    Duration::from_nanos((standing.average_cost / running).saturating_mul(waiting))
}

fn late(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::DeadlineExceeded, message)
}

enum Entry<'a> {
    Started(Place),
    Queued(Waiting<'a>),
}

/// One who waits. Leaves the queue when it is dropped.
struct Waiting<'a> {
    slots: &'a Arc<Slots>,
    ticket: Ticket,
    granted: oneshot::Receiver<Place>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let is_waiting = self.slots.queue.lock().cancel(&self.ticket).is_some();
        if !is_waiting {
            // A place that came too late to be used says nothing about how long requests take.
            self.granted.close();
            if let Ok(place) = self.granted.try_recv() {
                place.forgo();
            }
        }
    }
}

/// One who waits for something else than a slot.
pub(crate) struct Outside<'a>(&'a AtomicUsize);

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    /// Gives the slot back unused.
    fn forgo(mut self) {
        if let Some(turn) = self.turn.take() {
            self.slots.change(|queue| queue.forgo(turn));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            let cost = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.slots.change(|queue| queue.finish(turn, cost));
        }
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
