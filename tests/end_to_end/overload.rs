//! More requests than the host can answer: it answers as many as it can, refuses the rest at once, and is well again as
//! soon as they stop. The short runs are for every test run and count in broad tolerances; the ones that are `ignored`
//! take a minute or two on a machine that does nothing else, and print what they measured:
//!
//! `cargo test --release --workspace --test end_to_end overload -- --ignored --nocapture --test-threads 1`

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::guest::Guest;
use modelhost_tests::host::Host;
use modelhost_tests::http::Request;
use modelhost_tests::inference::{behaviour, column};
use modelhost_tests::{artifacts, process};
use serde_json::json;

/// Requests of one model that run, and that wait, at one moment.
const RUNNING: usize = 4;
const WAITING: usize = 16;
/// So many that refused ones never keep the rate down.
const SENDERS: usize = 64;

/// A plugin that computes for some milliseconds.
fn computing(rounds: u32) -> Vec<u8> {
    Guest::answering("y")
        .with_items("(global $left (mut i32) (i32.const 0))")
        .before_predict(&format!(
            "(global.set $left (i32.const {rounds}))
             (loop $again
               (global.set $left (i32.sub (global.get $left) (i32.const 1)))
               (br_if $again (global.get $left)))"
        ))
        .component()
}

/// How long one request took, and how it ended.
type Outcome = (u16, Duration);

/// Sends the request on each of so many connections, for so long: one after the other, or at this pace.
fn load(
    host: &Host,
    request: &Request,
    connections: usize,
    time: Duration,
    pace: Option<Duration>,
) -> Vec<Outcome> {
    let began = Instant::now();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..connections)
            .map(|number| {
                let mut connection = host.connect();
                scope.spawn(move || {
                    let mut outcomes = Vec::new();
                    let offset =
                        pace.map_or(Duration::ZERO, |pace| pace * number as u32 / connections as u32);
                    let mut due = began + offset;
                    while due < began + time && began.elapsed() < time {
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        let sent = Instant::now();
                        let answer = connection.send(request).unwrap();
                        outcomes.push((answer.status, sent.elapsed()));
                        due = pace.map_or_else(Instant::now, |pace| due + pace);
                    }
                    outcomes
                })
            })
            .collect();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    })
}

fn times(outcomes: &[Outcome], status: u16) -> Vec<Duration> {
    let mut times: Vec<Duration> =
        outcomes.iter().filter(|(code, _)| *code == status).map(|(_, time)| *time).collect();
    times.sort_unstable();
    times
}

fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let index = ((sorted.len() as f64 - 1.0) * part).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

/// What is asked of an overloaded host.
struct Tolerances {
    /// Goodput, as a part of the capacity.
    goodput: f64,
    /// The slowest but one in a hundred refusals.
    refusal: Duration,
    /// Growth of memory from the first quarter of the time to its end.
    growth_kib: u64,
}

fn overload_fourfold(component: &[u8], request: &Request, time: Duration, tolerances: &Tolerances) {
    let host = Host::start();
    host.deploy_new("m", component);
    let limits = json!({ "max_concurrent_requests": RUNNING, "max_queued_requests": WAITING });
    host.send(&Request::put("/v1/models/m/configuration", &limits)).expect(200);
    // As many at once as run at once, and some that wait: neither idle nor overloaded. Before and after, for other
    // processes have a part in what this machine can do.
    let calm = time / 4;
    let measure =
        || times(&load(&host, request, RUNNING + 2, calm, None), 200).len() as f64 / calm.as_secs_f64();
    let capacity_before = measure();
    let pace = Duration::from_secs_f64(SENDERS as f64 / (4.0 * capacity_before));
    let early = load(&host, request, SENDERS, time / 4, Some(pace));
    let memory_before = process::resident_kib(host.pid());
    let late = load(&host, request, SENDERS, time - time / 4, Some(pace));
    let memory_after = process::resident_kib(host.pid());
    let recovery = Instant::now();
    host.send(request).expect(200);
    let recovery = recovery.elapsed();
    let capacity_after = measure();
    let capacity = (capacity_before + capacity_after) / 2.0;
    let outcomes = [early, late].concat();
    let (answered, refused) = (times(&outcomes, 200), times(&outcomes, 429));
    let rate = |count: usize| count as f64 / time.as_secs_f64();
    println!(
        "capacity {capacity_before:.0}/s before and {capacity_after:.0}/s after; sent {:.0}/s; answered {:.0}/s ({:.0} % of the capacity, median {:.1?}, p99 {:.1?}); \
         refused {:.0}/s (median {:.1?}, p99 {:.1?}); memory {memory_before} KiB, then {memory_after} KiB; first request \
         after it {recovery:.1?}",
        rate(outcomes.len()),
        rate(answered.len()),
        100.0 * rate(answered.len()) / capacity,
        quantile(&answered, 0.5),
        quantile(&answered, 0.99),
        rate(refused.len()),
        quantile(&refused, 0.5),
        quantile(&refused, 0.99),
    );
    assert_eq!(answered.len() + refused.len(), outcomes.len(), "an answer or 429, nothing else");
    assert!(rate(outcomes.len()) > 3.0 * capacity_before, "the load was not what it was meant to be");
    assert!(rate(answered.len()) > tolerances.goodput * capacity, "too little was answered");
    assert!(quantile(&refused, 0.99) < tolerances.refusal, "refusals took too long");
    assert!(memory_after < memory_before + tolerances.growth_kib, "memory grew");
    assert!(recovery < Duration::from_secs(1), "the host did not recover at once");
}

