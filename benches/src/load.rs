//! Two kinds of load. A closed loop finds the capacity: each connection sends its next request when the last one is
//! answered. An open loop finds the latency below it: requests arrive at random moments, whether or not others are
//! answered, and the time of each begins with its arrival, so that those that have to wait count as long as they are.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::Builder;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
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
    fn of(samples: Vec<Duration>, effort: Effort) -> Load {
        let requests_per_second = samples.len() as f64 / effort.measure.as_secs_f64();
        Load { requests_per_second, times: Times::of(samples) }
    }
}

/// Connections that share the arrivals of an open loop: more than can be busy at a load that the server can bear.
const OPEN_CONNECTIONS: usize = 64;

/// Sends requests over `connections` connections at once.
pub async fn closed(target: &Target, connections: usize, effort: Effort) -> Result<Load> {
    let target = target.clone();
    let samples = on_one_thread(async move || {
        let mut clients = JoinSet::new();
        for _ in 0..connections {
            clients.spawn(closed_client(target.clone(), effort));
        }
        all(clients).await
    });
    Ok(Load::of(samples.await?, effort))
}

async fn closed_client(target: Target, effort: Effort) -> Result<Vec<Duration>> {
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

/// Lets requests arrive at `rate` per second, as independent clients would send them: at random moments.
pub async fn open(target: &Target, rate: f64, effort: Effort) -> Result<Load> {
    let target = target.clone();
    let samples = on_one_thread(async move || {
        let (arrive, arrivals) = unbounded_channel();
        let arrivals = Arc::new(Mutex::new(arrivals));
        let mut clients = JoinSet::new();
        for _ in 0..OPEN_CONNECTIONS {
            let connection = Connection::open(&target).await?;
            clients.spawn(open_client(connection, arrivals.clone()));
        }
        let (stop, stopped) = mpsc::channel::<()>();
        let counted_from = Instant::now() + effort.warm_up;
        let pacer = thread::spawn(move || pace(&arrive, &stopped, rate, effort));
        let samples = all(clients).await;
        drop(stop);
        pacer.join().ok().context("the pacing thread panicked")?;
        let counted = |(arrival, time): (Instant, Duration)| (arrival >= counted_from).then_some(time);
        Ok(samples?.into_iter().filter_map(counted).collect::<Vec<Duration>>())
    });
    Ok(Load::of(samples.await?, effort))
}

/// A thread of its own, because the timers of the others are too coarse: it waits for nobody, and what it could not
/// send in time it sends at once.
fn pace(arrive: &UnboundedSender<Instant>, stopped: &mpsc::Receiver<()>, rate: f64, effort: Effort) {
    let mut random = fastrand::Rng::with_seed(1);
    let began = Instant::now();
    let mut next = Duration::ZERO;
    while next < effort.warm_up + effort.measure {
        let wait = next.saturating_sub(began.elapsed());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        let nobody_listens = stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected);
        if nobody_listens || arrive.send(Instant::now()).is_err() {
            return;
        }
        // Independent arrivals: the gaps are distributed exponentially.
        next += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
    }
}

type Arrivals = Arc<Mutex<UnboundedReceiver<Instant>>>;

async fn open_client(mut connection: Connection, arrivals: Arrivals) -> Result<Vec<(Instant, Duration)>> {
    let mut samples = Vec::new();
    loop {
        let next = arrivals.lock().await.recv().await;
        let Some(arrival) = next else { return Ok(samples) };
        connection.ask().await?;
        samples.push((arrival, arrival.elapsed()));
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

/// All connections share one thread: a second one would only take more of the server's cores.
async fn on_one_thread<T: Send + 'static>(
    work: impl AsyncFnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let run = move || Builder::new_current_thread().enable_io().build()?.block_on(work());
    tokio::task::spawn_blocking(run).await?
}
