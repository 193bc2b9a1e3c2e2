//! How long a graph takes for inputs of some size, learned from its runs: for judging what is worth putting together, and
//! not for more, because inputs of one size may take very different times (`known_times`). Knows durations and sizes, not
//! what was run.

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

/// A longer run moves the estimate by an eighth of the difference: some ten runs to follow a change.
const SLOWER: u64 = 8;

/// A shorter run moves it by half: whatever else the machine does makes runs longer, never shorter, so the short ones
/// say more about the graph.
const QUICKER: u64 = 2;

/// See [`RunTimes::doubt`].
const DOUBT: u64 = 32;

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

    /// The estimate for inputs of about this size, or else what the nearest smaller size that was measured would take
    /// if time grew with size.
    pub(crate) fn at_most(&self, input_bytes: usize) -> Option<Duration> {
        let size = bits(input_bytes);
        (0..=size).rev().find_map(|smaller| match self.estimates[smaller].load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => {
                let factor = 1_u64.checked_shl((size - smaller) as u32).unwrap_or(u64::MAX);
                Some(Duration::from_nanos(nanoseconds.saturating_mul(factor)))
            }
        })
    }

    /// Adds one measured run.
    pub(crate) fn record(&self, input_bytes: usize, elapsed: Duration) {
        let measured = nanoseconds(elapsed);
        self.change(input_bytes, |before| match before {
            0 => measured,
            _ => moved(before, measured),
        });
    }

    /// Lowers the estimate a little, because a run did not take place on its account: an estimate that no run renews
    /// must not stand in the way for ever.
    pub(crate) fn doubt(&self, input_bytes: usize) {
        self.change(input_bytes, |before| before - before / DOUBT);
    }

    /// Two changes at once may lose one of them: it is an estimate.
    fn change(&self, input_bytes: usize, change: impl FnOnce(u64) -> u64) {
        let slot = self.slot(input_bytes);
        slot.store(change(slot.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    fn slot(&self, input_bytes: usize) -> &AtomicU64 {
        &self.estimates[bits(input_bytes)]
    }
}

fn bits(size: usize) -> usize {
    (usize::BITS - size.leading_zeros()) as usize
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// An estimate after one more run.
pub(crate) fn moved(before: u64, measured: u64) -> u64 {
    let measured = measured.min(before.saturating_mul(LARGEST_FACTOR));
    let weight = if measured < before { QUICKER } else { SLOWER };
    let after = before - before / weight + measured / weight;
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
    fn an_estimate_that_is_doubted_gives_way() {
        let times = RunTimes::default();
        times.record(100, Duration::from_millis(500));
        let doubts = (0..100).take_while(|_| {
            times.doubt(100);
            times.estimate(100).unwrap() > Duration::from_millis(250)
        });
        assert!((10..50).contains(&doubts.count()));
    }

    #[test]
    fn a_size_that_was_never_run_is_judged_by_a_smaller_one() {
        let times = RunTimes::default();
        assert_eq!(times.at_most(100), None);
        times.record(100, Duration::from_micros(5));
        assert_eq!(times.at_most(100), Some(Duration::from_micros(5)));
        assert_eq!(times.at_most(1_000), Some(Duration::from_micros(40)));
        assert_eq!(times.at_most(1), None);
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
