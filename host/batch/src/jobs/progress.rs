//! How far a running job is, counted while it runs. Knows numbers and times only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::parts::Part;
use super::record::{RowCounts, SplitCounts};

/// The rate is that of the last so many samples.
const SAMPLES: usize = 60;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// How fast a job goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Rows that are done, those of parts that are not committed yet among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_done: Option<u64>,
    /// Rows a second, in the last quarter of a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_second: Option<f64>,
    /// How long it will take at that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
}

/// Counts of one job.
#[derive(Default)]
pub(crate) struct Progress {
    total: AtomicU64,
    splits: AtomicU64,
    splits_done: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    filtered: AtomicU64,
    /// Rows of parts that are not committed.
    pending: AtomicU64,
    /// Of those, rows that failed.
    pending_failed: AtomicU64,
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

impl Progress {
    /// Begins to count, with the parts that are committed already.
    pub(crate) fn begin<'a>(
        &self,
        total: u64,
        splits: u64,
        splits_done: u64,
        parts: impl IntoIterator<Item = &'a Part>,
    ) {
        self.total.store(total, Relaxed);
        self.splits.store(splits, Relaxed);
        self.splits_done.store(splits_done, Relaxed);
        [&self.succeeded, &self.failed, &self.filtered].iter().for_each(|count| count.store(0, Relaxed));
        parts.into_iter().for_each(|part| self.add(part));
        self.samples.lock().clear();
    }

    fn add(&self, part: &Part) {
        self.succeeded.fetch_add(part.succeeded, Relaxed);
        self.failed.fetch_add(part.failed, Relaxed);
        self.filtered.fetch_add(part.filtered, Relaxed);
    }

    /// Rows that are done and not committed, until they are or are given up.
    pub(crate) fn pending(&self) -> Pending<'_> {
        Pending { progress: self, rows: 0, failed: 0 }
    }

    /// A split is done.
    pub(crate) fn split_done(&self) {
        self.splits_done.fetch_add(1, Relaxed);
    }

    /// Rows that failed, committed or not.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Relaxed) + self.pending_failed.load(Relaxed)
    }

    /// What is committed.
    pub(crate) fn counts(&self) -> (RowCounts, SplitCounts) {
        let [total, succeeded, failed, filtered] =
            [&self.total, &self.succeeded, &self.failed, &self.filtered].map(|count| count.load(Relaxed));
        let incomplete = total.saturating_sub(succeeded + failed + filtered);
        let splits = SplitCounts { total: self.splits.load(Relaxed), done: self.splits_done.load(Relaxed) };
        (RowCounts { total, succeeded, failed, filtered, incomplete }, splits)
    }

    /// How fast it goes.
    pub(crate) fn pace(&self) -> Pace {
        let (rows, _) = self.counts();
        let done = rows.total - rows.incomplete + self.pending.load(Relaxed);
        self.sample(done);
        let samples = self.samples.lock();
        let rate = match (samples.front(), samples.back()) {
            (Some((began, before)), Some((ended, after))) if ended > began => {
                Some(after.saturating_sub(*before) as f64 / (*ended - *began).as_secs_f64())
            }
            _ => None,
        };
        let left = rows.total.saturating_sub(done) as f64;
        Pace {
            rows_done: Some(done),
            rows_per_second: rate,
            seconds_left: rate.filter(|rate| *rate > 0.0).map(|rate| left / rate),
        }
    }

    fn sample(&self, done: u64) {
        let now = Instant::now();
        let mut samples = self.samples.lock();
        if samples.back().is_some_and(|(last, _)| now - *last < SAMPLE_INTERVAL) {
            return;
        }
        samples.push_back((now, done));
        if samples.len() > SAMPLES {
            samples.pop_front();
        }
    }
}

/// Rows of one part that is not committed.
pub(crate) struct Pending<'a> {
    progress: &'a Progress,
    rows: u64,
    failed: u64,
}

impl Pending<'_> {
    /// So many rows more are done, of which so many failed.
    pub(crate) fn add(&mut self, rows: u64, failed: u64) {
        self.rows += rows;
        self.failed += failed;
        self.progress.pending_failed.fetch_add(failed, Relaxed);
        self.progress.pending.fetch_add(rows, Relaxed);
        let (rows, _) = self.progress.counts();
        self.progress.sample(rows.total - rows.incomplete + self.progress.pending.load(Relaxed));
    }

    /// They are committed now.
    pub(crate) fn commit(self, part: &Part) {
        self.progress.add(part);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.progress.pending.fetch_sub(self.rows, Relaxed);
        self.progress.pending_failed.fetch_sub(self.failed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_count_once_they_are_committed() {
        let progress = Progress::default();
        let part = |first_row, succeeded, failed| Part {
            first_row,
            end_row: first_row + 10,
            succeeded,
            failed,
            filtered: 10 - succeeded - failed,
            file: None,
        };
        progress.begin(30, 3, 1, [&part(0, 8, 1)]);
        let mut given_up = progress.pending();
        given_up.add(5, 2);
        assert_eq!((progress.failed(), progress.pace().rows_done), (3, Some(15)));
        drop(given_up);
        assert_eq!((progress.failed(), progress.pace().rows_done), (1, Some(10)));
        let mut pending = progress.pending();
        pending.add(10, 0);
        pending.commit(&part(10, 10, 0));
        let (rows, _) = progress.counts();
        let expected = RowCounts { total: 30, succeeded: 18, failed: 1, filtered: 1, incomplete: 10 };
        assert_eq!(rows, expected);
        assert_eq!(progress.pace().rows_done, Some(20));
    }
}
