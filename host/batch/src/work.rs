//! The threads that batch work runs on: a tokio runtime of its own. It knows nothing of what runs there.

use std::sync::Arc;

use modelhost_serving::BackgroundThreads;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

use crate::Error;

/// A handle to the threads. They end when the last one is dropped.
#[derive(Clone)]
pub struct Work {
    threads: Arc<Threads>,
}

struct Threads {
    /// Taken out when it ends; always there before.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Work {
    /// Starts the threads.
    pub(crate) fn start(threads: BackgroundThreads) -> Result<Work, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.count())
            .thread_name("batch")
            .on_thread_start(move || threads.enter())
            .enable_all()
            .build();
        let runtime = runtime.map_err(Error::internal)?;
        let handle = runtime.handle().clone();
        Ok(Work { threads: Arc::new(Threads { runtime: Some(runtime), handle }) })
    }

    /// Where tasks are spawned.
    pub fn handle(&self) -> &Handle {
        &self.threads.handle
    }

    /// Runs a future there. It goes on to its end where the caller does not wait for it.
    ///
    /// # Errors
    /// What the future answers; [`ErrorCode::Internal`](modelhost_core::ErrorCode::Internal) where it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.handle().spawn(work).await?
    }

    /// Runs a future there, which is dropped where the caller does not wait for it any longer.
    ///
    /// # Errors
    /// As [`Work::run`].
    pub async fn run_while_awaited<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        AbortOnDropHandle::new(self.handle().spawn(work)).await?
    }

    /// Runs something that blocks.
    ///
    /// # Errors
    /// As [`Work::run`].
    pub async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.handle().spawn_blocking(work).await?
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime may not be dropped by one of its own threads; and nothing here is half-done if it ends.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
