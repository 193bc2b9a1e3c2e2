//! A closed loop, which finds a server's capacity: each connection sends its next request when the last one is answered.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::client::{Connection, Target};
use crate::timing::{Effort, Times};

/// What a load came to.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Over all connections.
    pub requests_per_second: f64,
    /// Of single requests.
    pub times: Times,
}

impl Load {
    /// Of the times of all requests.
    pub fn of(samples: Vec<Duration>, effort: Effort) -> Load {
        let requests_per_second = samples.len() as f64 / effort.measure.as_secs_f64();
        Load { requests_per_second, times: Times::of(samples) }
    }
}

/// Sends requests over `connections` connections at once. They are shared among as many threads as there are cores:
/// one alone would be busy before a server is that does nothing.
pub async fn run(target: &Target, connections: usize, effort: Effort) -> Result<Load> {
    let threads = thread::available_parallelism()?.get().min(connections);
    let mut shares = JoinSet::new();
    for thread in 0..threads {
        let share = connections / threads + usize::from(thread < connections % threads);
        let target = target.clone();
        shares.spawn(on_one_thread(async move || {
            let mut clients = JoinSet::new();
            for _ in 0..share {
                clients.spawn(client(target.clone(), effort));
            }
            all(clients).await
        }));
    }
    Ok(Load::of(all(shares).await?, effort))
}

async fn client(target: Target, effort: Effort) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(&target).await?;
    let began = Instant::now();
    let mut samples = Vec::new();
    loop {
        let started = Instant::now();
        if started - began >= effort.warm_up + effort.measure {
            return Ok(samples);
        }
        connection.ask().await?;
        if started - began >= effort.warm_up {
            samples.push(started.elapsed());
        }
    }
}

/// The body of one answer.
pub async fn answer(target: &Target) -> Result<Vec<u8>> {
    Ok(Connection::open(target).await?.ask().await?.to_vec())
}

async fn all<T: Send + 'static>(mut clients: JoinSet<Result<Vec<T>>>) -> Result<Vec<T>> {
    let mut samples = Vec::new();
    while let Some(client) = clients.join_next().await {
        samples.extend(client??);
    }
    Ok(samples)
}

/// Runs on a thread of its own.
pub async fn on_one_thread<T: Send + 'static>(
    work: impl AsyncFnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let run = move || Builder::new_current_thread().enable_io().build()?.block_on(work());
    tokio::task::spawn_blocking(run).await?
}