/// Requests that wait and do not compute, so that the capacity does not depend on what else the machine does.
#[test]
fn overload_is_refused_and_passes() {
    let tolerances = Tolerances { goodput: 0.8, refusal: Duration::from_millis(500), growth_kib: 16 << 10 };
    let request = behaviour("m", "sleep", 20);
    overload_fourfold(&artifacts::test_plugin("hostile"), &request, Duration::from_secs(8), &tolerances);
}

/// Requests that compute: the cores themselves are what there is too little of.
#[test]
#[ignore = "a minute on an idle machine"]
fn overload_for_a_minute() {
    let tolerances = Tolerances { goodput: 0.9, refusal: Duration::from_millis(100), growth_kib: 8 << 10 };
    let component = computing(4_000_000);
    overload_fourfold(&component, &column("m", &[1.0]), Duration::from_secs(60), &tolerances);
}

/// One model is flooded on 64 connections with requests that compute for many turns; the other is asked by one client for
/// something small. Answers the medians of both, and of the quiet one alone.
fn flood(time: Duration) -> [Duration; 3] {
    let host = Host::start();
    host.deploy_new("busy", &computing(12_000_000));
    host.deploy_new("quiet", &computing(1_000));
    let (busy, quiet) = (column("busy", &[1.0]), column("quiet", &[1.0]));
    host.send(&busy).expect(200);
    let alone = times(&load(&host, &quiet, 1, time / 4, None), 200);
    let is_over = AtomicBool::new(false);
    let (beside, flooded) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let outcomes = load(&host, &busy, 64, time, None);
            is_over.store(true, Ordering::Relaxed);
            outcomes
        });
        thread::sleep(time / 8);
        let mut connection = host.connect();
        let mut beside = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let sent = Instant::now();
            connection.send(&quiet).unwrap().expect(200);
            beside.push(sent.elapsed());
        }
        (beside, flood.join().unwrap())
    });
    let flooded = times(&flooded, 200);
    let mut beside = beside;
    beside.sort_unstable();
    println!(
        "quiet alone: median {:.2?}, p99 {:.2?}; beside the flood: median {:.2?}, p99 {:.2?} of {}; flooded: median {:.0?}, \
         {:.0}/s",
        quantile(&alone, 0.5),
        quantile(&alone, 0.99),
        quantile(&beside, 0.5),
        quantile(&beside, 0.99),
        beside.len(),
        quantile(&flooded, 0.5),
        flooded.len() as f64 / time.as_secs_f64(),
    );
    [&alone, &beside, &flooded].map(|times| quantile(times, 0.5))
}

/// In turns that go by arrival the quiet model would wait for a turn of each of 64 requests, a tenth of what each of those
/// takes. Compared with each other, not with a clock: how fast the machine is does not matter.
#[test]
fn a_flooded_model_does_not_starve_another() {
    let [_, quiet, busy] = flood(Duration::from_secs(8));
    assert!(quiet * 25 < busy, "the quiet model takes {quiet:?}, the flooded one {busy:?}");
}

#[test]
#[ignore = "half a minute on an idle machine"]
fn overload_of_one_model_beside_another() {
    let [alone, quiet, _] = flood(Duration::from_secs(30));
    assert!(quiet < alone * 2 + Duration::from_millis(4), "{alone:?} alone, {quiet:?} beside a flood");
}
