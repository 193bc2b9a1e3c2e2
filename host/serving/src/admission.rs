//! How many requests of a model run and wait at one moment. Each model has its own limits, so that one that
//! is overloaded refuses its own clients and nobody else's.

use modelhost_core::ErrorCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::Error;
use crate::settings::ServingSettings;

/// The door of a model.
pub(crate) struct Admission {
    /// Running and waiting together.
    admitted: Semaphore,
    running: Semaphore,
}

/// A request that may run. Its place is free again when this is dropped.
pub(crate) struct Admitted<'a> {
    _admitted: SemaphorePermit<'a>,
    _running: SemaphorePermit<'a>,
}

impl Admission {
    pub(crate) fn new(settings: &ServingSettings) -> Admission {
        let running = settings.max_concurrent_requests_per_model.max(1);
        let admitted = running.saturating_add(settings.max_queued_requests_per_model);
        Admission {
            admitted: Semaphore::new(admitted.min(Semaphore::MAX_PERMITS)),
            running: Semaphore::new(running.min(Semaphore::MAX_PERMITS)),
        }
    }

    /// Waits until the request may run. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] at once where too many wait already.
    pub(crate) async fn enter(&self) -> Result<Admitted<'_>, Error> {
        let overloaded =
            || Error::new(ErrorCode::Overloaded, "too many requests are waiting: try again later");
        let admitted = self.admitted.try_acquire().map_err(|_| overloaded())?;
        // Never closed, so this only waits.
        let running = self.running.acquire().await.map_err(|_| overloaded())?;
        Ok(Admitted { _admitted: admitted, _running: running })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn runs_queues_and_refuses() {
        let settings = ServingSettings {
            max_concurrent_requests_per_model: 1,
            max_queued_requests_per_model: 1,
            ..ServingSettings::default()
        };
        let admission = Admission::new(&settings);
        let running = admission.enter().await.unwrap();
        let mut waiting = Box::pin(admission.enter());
        assert!(futures_poll(&mut waiting).await.is_none());
        let refused = admission.enter().await.err().unwrap();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        drop(running);
        assert!(waiting.await.is_ok());
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::time::timeout(std::time::Duration::from_millis(10), future).await.ok()
    }
}
