//! Jobs that are stopped and go on, at whatever moment that is, and those that go on after they have failed.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use modelhost_tests::host::{Host, wait_until};
use modelhost_tests::inference::to;
use modelhost_tests::table;
use serde_json::{Value, json};

use super::{
    change, errors, job, left_behind, numbers, output, put, selective_job, start, wait_for, with_selective,
};

fn fine(id: usize) -> String {
    format!("{},fine", id as f32 / 2.0)
}

fn host_with(rows: usize, fields: impl Fn(usize) -> String) -> Host {
    let host = Host::start();
    with_selective(&host);
    put(&host, "numbers", "text/csv", numbers(rows, fields));
    host
}

fn assert_doubled(host: &Host, done: &Value, rows: usize) {
    assert_eq!(done["state"], "succeeded", "{done}");
    assert_eq!((&done["rows"]["succeeded"], &done["rows"]["filtered"]), (&json!(rows), &json!(0)), "{done}");
    let predicted = output(host, done);
    let ids = table::integers(&predicted, "id");
    assert!(ids.iter().copied().eq(0..rows as i64), "each row once, in order: {} rows", ids.len());
    assert!(table::singles(&predicted, "y").iter().zip(&ids).all(|(y, id)| *y == *id as f32));
}

#[test]
fn pieces_beside_each_other_are_stopped_whenever_that_is() {
    // Each split is one batch: a piece that ends has its neighbour's beginning where it would go on.
    let rows = 12 * 65_536;
    let host = host_with(rows, fine);
    let mut specification = selective_job("numbers", "doubled");
    specification["batch_size"] = json!(65_536);
    specification["parallelism"] = json!(4);
    let id = start(&host, &specification);
    let mut random = fastrand::Rng::with_seed(5);
    let mut paused = 0;
    for _ in 0..12 {
        thread::sleep(Duration::from_millis(random.u64(50..250)));
        let stopped = change(&host, id, "pause");
        if stopped.status != 200 || stopped.expect(200)["state"] != "paused" {
            break;
        }
        paused += 1;
        change(&host, id, "resume").expect(200);
    }
    assert!(paused > 1, "the job was over too soon: {paused}");
    assert_doubled(&host, &wait_for(&host, id, &["succeeded", "failed"]), rows);
}

#[test]
fn whatever_is_wanted_at_one_moment_a_job_ends_in_one_state() {
    let host = host_with(60_000, fine);
    for attempt in 0..8_u64 {
        let id = start(&host, &selective_job("numbers", &format!("doubled{attempt}")));
        thread::sleep(Duration::from_millis(attempt * 15));
        thread::scope(|scope| {
            for what in ["pause", "cancel", "resume", "pause", "resume"] {
                let host = &host;
                scope.spawn(move || {
                    let status = change(host, id, what).status;
                    assert!([200, 409].contains(&status), "{what}: {status}");
                });
            }
        });
        // A cancel either wins for good or came after the end.
        let ended = wait_for(&host, id, &["cancelled", "succeeded"]);
        if ended["state"] == "cancelled" {
            assert_eq!(left_behind(&host, id), Vec::<String>::new());
            change(&host, id, "resume").error(409);
            host.get(&format!("/v1/datasets/doubled{attempt}")).error(404);
        }
        thread::sleep(Duration::from_millis(50));
        assert_eq!(job(&host, id)["state"], ended["state"], "it stays as it is");
    }
}

