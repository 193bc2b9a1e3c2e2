//! Times something many times and keeps what a reader needs: the median and the 99th percentile.

use std::time::{Duration, Instant};

use anyhow::Result;

/// What many runs of one thing took.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Half of the runs took less.
    pub median: Duration,
    /// One run in a hundred took more.
    pub p99: Duration,
}

impl Times {
    /// Of single durations.
    pub fn of(mut samples: Vec<Duration>) -> Times {
        samples.sort_unstable();
        let at = |share: f64| {
            let index = (samples.len() as f64 * share) as usize;
            samples.get(index.min(samples.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        Times { median: at(0.5), p99: at(0.99) }
    }
}

/// How long each measurement runs.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Before anything is counted.
    pub warm_up: Duration,
    /// While it is counted.
    pub measure: Duration,
}

impl Effort {
    /// So many seconds, after a quarter of them that is not counted.
    pub fn of_seconds(seconds: f64) -> Effort {
        Effort { warm_up: Duration::from_secs_f64(seconds / 4.0), measure: Duration::from_secs_f64(seconds) }
    }
}

/// Runs `work` again and again on this thread, first uncounted, then counted.
pub fn samples<T>(effort: Effort, mut work: impl FnMut() -> Result<T>) -> Result<Vec<Duration>> {
    let warm = Instant::now();
    while warm.elapsed() < effort.warm_up {
        work()?;
    }
    let began = Instant::now();
    let mut samples = Vec::new();
    while began.elapsed() < effort.measure {
        let started = Instant::now();
        std::hint::black_box(work()?);
        samples.push(started.elapsed());
    }
    Ok(samples)
}

/// The same for work that waits.
pub async fn time<T>(effort: Effort, mut work: impl AsyncFnMut() -> Result<T>) -> Result<Times> {
    let warm = Instant::now();
    while warm.elapsed() < effort.warm_up {
        work().await?;
    }
    let began = Instant::now();
    let mut samples = Vec::new();
    while began.elapsed() < effort.measure {
        let started = Instant::now();
        std::hint::black_box(work().await?);
        samples.push(started.elapsed());
    }
    Ok(Times::of(samples))
}
