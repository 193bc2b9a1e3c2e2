//! An open loop, which finds the latency below a server's capacity: requests arrive at random moments, whether or not
//! others are answered. One that finds every connection busy waits, and its time begins with its arrival all the same.
//!
//! A thread of its own sends, because the timers of the other are too coarse; the other reads what is answered.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::client::{Connection, Target};
use crate::load::{Load, on_one_thread};
use crate::timing::Effort;

/// More than can be busy at a load that the server can bear.
const CONNECTIONS: usize = 64;
/// Between two attempts to send what the system would not take.
const SEND_PAUSE: Duration = Duration::from_micros(20);

/// Lets requests arrive at `rate` per second, as independent clients would send them: at random moments.
pub async fn run(target: &Target, rate: f64, effort: Effort) -> Result<Load> {
    let target = target.clone();
    let samples = on_one_thread(async move || {
        let (answered, answers) = channel();
        let mut readers = JoinSet::new();
        let mut writers = Vec::new();
        for connection in 0..CONNECTIONS {
            let (reader, writer) = Connection::open(&target).await?.split()?;
            readers.spawn(read(connection, reader, answered.clone()));
            writers.push(writer);
        }
        let pacer = Pacer::new(writers, target.request(), answers);
        tokio::task::spawn_blocking(move || pacer.run(rate, effort)).await?
    });
    Ok(Load::of(samples.await?, effort))
}

type Answered = Result<(usize, Instant)>;

/// Tells when each answer is there.
async fn read(index: usize, mut connection: Connection, answered: Sender<Answered>) {
    loop {
        let answer = connection.receive().await.map(|_body| (index, Instant::now()));
        let is_over = answer.is_err();
        // Nobody listens once the measurement is over.
        if answered.send(answer).is_err() || is_over {
            return;
        }
    }
}

/// Sends requests when they arrive.
struct Pacer {
    writers: Vec<TcpStream>,
    request: Bytes,
    answers: Receiver<Answered>,
    /// Connections that wait for nothing.
    idle: Vec<usize>,
    /// When the request arrived that each connection is busy with.
    arrivals: Vec<Instant>,
    samples: Vec<(Instant, Duration)>,
}

impl Pacer {
    fn new(writers: Vec<TcpStream>, request: Bytes, answers: Receiver<Answered>) -> Pacer {
        let idle = (0..writers.len()).collect();
        let arrivals = vec![Instant::now(); writers.len()];
        Pacer { writers, request, answers, idle, arrivals, samples: Vec::new() }
    }

    fn run(mut self, rate: f64, effort: Effort) -> Result<Vec<Duration>> {
        let mut random = fastrand::Rng::with_seed(1);
        let began = Instant::now();
        let end = began + effort.warm_up + effort.measure;
        let mut next = began;
        while next < end {
            let arrival = wait_until(next);
            self.send(arrival)?;
            // Independent arrivals: the gaps are distributed exponentially.
            next += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
        }
        while self.idle.len() < self.writers.len() {
            let answer = self.answers.recv()?;
            self.take(answer)?;
        }
        let counted =
            |(arrival, time): (Instant, Duration)| (arrival >= began + effort.warm_up).then_some(time);
        Ok(self.samples.into_iter().filter_map(counted).collect())
    }

    fn send(&mut self, arrival: Instant) -> Result<()> {
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer)?;
        }
        while self.idle.is_empty() {
            let answer = self.answers.recv()?;
            self.take(answer)?;
        }
        let index = self.idle.pop().context("a connection is idle")?;
        self.arrivals[index] = arrival;
        write_all(&mut self.writers[index], &self.request)
    }

    fn take(&mut self, answer: Answered) -> Result<()> {
        let (index, answered) = answer?;
        let arrival = self.arrivals[index];
        self.samples.push((arrival, answered.saturating_duration_since(arrival)));
        self.idle.push(index);
        Ok(())
    }
}

/// Waits, and says when the request arrived: at the moment that was waited for, or where the system woke this thread
/// late, then.
fn wait_until(moment: Instant) -> Instant {
    let wait = moment.saturating_duration_since(Instant::now());
    if wait.is_zero() {
        return moment;
    }
    thread::sleep(wait);
    Instant::now()
}

/// The socket is one that does not block, as its other half wants it.
fn write_all(writer: &mut TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match writer.write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(SEND_PAUSE),
            Err(error) => return Err(error).context("cannot send"),
        }
    }
    Ok(())
}
