//! Request bodies: reading them whole within limits of size, time and memory, or chunk by chunk, and getting
//! rid of what nobody read.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use modelhost_core::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::ApiError;
use crate::settings::ServerSettings;

/// A body whose end has not come is read on for this long and this far after its request was answered, so
/// that a client that only sends sees the answer and not a broken connection.
const LINGER_TIME: Duration = Duration::from_secs(10);
const LINGER_BYTES: u64 = 64 << 20;
/// Bodies up to this size are not counted against the budget.
const SMALL: usize = 64 << 10;
/// What one permit of the budget stands for.
const BUDGET_UNIT: usize = 1 << 10;

/// The memory for bodies that are read whole and for the tensors in them, shared by all connections.
#[derive(Clone, Debug)]
pub(crate) struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    pub(crate) fn new(bytes: u64) -> BodyBudget {
        let permits = usize::try_from(bytes.div_ceil(BUDGET_UNIT as u64)).unwrap_or(usize::MAX);
        BodyBudget(Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))))
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let permits = u32::try_from(bytes.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.0).try_acquire_many_owned(permits).map_err(|_| {
            ApiError::new(ErrorCode::Overloaded, "too many large requests are under way: try again later")
        })
    }
}

/// A share of the budget, given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Reservation(Option<OwnedSemaphorePermit>);

impl Reservation {
    /// Makes it at least as large as this.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] where others have too much of the budget.
    pub(crate) fn extend_to(&mut self, bytes: usize, budget: &BodyBudget) -> Result<(), ApiError> {
        let held = self.0.as_ref().map_or(0, |permit| permit.num_permits() * BUDGET_UNIT);
        if bytes <= SMALL || bytes <= held {
            return Ok(());
        }
        let more = budget.take(bytes - held)?;
        match &mut self.0 {
            Some(permit) => permit.merge(more),
            None => self.0 = Some(more),
        }
        Ok(())
    }
}

/// A body that was read whole.
#[derive(Debug)]
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    pub(crate) reservation: Reservation,
}

/// How a body may arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// Bytes in total.
    pub(crate) bytes: u64,
    /// Between two chunks.
    pub(crate) idle: Duration,
    /// From the first to the last.
    pub(crate) total: Duration,
}

impl BodyLimits {
    pub(crate) fn new(bytes: u64, settings: &ServerSettings) -> BodyLimits {
        BodyLimits { bytes, idle: settings.body_idle_timeout(), total: settings.body_timeout() }
    }
}

/// The body of one request.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Incoming,
    received: u64,
    /// The client waits for leave to send: it need not be listened to if it does not get it.
    expects_continue: bool,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, expects_continue: bool) -> RequestBody {
        RequestBody { incoming, received: 0, expects_continue }
    }

    /// Bytes that arrived so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The length that the client declared, or the least that is still to come.
    pub(crate) fn declared(&self) -> u64 {
        self.incoming.size_hint().lower()
    }

    /// Waits for the next chunk; none at the end.
    pub(crate) async fn chunk(
        &mut self,
        deadline: impl FnOnce() -> Instant,
    ) -> Result<Option<Bytes>, ApiError> {
        loop {
            // What has arrived already needs no timer.
            let frame = match self.incoming.frame().now_or_never() {
                Some(frame) => frame,
                None => return self.awaited_chunk(deadline()).await,
            };
            match self.take_data(frame)? {
                Taken::Data(bytes) => return Ok(Some(bytes)),
                Taken::Other => {}
                Taken::End => return Ok(None),
            }
        }
    }

    async fn awaited_chunk(&mut self, deadline: Instant) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = timeout_at(deadline, self.incoming.frame()).await.map_err(|_| too_slow())?;
            match self.take_data(frame)? {
                Taken::Data(bytes) => return Ok(Some(bytes)),
                Taken::Other => {}
                Taken::End => return Ok(None),
            }
        }
    }

    fn take_data(
        &mut self,
        frame: Option<hyper::Result<hyper::body::Frame<Bytes>>>,
    ) -> Result<Taken, ApiError> {
        let Some(frame) = frame else { return Ok(Taken::End) };
        let frame = frame.map_err(|error| ApiError::invalid(format!("the body ended early: {error}")))?;
        Ok(match frame.into_data() {
            Ok(bytes) => {
                self.received += bytes.len() as u64;
                Taken::Data(bytes)
            }
            Err(_trailers) => Taken::Other,
        })
    }

    /// Reads all of it. Memory grows with what arrives, not with what is declared.
    pub(crate) async fn read(
        &mut self,
        limits: BodyLimits,
        budget: &BodyBudget,
    ) -> Result<WholeBody, ApiError> {
        if self.declared() > limits.bytes {
            return Err(too_large(limits.bytes));
        }
        let mut start = None;
        let mut deadline = || {
            let now = Instant::now();
            (now + limits.idle).min(*start.get_or_insert(now) + limits.total)
        };
        let Some(first) = self.chunk(&mut deadline).await? else {
            return Ok(WholeBody { bytes: Bytes::new(), reservation: Reservation::default() });
        };
        self.check_size(limits.bytes)?;
        if self.is_complete() {
            return Ok(WholeBody { bytes: first, reservation: Reservation::default() });
        }
        let mut whole = BytesMut::from(first);
        let mut reservation = Reservation::default();
        while let Some(chunk) = self.chunk(&mut deadline).await? {
            self.check_size(limits.bytes)?;
            reservation.extend_to(whole.len() + chunk.len(), budget)?;
            make_room(&mut whole, chunk.len(), self.declared());
            whole.extend_from_slice(&chunk);
        }
        Ok(WholeBody { bytes: whole.freeze(), reservation })
    }

    fn check_size(&self, limit: u64) -> Result<(), ApiError> {
        if self.received > limit { Err(too_large(limit)) } else { Ok(()) }
    }

    /// Whether all of it was read.
    pub(crate) fn is_complete(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// What is left, where the client sends it unasked.
    pub(crate) fn into_unread(self) -> Option<Incoming> {
        let is_awaiting_leave = self.expects_continue && self.received == 0;
        (!is_awaiting_leave).then_some(self.incoming)
    }
}

