//! Measures engines in turn, so that what else the machine does meets all of them alike.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Run;

/// Rounds at least, however long one takes.
const ROUNDS: usize = 5;

/// The shortest time of a run of each, after as long a time for each as asked for. On a machine that does other
/// things as well, the median says more of those.
pub fn alternating(runs: &mut [&mut Run], each: Duration) -> Result<Vec<Duration>> {
    let mut times: Vec<Vec<Duration>> = runs.iter().map(|_| Vec::new()).collect();
    let deadline = Instant::now() + each * u32::try_from(runs.len())?;
    while times.iter().any(|times| times.len() < ROUNDS) || Instant::now() < deadline {
        for (run, times) in runs.iter_mut().zip(&mut times) {
            let begin = Instant::now();
            run()?;
            times.push(begin.elapsed());
        }
        if runs.is_empty() {
            break;
        }
    }
    Ok(times.into_iter().map(|times| times.into_iter().min().unwrap_or_default()).collect())
}
