//! How long a graph takes, learned from its runs. Knows durations and sizes, not what was run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Moving estimates of the run time, one for each power of two of the inputs' total bytes: a graph that is quick for
/// one row is not quick for a million.
pub(crate) struct RunTimes {
    /// Nanoseconds; 0 where nothing was measured.
    estimates: [AtomicU64; SIZES],
}

/// One estimate for each bit length of a 64-bit size.
const SIZES: usize = 65;

/// A new run moves the estimate by an eighth of the difference: some ten runs to follow a change.
const WEIGHT: u64 = 8;

/// A single run counts as at most this many times the estimate, so that one run that was interrupted by the
/// operating system does not look like a slow graph.
const LARGEST_FACTOR: u64 = 4;

impl Default for RunTimes {
    fn default() -> RunTimes {
        RunTimes { estimates: [const { AtomicU64::new(0) }; SIZES] }
    }
}

impl RunTimes {
    /// The estimate for inputs of about this size; none before the first run.
    pub(crate) fn estimate(&self, input_bytes: usize) -> Option<Duration> {
        match self.slot(input_bytes).load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }

    /// Adds one measured run.
    pub(crate) fn record(&self, input_bytes: usize, elapsed: Duration) {
        let slot = self.slot(input_bytes);
        let measured = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
        let before = slot.load(Ordering::Relaxed);
        let after = match before {
            0 => measured,
            _ => moved(before, measured),
        };
        // Two runs that end at once may lose one of the two updates: it is an estimate.
        slot.store(after, Ordering::Relaxed);
    }

    fn slot(&self, input_bytes: usize) -> &AtomicU64 {
        let bits = (usize::BITS - input_bytes.leading_zeros()) as usize;
        &self.estimates[bits]
    }
}

fn moved(before: u64, measured: u64) -> u64 {
    let measured = measured.min(before.saturating_mul(LARGEST_FACTOR));
    let after = before - before / WEIGHT + measured / WEIGHT;
    after.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples_us: &[u64]) -> Duration {
        let times = RunTimes::default();
        samples_us.iter().for_each(|us| times.record(100, Duration::from_micros(*us)));
        times.estimate(100).unwrap()
    }

    #[test]
    fn follows_what_is_measured() {
        assert_eq!(after(&[50]), Duration::from_micros(50));
        assert!(after(&[&[1000][..], &[10; 60]].concat()) < Duration::from_micros(15));
        assert!(after(&[&[10][..], &[1000; 60]].concat()) > Duration::from_micros(900));
    }

    #[test]
    fn one_interrupted_run_changes_little() {
        assert!(after(&[&[10; 10][..], &[20_000]].concat()) < Duration::from_micros(15));
    }

    #[test]
    fn sizes_are_kept_apart() {
        let times = RunTimes::default();
        times.record(100, Duration::from_micros(5));
        assert!(times.estimate(120).is_some());
        assert!(times.estimate(1 << 20).is_none());
        assert!(times.estimate(0).is_none());
        assert!(times.estimate(usize::MAX).is_none());
    }
}