enum Taken {
    Data(Bytes),
    Other,
    End,
}

/// Makes room for a chunk and, as far as that is no more than four times what has come, for all that is declared to
/// follow it. Otherwise for a quarter of it, or a quarter of that: so it is moved for the last time when it is still
/// short, and a third of it at most is copied once more.
fn make_room(whole: &mut BytesMut, chunk: usize, declared: u64) {
    let needed = whole.len() + chunk;
    if whole.capacity() < needed {
        let rest = usize::try_from(declared).unwrap_or(usize::MAX);
        let mut room = needed.saturating_add(rest);
        while room > needed.saturating_mul(4) {
            room = room.div_ceil(4);
        }
        whole.reserve(room.max(needed) - whole.len());
    }
}

/// Reads and forgets, within bounds. The connection closes where the end did not come in time.
pub(crate) async fn linger(mut incoming: Incoming) {
    let deadline = Instant::now() + LINGER_TIME;
    let mut left = LINGER_BYTES;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, incoming.frame()).await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

pub(crate) fn too_large(limit: u64) -> ApiError {
    ApiError::new(
        ErrorCode::TooLarge,
        format!("the body is larger than the {limit} bytes that are allowed here"),
    )
}

fn too_slow() -> ApiError {
    ApiError::new(ErrorCode::RequestTimeout, "the body did not arrive in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_body_is_seldom_moved() {
        const CHUNK: usize = 60_000;
        for chunks in 2..100 {
            let total = chunks * CHUNK;
            let mut whole = BytesMut::with_capacity(0);
            let mut moved = 0;
            for received in 1..=chunks {
                let capacity = whole.capacity();
                make_room(&mut whole, CHUNK, (total - received * CHUNK) as u64);
                moved += if whole.capacity() > capacity { whole.len() } else { 0 };
                whole.extend_from_slice(&[0; CHUNK]);
                assert!(whole.capacity() <= 4 * whole.len(), "{} for {}", whole.capacity(), whole.len());
            }
            assert!(moved <= total / 3 + CHUNK, "{moved} of {total} bytes were moved");
        }
    }

    #[test]
    fn what_is_declared_takes_no_memory() {
        let mut whole = BytesMut::new();
        make_room(&mut whole, 1_000, u64::MAX);
        assert!(whole.capacity() <= 4_000, "{}", whole.capacity());
        whole.extend_from_slice(&[0; 1_000]);
        make_room(&mut whole, 10_000, 0);
        assert!(whole.capacity() >= 11_000, "{}", whole.capacity());
    }

    #[test]
    fn large_bodies_share_one_budget() {
        let budget = BodyBudget::new(256 << 10);
        let mut first = Reservation::default();
        for length in (10..=200).step_by(10) {
            first.extend_to(length << 10, &budget).unwrap();
        }
        assert_eq!(first.0.as_ref().map(OwnedSemaphorePermit::num_permits), Some(200));
        let mut second = Reservation::default();
        second.extend_to(SMALL, &budget).unwrap();
        let refused = second.extend_to(SMALL + 1, &budget).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        drop(first);
        second.extend_to(256 << 10, &budget).unwrap();
    }
}
