//! How far a running job is, counted while it runs. Knows numbers and times only.

use std::collections::VecDeque;
use std::sync::Arc;
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
pub(crate) struct Progress(Mutex<State>);

#[derive(Default)]
struct State {
    total: u64,
    splits: SplitCounts,
    succeeded: u64,
    failed: u64,
    filtered: u64,
    /// Rows of parts that are not committed.
    pending: u64,
    /// Of those, rows that failed.
    pending_failed: u64,
    samples: VecDeque<(Instant, u64)>,
}

impl Progress {
    /// That of a job of which so much is recorded.
    pub(crate) fn recorded(rows: &RowCounts, splits: &SplitCounts) -> Progress {
        Progress(Mutex::new(State {
            total: rows.total,
            splits: *splits,
            succeeded: rows.succeeded,
            failed: rows.failed,
            filtered: rows.filtered,
            ..State::default()
        }))
    }

    /// Begins to count, with the parts that are committed already.
    pub(crate) fn begin<'a>(
        &self,
        total: u64,
        splits: SplitCounts,
        parts: impl IntoIterator<Item = &'a Part>,
    ) {
        let mut state = State { total, splits, ..State::default() };
        parts.into_iter().for_each(|part| state.add(part));
        *self.0.lock() = state;
    }

    /// Rows that are done and not committed, until they are or are given up.
    pub(crate) fn pending(self: &Arc<Self>) -> Pending {
        Pending { progress: self.clone(), rows: 0, failed: 0 }
    }

    /// A split is done.
    pub(crate) fn split_done(&self) {
        self.0.lock().splits.done += 1;
    }

    /// Rows that failed, committed or not.
    pub(crate) fn failed(&self) -> u64 {
        let state = self.0.lock();
        state.failed + state.pending_failed
    }

    /// Rows that the model was asked about, at most, and how many these can be in the end, at most.
    pub(crate) fn asked(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.succeeded + state.failed + state.pending, state.total.saturating_sub(state.filtered))
    }

    /// What is committed.
    pub(crate) fn counts(&self) -> (RowCounts, SplitCounts) {
        let state = self.0.lock();
        let State { total, succeeded, failed, filtered, splits, .. } = *state;
        let incomplete = total.saturating_sub(state.committed());
        (RowCounts { total, succeeded, failed, filtered, incomplete }, splits)
    }

    /// How fast it goes.
    pub(crate) fn pace(&self) -> Pace {
        let mut state = self.0.lock();
        state.sample();
        let done = state.done();
        let rate = match (state.samples.front(), state.samples.back()) {
            (Some((began, before)), Some((ended, after))) if ended > began => {
                Some(after.saturating_sub(*before) as f64 / (*ended - *began).as_secs_f64())
            }
            _ => None,
        };
        let left = state.total.saturating_sub(done) as f64;
        Pace {
            rows_done: Some(done),
            rows_per_second: rate,
            seconds_left: rate.filter(|rate| *rate > 0.0).map(|rate| left / rate),
        }
    }
}

impl State {
    fn add(&mut self, part: &Part) {
        self.succeeded += part.succeeded;
        self.failed += part.failed;
        self.filtered += part.filtered;
    }

    fn committed(&self) -> u64 {
        self.succeeded + self.failed + self.filtered
    }

    fn done(&self) -> u64 {
        self.committed() + self.pending
    }

    fn sample(&mut self) {
        let now = Instant::now();
        if self.samples.back().is_some_and(|(last, _)| now - *last < SAMPLE_INTERVAL) {
            return;
        }
        let done = self.done();
        self.samples.push_back((now, done));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    fn give_up(&mut self, rows: u64, failed: u64) {
        self.pending -= rows;
        self.pending_failed -= failed;
    }
}

/// Rows of one part that is not committed.
pub(crate) struct Pending {
    progress: Arc<Progress>,
    rows: u64,
    failed: u64,
}

impl Pending {
    /// So many rows more are done, of which so many failed.
    pub(crate) fn add(&mut self, rows: u64, failed: u64) {
        self.rows += rows;
        self.failed += failed;
        let mut state = self.progress.0.lock();
        state.pending += rows;
        state.pending_failed += failed;
        state.sample();
    }

    /// They are committed now.
    pub(crate) fn commit(mut self, part: &Part) {
        let (rows, failed) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.failed));
        let mut state = self.progress.0.lock();
        state.give_up(rows, failed);
        state.add(part);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.progress.0.lock().give_up(self.rows, self.failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_count_once_they_are_committed() {
        let progress = Arc::new(Progress::default());
        let part = |first_row, succeeded, failed| Part {
            first_row,
            end_row: first_row + 10,
            succeeded,
            failed,
            filtered: 10 - succeeded - failed,
            file: None,
        };
        progress.begin(30, SplitCounts { total: 3, done: 1 }, [&part(0, 8, 1)]);
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
        assert_eq!(progress.asked(), (19, 29));
    }
}
