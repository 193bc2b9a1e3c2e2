//! The body of a call, counted against the memory that all bodies share. What is in it is not known here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::status;
use crate::body::{BodyBudget, Reservation};

/// What a call has of the budget.
#[derive(Clone, Debug)]
pub(crate) struct Metered {
    budget: BodyBudget,
    received: Arc<Mutex<(usize, Reservation)>>,
    total: Arc<AtomicU64>,
}

impl Metered {
    pub(crate) fn new(budget: BodyBudget) -> Metered {
        Metered { budget, received: Arc::default(), total: Arc::default() }
    }

    fn add(&self, bytes: usize) -> Result<(), Status> {
        self.total.fetch_add(bytes as u64, Relaxed);
        let mut received = self.received.lock();
        let (total, reservation) = &mut *received;
        *total = total.saturating_add(bytes);
        reservation.extend_to(*total, &self.budget).map_err(|error| status::of(&error))
    }

    /// Bytes that arrived so far.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// What was received for the message that has just come; the next one is counted anew.
    pub(crate) fn take(&self) -> Reservation {
        std::mem::take(&mut *self.received.lock()).1
    }
}

/// A body that is counted while it comes, and must not stop coming for long.
pub(crate) struct MeteredBody {
    incoming: Incoming,
    metered: Metered,
    idle: Duration,
    /// Whether any time may pass between two messages.
    is_stream: bool,
    /// Made by the first wait: what has arrived already needs no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl MeteredBody {
    pub(crate) fn new(incoming: Incoming, metered: Metered, idle: Duration, is_stream: bool) -> MeteredBody {
        MeteredBody { incoming, metered, idle, is_stream, timer: None }
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let body = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut body.incoming).poll_frame(context) else {
            if body.is_stream && body.metered.received.lock().0 == 0 {
                body.timer = None;
                return Poll::Pending;
            }
            let timer = body.timer.get_or_insert_with(|| Box::pin(sleep(body.idle)));
            ready!(timer.as_mut().poll(context));
            return Poll::Ready(Some(Err(Status::deadline_exceeded("the message did not arrive in time"))));
        };
        if let Some(timer) = &mut body.timer {
            timer.as_mut().reset(Instant::now() + body.idle);
        }
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(|error| Status::cancelled(format!("the body ended early: {error}")));
        Poll::Ready(Some(frame.and_then(|frame| {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            body.metered.add(bytes).map(|()| frame)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
