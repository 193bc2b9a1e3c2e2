//! Requests that come together share a run of their graph, and a slow model does not hold up a quick one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, Setup};
use modelhost_tests::http::Request;
use modelhost_tests::inference::{column, output};
use modelhost_tests::{artifacts, onnx};
use serde_json::json;

fn counted(host: &Host, name: &str, model: &str) -> u64 {
    let series = format!("{name}{{model=\"{model}\",version=\"1\"}} ");
    let text = host.get("/metrics").text();
    let value = text.lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned));
    value.map_or(0, |value| value.parse().unwrap())
}

fn deploy(host: &Host, model: &str, graph: &[u8]) {
    host.deploy_new(model, &with_graph(artifacts::test_plugin("labelled"), "net", graph));
}

const CALLERS: usize = 16;
const ROUNDS: usize = 6;

/// All callers at once, each with values of its own, of one to three rows.
fn answers_are_right(host: &Host, model: &str) {
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            scope.spawn(move || {
                let mut connection = host.connect();
                for round in 0..ROUNDS {
                    let values: Vec<f32> =
                        (0..=round % 3).map(|row| (caller * 100 + round * 4 + row) as f32).collect();
                    let answer = connection.send(&column(model, &values)).unwrap().expect(200);
                    let doubled: Vec<f32> = values.iter().map(|value| value * 2.0).collect();
                    assert_eq!(*output(&answer, "y"), json!(doubled));
                }
            });
        }
    });
}

#[test]
fn requests_that_come_together_share_runs_and_get_their_own_answers() {
    let slow = onnx::layers(2.0, 512, 12);
    // With a delay, so that it does not depend on the machine whether they meet.
    let together = Setup::new().set("inference.dynamic_batching.max_queue_delay_microseconds", 2_000).start();
    deploy(&together, "m", &slow);
    answers_are_right(&together, "m");
    let requests = (CALLERS * ROUNDS) as u64;
    let rows: usize = (0..ROUNDS).map(|round| CALLERS * (round % 3 + 1)).sum();
    assert_eq!(counted(&together, "nv_inference_request_success", "m"), requests);
    assert_eq!(counted(&together, "nv_inference_count", "m"), rows as u64);
    let executions = counted(&together, "nv_inference_exec_count", "m");
    assert!(executions > 0 && executions < requests, "{executions} for {requests}");
    assert!(counted(&together, "nv_inference_queue_duration_us", "m") > 0);

    let apart = Setup::new().set("inference.dynamic_batching.max_batch_size", 1).start();
    deploy(&apart, "m", &slow);
    answers_are_right(&apart, "m");
    assert_eq!(counted(&apart, "nv_inference_exec_count", "m"), requests);
}

/// A graph that mixes rows runs each request alone, however it is configured.
#[test]
fn rows_that_depend_on_each_other_stay_with_their_request() {
    let host = Setup::new().set("inference.dynamic_batching.max_queue_delay_microseconds", 2_000).start();
    deploy(&host, "mixed", &onnx::sum_of_rows());
    let requests = 40;
    thread::scope(|scope| {
        for caller in 0..8_u8 {
            let host = &host;
            scope.spawn(move || {
                for _ in 0..requests / 8 {
                    let value = f32::from(caller);
                    let answer = host.send(&column("mixed", &[value, value])).expect(200);
                    assert_eq!(*output(&answer, "y"), json!([3.0 * value, 3.0 * value]));
                }
            });
        }
    });
    assert_eq!(counted(&host, "nv_inference_exec_count", "mixed"), requests);
}

#[test]
fn a_full_queue_is_429() {
    let host = Setup::new()
        .set("inference.threads", 1)
        .set("inference.dynamic_batching.max_queue_size", 1)
        .set("inference.dynamic_batching.max_batch_size", 1)
        .start();
    deploy(&host, "m", &onnx::sines(2.0, 300_000, 20));
    let statuses: Vec<u16> = thread::scope(|scope| {
        let callers: Vec<_> = (0..12).map(|_| scope.spawn(|| host.send(&column("m", &[1.0])))).collect();
        callers
            .into_iter()
            .map(|caller| {
                let response = caller.join().unwrap();
                if response.status == 429 {
                    assert!(response.header("retry-after").is_some());
                }
                response.status
            })
            .collect()
    });
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
}

/// How long requests take of which 99 of 100 are quicker.
fn p99(host: &Host, request: &Request, count: usize) -> Duration {
    let mut connection = host.connect();
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let began = Instant::now();
            connection.send(request).unwrap().expect(200);
            began.elapsed()
        })
        .collect();
    times.sort();
    times[count * 99 / 100]
}

/// A slice of the kernel's scheduler: what it may take until a thread that runs a long graph has given way. Those of Linux
/// are 3 ms by default; a request changes threads a few times on its way.
const SLICE: Duration = Duration::from_millis(10);

/// The machine may be busy with other tests: the best of some rounds counts, of the quick model alone as of both.
#[test]
fn a_slow_model_does_not_hold_up_a_quick_one() {
    let host = Host::start();
    deploy(&host, "quick", &onnx::multiplication(2.0));
    deploy(&host, "slow", &onnx::sines(2.0, 1_000_000, 40));
    let quick = column("quick", &[1.0, 2.0]);
    let slow = column("slow", &[1.0]);
    host.send(&slow).expect(200);
    let alone = (0..5).map(|_| p99(&host, &quick, 300)).min().unwrap();
    let is_over = AtomicBool::new(false);
    let beside = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = host.connect();
                while !is_over.load(Ordering::Relaxed) {
                    connection.send(&slow).unwrap().expect(200);
                }
            });
        }
        let beside = (0..8).map(|_| p99(&host, &quick, 300)).min().unwrap();
        is_over.store(true, Ordering::Relaxed);
        beside
    });
    println!("p99 of the quick model: alone {alone:?}, beside the slow one {beside:?}");
    assert!(beside <= alone * 2 + SLICE, "alone {alone:?}, beside the slow one {beside:?}");
}
