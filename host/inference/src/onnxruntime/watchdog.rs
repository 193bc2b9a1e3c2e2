//! Stops runs that are late or that nobody waits for any more: one thread for all of them. A run only leaves its limits
//! in a place of its own thread, which nobody else locks but the watchdog, every few milliseconds.

use std::cell::OnceCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use ort::Error;
use parking_lot::Mutex;

use super::native::RunOptions;
use crate::engine::RunLimits;

/// How late a run may be noticed.
const TICK: Duration = Duration::from_millis(5);

/// Ticks without any run after which the watchdog sleeps until there is one.
const IDLE_TICKS: u32 = 40;

pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    places: Mutex<Vec<Weak<Place>>>,
    is_asleep: AtomicBool,
}

/// Where a thread leaves the limits of its run.
struct Place {
    options: RunOptions,
    running: Mutex<Option<Running>>,
}

struct Running {
    limits: RunLimits,
    is_stopped: bool,
}

thread_local! {
    static PLACE: OnceCell<Arc<Place>> = const { OnceCell::new() };
}

impl Watchdog {
    pub(super) fn start() -> io::Result<Watchdog> {
        let shared = Arc::new(Shared { places: Mutex::default(), is_asleep: AtomicBool::new(false) });
        let watched = shared.clone();
        let thread = thread::Builder::new()
            .name("inference-watchdog".into())
            .stack_size(128 << 10)
            .spawn(move || watched.watch())?;
        Ok(Watchdog { shared, thread: thread.thread().clone() })
    }

    /// Calls `run` with options that are terminated when the limits are passed.
    pub(super) fn guard<T>(
        &self,
        limits: &RunLimits,
        run: impl FnOnce(&RunOptions) -> Result<T, Error>,
    ) -> Result<T, Error> {
        PLACE.with(|place| {
            let place = match place.get() {
                Some(place) => place,
                None => {
                    let fresh = self.new_place()?;
                    place.get_or_init(|| fresh)
                }
            };
            *place.running.lock() = Some(Running { limits: limits.clone(), is_stopped: false });
            let end = End(place);
            self.wake();
            let result = run(&place.options);
            drop(end);
            result
        })
    }

    fn new_place(&self) -> Result<Arc<Place>, Error> {
        let place = Arc::new(Place { options: RunOptions::create()?, running: Mutex::default() });
        self.shared.places.lock().push(Arc::downgrade(&place));
        Ok(place)
    }

    fn wake(&self) {
        // With the fence in `watch`: either the watchdog sees this run, or this run sees that the watchdog sleeps.
        fence(Ordering::SeqCst);
        if self.shared.is_asleep.load(Ordering::Relaxed)
            && self.shared.is_asleep.swap(false, Ordering::SeqCst)
        {
            self.thread.unpark();
        }
    }
}

/// Takes a run out of its place, also where it panics.
struct End<'a>(&'a Place);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let was = self.0.running.lock().take();
        if was.is_some_and(|running| running.is_stopped)
            && let Err(error) = self.0.options.reset()
        {
            tracing::error!("the options of a run cannot be reset: {error}");
        }
    }
}

impl Shared {
    /// The whole life of the thread: as long as the process.
    fn watch(&self) {
        let mut idle = 0;
        loop {
            idle = if self.stop_late_runs() { 0 } else { idle + 1 };
            if idle < IDLE_TICKS {
                thread::sleep(TICK);
                continue;
            }
            self.is_asleep.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if !self.stop_late_runs() {
                thread::park();
            }
            self.is_asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }

    /// Whether anything runs.
    fn stop_late_runs(&self) -> bool {
        let mut is_busy = false;
        self.places.lock().retain(|place| {
            let Some(place) = place.upgrade() else { return false };
            is_busy |= place.stop_if_late();
            true
        });
        is_busy
    }
}

impl Place {
    fn stop_if_late(&self) -> bool {
        let mut running = self.running.lock();
        let Some(running) = &mut *running else { return false };
        if !running.is_stopped && running.limits.check().is_err() {
            match self.options.terminate() {
                Ok(()) => running.is_stopped = true,
                Err(error) => tracing::error!("a late run cannot be stopped: {error}"),
            }
        }
        true
    }
}
