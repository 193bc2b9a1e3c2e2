//! How long something takes, learned from the times that it took. Knows durations and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A moving estimate of a duration near the middle of what is measured.
#[derive(Debug, Default)]
pub(crate) struct Estimate {
    /// Nanoseconds; 0 where nothing was measured.
    nanoseconds: AtomicU64,
}

/// A new measurement moves the estimate by an eighth of the difference.
const SMOOTHING: u64 = 8;

/// A single measurement counts as at most this many times the estimate, so that one request that was interrupted
/// does not look like a slow model.
const LARGEST_FACTOR: u64 = 4;

impl Estimate {
    /// The estimate; none before the first measurement.
    pub(crate) fn get(&self) -> Option<Duration> {
        match self.nanoseconds.load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }

    /// Adds one measurement.
    pub(crate) fn record(&self, time: Duration) {
        let measured = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let after = match self.nanoseconds.load(Ordering::Relaxed) {
            0 => measured,
            before => {
                let measured = measured.min(before.saturating_mul(LARGEST_FACTOR));
                (before - before / SMOOTHING + measured / SMOOTHING).max(1)
            }
        };
        // Two that end at once may lose one of the two updates: it is an estimate.
        self.nanoseconds.store(after, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(milliseconds: &[u64]) -> Duration {
        let estimate = Estimate::default();
        milliseconds.iter().for_each(|time| estimate.record(Duration::from_millis(*time)));
        estimate.get().unwrap()
    }

    #[test]
    fn follows_what_is_measured() {
        assert_eq!(Estimate::default().get(), None);
        assert_eq!(after(&[50]), Duration::from_millis(50));
        assert!(after(&[&[1_000][..], &[10; 60]].concat()) < Duration::from_millis(15));
        assert!(after(&[&[10; 10][..], &[20_000]].concat()) < Duration::from_millis(15));
        assert!(after(&[&[10; 10][..], &[1_000; 60]].concat()) > Duration::from_millis(900));
    }
}