#[test]
fn a_job_that_may_not_fail_goes_on_where_it_failed() {
    let rows = 30_000;
    let fields = |id: usize| if id == 20_000 { "1,invalid".to_owned() } else { fine(id) };
    let host = host_with(rows, fields);
    let id = start(&host, &selective_job("numbers", "doubled"));
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!(failed["error"], "row 20000 failed: the plugin does not like it", "{failed}");
    let counts = &failed["rows"];
    assert!(counts["succeeded"].as_u64().is_some_and(|done| done > 0), "what was done is kept: {failed}");
    assert_eq!(counts["failed"], 0, "a row that is tried again has not failed for good");
    assert!(errors(&host, id).is_empty());
    // As it is it fails again.
    change(&host, id, "resume").expect(200);
    wait_for(&host, id, &["failed"]);
    let resume = |changes: Value| host.send(&to(&format!("/v1/jobs/{id}/resume"), &changes));
    assert!(resume(json!({ "max_failed_share": 0.5 })).error(400).contains("\"skip\""));
    assert!(resume(json!({ "share": 0.5 })).error(400).contains("share"));
    resume(json!({ "on_error": "skip", "max_failed_share": 0.5 })).expect(200);
    let done = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!((&done["state"], &done["rows"]["failed"]), (&json!("succeeded"), &json!(1)), "{done}");
    assert_eq!(done["rows"]["succeeded"], rows - 1);
}

#[test]
fn a_job_that_failed_too_often_goes_on_when_more_may() {
    let rows = 4_000;
    let fields = |id: usize| if id % 10 == 3 { "1,invalid".to_owned() } else { fine(id) };
    let host = host_with(rows, fields);
    let mut specification = selective_job("numbers", "doubled");
    specification["on_error"] = json!("skip");
    specification["max_failed_share"] = json!(0.05);
    let id = start(&host, &specification);
    let failed = wait_for(&host, id, &["succeeded", "failed"]);
    assert!(failed["error"].as_str().unwrap().contains("200 may"), "{failed}");
    host.send(&to(&format!("/v1/jobs/{id}/resume"), &json!({ "max_failed_share": 0.2 }))).expect(200);
    let done = wait_for(&host, id, &["succeeded", "failed"]);
    assert_eq!((&done["state"], &done["rows"]["failed"]), (&json!("succeeded"), &json!(rows / 10)), "{done}");
    assert_eq!(errors(&host, id).len(), rows / 10);
}

#[test]
fn slow_rows_are_committed_meanwhile() {
    // A fifth of a second for each row, one a call.
    let host = host_with(200, |_| "1,sleep".to_owned());
    let mut specification = selective_job("numbers", "doubled");
    specification["batch_size"] = json!(4);
    specification["parallelism"] = json!(1);
    let id = start(&host, &specification);
    wait_until("some rows are committed", || job(&host, id)["rows"]["succeeded"].as_u64().unwrap_or(0) > 0);
    let running = job(&host, id);
    assert_eq!(running["state"], "running", "{running}");
    assert!(running["rows"]["incomplete"].as_u64().is_some_and(|left| left > 100), "{running}");
    assert_eq!(change(&host, id, "cancel").expect(200)["state"], "cancelled");
}

/// An address that stays the same, behind which a host restarts under another one.
struct Relay {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
}

impl Relay {
    fn start(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, target) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(target)));
        let to = target.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let to = *to.lock().unwrap();
                // Where nothing listens the connection just ends.
                if let Ok(host) = TcpStream::connect(to) {
                    copy(client.try_clone().unwrap(), host.try_clone().unwrap());
                    copy(host, client);
                }
            }
        });
        Relay { address, target }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn whoever_watches_a_job_waits_for_a_host_that_restarts() {
    let host = host_with(40, |_| "1,sleep".to_owned());
    let relay = Relay::start(host.address());
    let mut specification = selective_job("numbers", "doubled");
    specification["batch_size"] = json!(2);
    specification["parallelism"] = json!(1);
    let id = start(&host, &specification);
    let watching = host
        .setup()
        .command("batch")
        .args(["watch", &id.to_string(), "--url", &format!("http://{}", relay.address)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("some rows are done", || job(&host, id)["rows_done"].as_u64().unwrap_or(0) > 4);
    let setup = host.kill();
    thread::sleep(Duration::from_millis(1_500));
    let host = setup.start();
    *relay.target.lock().unwrap() = host.address();
    let watched = watching.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&watched.stdout), String::from_utf8_lossy(&watched.stderr));
    assert!(watched.status.success() && out.contains("succeeded"), "{out}\n{err}");
    assert!(err.contains("waits for the host"), "{err}");
}
