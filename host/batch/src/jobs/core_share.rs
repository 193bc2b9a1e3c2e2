//! How much the calls of one job take of the cores that all batch work has. Knows no rows and no model.

use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::time::sleep;

/// So many calls at one moment, and a pause of each after it.
pub(crate) struct CoreShare {
    turns: Semaphore,
    calls: usize,
    /// Seconds of pause for each second of a call.
    pause: f64,
}

impl CoreShare {
    /// This share of so many cores, in percent, and at most `parallelism` calls at one moment.
    pub(crate) fn new(cores: usize, percent: u32, parallelism: Option<u32>) -> CoreShare {
        let percent = percent.clamp(1, 100);
        let allowed = cores as f64 * f64::from(percent) / 100.0;
        // While one call waits for its network another one can go on.
        let most = if percent < 100 { allowed.ceil() as usize } else { 2 * cores };
        let calls = parallelism.map_or(most, |parallelism| most.min(parallelism as usize)).max(1);
        let busy = (allowed / calls as f64).min(1.0);
        let pause = if percent < 100 { (1.0 - busy) / busy } else { 0.0 };
        CoreShare { turns: Semaphore::new(calls), calls, pause }
    }

    /// Calls at one moment.
    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    /// Lets a call run when there is room for it, and waits after it for as long as the share wants.
    pub(crate) async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        // Never closed.
        let _turn = self.turns.acquire().await;
        let began = Instant::now();
        let answer = call.await;
        if self.pause > 0.0 {
            sleep(began.elapsed().mul_f64(self.pause)).await;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_cores_is_calls_and_pauses() {
        let share = |parallelism, percent| {
            let share = CoreShare::new(4, percent, parallelism);
            (share.calls(), share.pause)
        };
        assert_eq!(share(None, 100), (8, 0.0));
        assert_eq!(share(Some(3), 100), (3, 0.0));
        assert_eq!(share(None, 50), (2, 0.0));
        assert_eq!(share(None, 25), (1, 0.0));
        let (calls, pause) = share(None, 10);
        assert!(calls == 1 && (pause - 1.5).abs() < 1e-9, "{pause}");
        assert_eq!(share(Some(1), 50), (1, 0.0));
    }
}
