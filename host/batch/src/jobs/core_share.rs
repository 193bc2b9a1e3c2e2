//! How much of the machine's cores calls take: those of one job, and those of all jobs together. Knows no rows and no
//! model.

use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// So many calls at one moment, and a pause of each after it.
pub(crate) struct Allowance {
    turns: Semaphore,
    calls: usize,
    /// Seconds of pause for each second of a call.
    pause: f64,
}

/// What the calls of a job may take, as part of what all calls may.
pub(crate) struct CoreShare {
    of_job: Allowance,
    of_all: Arc<Allowance>,
}

impl Allowance {
    /// This share of so many cores, in percent, and at most `parallelism` calls at one moment.
    pub(crate) fn new(cores: usize, percent: u32, parallelism: Option<u32>) -> Allowance {
        let allowed = cores as f64 * f64::from(percent.clamp(1, 100)) / 100.0;
        // While one call waits for its network another one can go on.
        let most = if percent < 100 { allowed.ceil() as usize } else { 2 * cores };
        let calls = parallelism.map_or(most, |parallelism| most.min(parallelism as usize)).max(1);
        let busy = (allowed / calls as f64).min(1.0);
        let pause = if percent < 100 { (1.0 - busy) / busy } else { 0.0 };
        Allowance { turns: Semaphore::new(calls), calls, pause }
    }
}

impl CoreShare {
    /// A job's part of what all have.
    pub(crate) fn new(of_job: Allowance, of_all: Arc<Allowance>) -> CoreShare {
        CoreShare { of_job, of_all }
    }

    /// Calls at one moment.
    pub(crate) fn calls(&self) -> usize {
        self.of_job.calls.min(self.of_all.calls)
    }

    /// Lets a call run when there is room for it, and waits after it for as long as the shares want.
    pub(crate) async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        let CoreShare { of_job, of_all } = self;
        // Neither is ever closed.
        let _turn_of_job = of_job.turns.acquire().await;
        let turn_of_all = of_all.turns.acquire().await;
        let began = Instant::now();
        let answer = call.await;
        let took = began.elapsed();
        if of_all.pause > 0.0 {
            sleep(took.mul_f64(of_all.pause)).await;
        }
        drop(turn_of_all);
        if of_job.pause > of_all.pause {
            sleep(took.mul_f64(of_job.pause - of_all.pause)).await;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_share_of_the_machine_is_calls_and_pauses() {
        let allowance = |parallelism, percent| {
            let allowance = Allowance::new(4, percent, parallelism);
            (allowance.calls, allowance.pause)
        };
        assert_eq!(allowance(None, 100), (8, 0.0));
        assert_eq!(allowance(Some(3), 100), (3, 0.0));
        assert_eq!(allowance(None, 50), (2, 0.0));
        assert_eq!(allowance(None, 25), (1, 0.0));
        let (calls, pause) = allowance(None, 10);
        assert!(calls == 1 && (pause - 1.5).abs() < 1e-9, "{pause}");
        assert_eq!(allowance(Some(1), 50), (1, 0.0));
    }

    #[tokio::test]
    async fn jobs_share_what_all_have() {
        let of_all = Arc::new(Allowance::new(1, 50, None));
        let job = || CoreShare::new(Allowance::new(1, 100, None), of_all.clone());
        let (one, other) = (job(), job());
        assert_eq!(one.calls(), 1);
        let call = || sleep(Duration::from_millis(5));
        let began = Instant::now();
        let all = async {
            tokio::join!(one.call(call()), one.call(call()), other.call(call()), other.call(call()))
        };
        all.await;
        // Each of them and its pause, one after the other.
        assert!(began.elapsed() >= Duration::from_millis(40), "{:?}", began.elapsed());
    }
}
