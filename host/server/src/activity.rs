//! Whether a connection still does something: bytes and requests are noted as they come and go, and a look
//! once in a while tells slow and idle connections from busy ones. One timer per connection, none per request.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a look at a connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Leave it alone.
    Alive,
    /// Nothing was asked and nothing was sent for too long.
    Idle,
    /// A head began to arrive and did not end in time.
    SlowHead,
}

/// The notes about one connection. Times are milliseconds since `opened`. Each is written by the one task
/// that drives the connection, or by a request of it; a look may be off by what happens at that moment.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    requests: AtomicU32,
    idle_since: AtomicU64,
    /// When the first byte after the last request came; [`NO_HEAD`] where none did.
    head_since: AtomicU64,
    is_http2: AtomicBool,
}

const NO_HEAD: u64 = u64::MAX;

impl Activity {
    /// A new connection owes a head from the start.
    pub(crate) fn new() -> Activity {
        Activity {
            opened: Instant::now(),
            requests: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            is_http2: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(NO_HEAD - 1)
    }

    fn received(&self) {
        if self.requests.load(Relaxed) == 0 && self.head_since.load(Relaxed) == NO_HEAD {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    fn sent(&self) {
        let now = self.now();
        self.idle_since.store(now, Relaxed);
        // What came while a response was on its way out could not be read yet: its time begins now.
        if self.head_since.load(Relaxed) != NO_HEAD {
            self.head_since.store(now, Relaxed);
        }
    }

    /// A request's head is complete. The request lasts until the guard is dropped.
    pub(crate) fn request(self: &Arc<Self>, is_http2: bool) -> RequestGuard {
        self.is_http2.store(is_http2, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.head_since.store(NO_HEAD, Relaxed);
        RequestGuard(Arc::clone(self))
    }

    /// Looks at the connection. HTTP/2 connections have frames of their own between requests, so bytes say
    /// nothing about heads there.
    pub(crate) fn look(&self, header_timeout: Duration, keep_alive: Duration) -> Verdict {
        if self.requests.load(Relaxed) > 0 {
            return Verdict::Alive;
        }
        let now = Duration::from_millis(self.now());
        let since = |time: u64| now.saturating_sub(Duration::from_millis(time));
        let head = self.head_since.load(Relaxed);
        let is_reading_head = head != NO_HEAD && !self.is_http2.load(Relaxed);
        if is_reading_head && since(head) >= header_timeout {
            Verdict::SlowHead
        } else if since(self.idle_since.load(Relaxed)) >= keep_alive {
            Verdict::Idle
        } else {
            Verdict::Alive
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct RequestGuard(Arc<Activity>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// A stream whose traffic is noted.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    pub(crate) stream: S,
    pub(crate) activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.activity.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, data))?;
        self.activity.sent();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, data))?;
        self.activity.sent();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(20);

    fn wait() {
        std::thread::sleep(SHORT + SHORT);
    }

    #[test]
    fn a_head_must_come_in_time() {
        let activity = Arc::new(Activity::new());
        assert_eq!(activity.look(LONG, LONG), Verdict::Alive);
        wait();
        assert_eq!(activity.look(SHORT, LONG), Verdict::SlowHead);
        drop(activity.request(false));
        assert_eq!(activity.look(SHORT, LONG), Verdict::Alive, "between requests no head is owed");
        wait();
        assert_eq!(activity.look(SHORT, LONG), Verdict::Alive);
        activity.received();
        assert_eq!(activity.look(SHORT, LONG), Verdict::Alive);
        wait();
        assert_eq!(activity.look(SHORT, LONG), Verdict::SlowHead);
    }

    #[test]
    fn idle_is_neither_asking_nor_sending() {
        let activity = Arc::new(Activity::new());
        let request = activity.request(false);
        wait();
        assert_eq!(activity.look(SHORT, SHORT), Verdict::Alive, "a request may take its time");
        drop(request);
        assert_eq!(activity.look(LONG, SHORT), Verdict::Alive);
        wait();
        activity.sent();
        assert_eq!(activity.look(LONG, SHORT), Verdict::Alive);
        wait();
        assert_eq!(activity.look(LONG, SHORT), Verdict::Idle);
    }

    #[test]
    fn frames_of_http2_are_no_heads() {
        let activity = Arc::new(Activity::new());
        drop(activity.request(true));
        activity.received();
        wait();
        assert_eq!(activity.look(SHORT, LONG), Verdict::Alive);
        assert_eq!(activity.look(SHORT, SHORT), Verdict::Idle);
    }
}
