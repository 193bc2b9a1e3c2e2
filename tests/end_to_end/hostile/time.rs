//! Time ends: a plugin's own, its client's patience, and what others have to wait beside it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::artifacts;
use modelhost_tests::host::{Setup, wait_until};
use modelhost_tests::http::Response;
use modelhost_tests::inference::{behaviour, column_body, to};

use super::arena::{Arena, PATIENCE_OF_OTHERS};

#[test]
fn loops_and_sleeps_end_at_the_wall_time() {
    let arena = Arena::new();
    let late = &["hostile", "1500 ms"];
    arena.attack(&behaviour("hostile", "loop", 0), 504, late);
    arena.attack(&behaviour("hostile", "sleep", 3_600_000), 504, late);
    arena.attack(&behaviour("hostile", "collect-clocks", 0), 504, late);
    arena.attack(&behaviour("hostile", "log", 0), 504, late);
    arena.host.send(&behaviour("hostile", "sleep", 100)).expect(200);
}

#[test]
fn a_client_may_want_less_time() {
    let arena = Arena::new();
    let mut body = column_body(&[1.0]);
    body["parameters"] = serde_json::json!({ "behaviour": "loop", "timeout": 50_000 });
    let request = to("/v2/models/hostile/infer", &body);
    arena.attack(&request, 504, &["50 ms"]);
}

#[test]
fn a_crowd_of_loops_leaves_room_for_others() {
    let setup = Setup::new()
        .set("serving.max_concurrent_requests_per_model", 8)
        .set("serving.max_queued_requests_per_model", 8);
    let arena = Arena::with(setup);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let steady = scope.spawn(|| arena.ask_steadily(&is_over));
        let attack = || arena.host.send(&behaviour("hostile", "loop", 0));
        let attackers: Vec<_> = (0..40).map(|_| scope.spawn(attack)).collect();
        let answers: Vec<Response> = attackers.into_iter().map(|attacker| attacker.join().unwrap()).collect();
        is_over.store(true, SeqCst);
        let (asked, slowest) = steady.join().unwrap();
        assert!(
            asked > 10 && slowest < PATIENCE_OF_OTHERS,
            "{asked} other answers, the slowest after {slowest:?}"
        );
        let refused: Vec<&Response> = answers.iter().filter(|answer| answer.status == 429).collect();
        assert!(refused.len() >= 8, "{} of 40 were refused at a limit of 16", refused.len());
        for answer in answers.iter().filter(|answer| answer.status != 429) {
            answer.error(504);
        }
        assert!(refused[0].error(429).contains("hostile"));
        assert_eq!(refused[0].header("retry-after"), Some("1"));
    });
    arena.assert_recovered();
}

/// Whoever hangs up does not leave a plugin running.
#[test]
fn a_call_ends_with_its_client() {
    let host = Setup::new().start();
    host.deploy_new("hostile", &artifacts::test_plugin("hostile"));
    let pending = || {
        let metrics = host.get("/metrics").text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("nv_inference_pending_request_count{model=\"hostile\""));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    let body = r#"{"parameters":{"behaviour":"loop"},"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}"#;
    let head = format!(
        "POST /v2/models/hostile/infer HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut connection = host.connect();
    connection.write(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    wait_until("the call runs", || pending() == Some(1));
    drop(connection);
    let began = Instant::now();
    wait_until("the call has ended", || pending() == Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}, of the 30 s that it could take",
        began.elapsed()
    );
}
