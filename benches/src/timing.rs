//! Times something many times and keeps what a reader needs: the median and the 99th percentile.

use std::time::{Duration, Instant};

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

/// Runs `work` again and again, first uncounted, then counted.
pub async fn time<T>(
    effort: Effort,
    mut work: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<Times> {
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
