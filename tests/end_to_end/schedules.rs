//! Schedules with the real clock: due every second, missed while the host is down, paused, run by hand; one run at a
//! time, and each of them once whatever ends the host.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use modelhost_tests::guest::Guest;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::{Request, Response};
use serde_json::{Value, json};

const EVERY_SECOND: &str = "* * * * * *";
/// Takes some hundred milliseconds for each call.
const SLOW: &str = "(global.set $left (i32.const 100000000))
    (loop $again
        (global.set $left (i32.sub (global.get $left) (i32.const 1)))
        (br_if $again (global.get $left)))";

/// A host with a model and a dataset of one column that goes into it.
fn with_model(host: &Host, guest: Guest) {
    host.deploy_new("m", &guest.component());
    put_rows(host, 3);
}

fn put_rows(host: &Host, rows: u32) {
    let lines: String = (0..rows).map(|row| format!("{row}.5\n")).collect();
    let put = Request::new("PUT", "/v1/datasets/d/versions", format!("x\n{lines}"));
    let put = put.header("Content-Type", "text/csv");
    assert!(matches!(host.send(&put).status, 200 | 201));
}

fn schedule(cron: &str, missed: &str) -> Value {
    let job = json!({ "dataset": "d@latest", "model": "m", "output": { "dataset": "out" } });
    json!({ "cron": cron, "time_zone": "Europe/Lisbon", "missed": missed, "job": job })
}

#[track_caller]
fn add(host: &Host, name: &str, schedule: &Value) -> Value {
    host.send(&Request::put(format!("/v1/schedules/{name}"), schedule)).expect(201)
}

fn change(host: &Host, name: &str, what: &str) -> Response {
    host.send(&Request::post(format!("/v1/schedules/{name}/{what}"), []))
}

/// The runs, the newest first.
fn runs(host: &Host, name: &str) -> Vec<Value> {
    host.get(&format!("/v1/schedules/{name}/runs")).expect(200)["runs"].as_array().unwrap().clone()
}

fn succeeded(host: &Host, name: &str) -> usize {
    runs(host, name).iter().filter(|run| run["outcome"] == "succeeded").count()
}

/// Whole seconds of a time as the API writes it.
fn second(time: &Value) -> &str {
    time.as_str().unwrap().split('.').next().unwrap().trim_end_matches('Z')
}

#[test]
fn a_schedule_runs_at_its_times_with_what_is_the_latest_then() {
    let host = Host::start();
    with_model(&host, Guest::answering("y"));
    let made = add(&host, "every-second", &schedule(EVERY_SECOND, "skip"));
    assert_eq!(made["paused"], false);
    assert!(made["next_due"].is_string() && made["last_run"].is_null(), "{made}");
    wait_until("it ran twice", || succeeded(&host, "every-second") >= 2);
    put_rows(&host, 7);
    let before = succeeded(&host, "every-second");
    wait_until("it ran on", || succeeded(&host, "every-second") >= before + 2);
    let paused = change(&host, "every-second", "pause").expect(200);
    assert!(paused["paused"] == true && paused["next_due"].is_null(), "{paused}");
    wait_until("nothing is under way", || runs(&host, "every-second")[0]["outcome"] != "running");
    let all = runs(&host, "every-second");
    // Every run was due at a second of its own, and numbered in order.
    let due: BTreeSet<&str> = all.iter().map(|run| second(&run["due"])).collect();
    assert_eq!(due.len(), all.len(), "{all:?}");
    let numbers: Vec<u64> = all.iter().rev().map(|run| run["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    assert!(all.iter().all(|run| run["cause"] == "due"), "{all:?}");
    let job = host.get(&format!("/v1/jobs/{}", all[0]["job"])).expect(200);
    assert_eq!((&job["dataset"], &job["rows"]["succeeded"]), (&json!("d@2"), &json!(7)));
    assert_eq!(job["by"], format!("schedule every-second, run {}", all[0]["number"]));
    // Nothing happens while it is paused, but by hand.
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(runs(&host, "every-second").len(), all.len());
    let asked = change(&host, "every-second", "run").expect(201);
    assert_eq!(asked["cause"], "asked");
    wait_until("it ran", || succeeded(&host, "every-second") == all.len() + 1);
    change(&host, "every-second", "resume").expect(200);
    wait_until("it runs again", || succeeded(&host, "every-second") > all.len() + 1);
    assert_eq!(host.send(&Request::delete("/v1/schedules/every-second")).status, 204);
    host.get("/v1/schedules/every-second").error(404);
    assert_eq!(host.get("/v1/schedules").expect(200), json!({ "schedules": [] }));
}

#[test]
fn no_two_runs_of_one_schedule_at_once() {
    let host = Host::start();
    with_model(
        &host,
        Guest::answering("y").with_items("(global $left (mut i32) (i32.const 0))").before_predict(SLOW),
    );
    put_rows(&host, 40);
    let mut slow = schedule(EVERY_SECOND, "skip");
    slow["job"]["batch_size"] = json!(1);
    slow["job"]["parallelism"] = json!(1);
    add(&host, "slow", &slow);
    wait_until("a run is under way", || runs(&host, "slow").iter().any(|run| run["job"].is_u64()));
    let sentence = change(&host, "slow", "run").error(409);
    assert!(sentence.contains("run 1 of schedule \"slow\" is under way"), "{sentence}");
    wait_until("it was due meanwhile", || {
        runs(&host, "slow").last().unwrap()["overlapped"].as_u64().is_some_and(|count| count >= 2)
    });
    assert_eq!(runs(&host, "slow").iter().filter(|run| run["outcome"] == "running").count(), 1);
    let running = runs(&host, "slow").last().unwrap()["job"].clone();
    change(&host, "slow", "pause").expect(200);
    host.send(&Request::post(format!("/v1/jobs/{running}/cancel"), [])).expect(200);
    wait_until("it is over", || runs(&host, "slow").last().unwrap()["outcome"] == "cancelled");
}

#[test]
fn missed_runs_are_skipped_or_made_up_for_by_one() {
    let host = Host::start();
    with_model(&host, Guest::answering("y"));
    // Due every two seconds, so that a start takes place between two times.
    for (name, missed) in [("skips", "skip"), ("makes-up", "run_once")] {
        add(&host, name, &schedule("*/2 * * * * *", missed));
    }
    wait_until("both ran", || succeeded(&host, "skips") > 0 && succeeded(&host, "makes-up") > 0);
    let setup = host.kill();
    std::thread::sleep(Duration::from_secs(7));
    let host = setup.start();
    wait_until("both ran on", || {
        ["skips", "makes-up"]
            .iter()
            .all(|name| runs(&host, name).iter().filter(|run| run["cause"] == "due").count() > 3)
    });
    let missed = |name: &str| -> Vec<String> {
        let all = runs(&host, name);
        let missed = all.iter().filter(|run| run["cause"] == "missed");
        missed.map(|run| run["outcome"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(missed("skips"), ["skipped"]);
    wait_until("the one run is over", || missed("makes-up") == ["succeeded"]);
}

/// A job whose every row takes some hundred milliseconds.
fn slow(cron: &str, missed: &str) -> Value {
    let mut slow = schedule(cron, missed);
    slow["job"]["batch_size"] = json!(1);
    slow["job"]["parallelism"] = json!(1);
    slow
}

fn slow_guest() -> Guest {
    Guest::answering("y").with_items("(global $left (mut i32) (i32.const 0))").before_predict(SLOW)
}

#[test]
fn a_missed_run_takes_place_after_the_one_that_was_under_way() {
    let host = Host::start();
    with_model(&host, slow_guest());
    put_rows(&host, 30);
    add(&host, "s", &slow("*/3 * * * * *", "run_once"));
    wait_until("a run is under way", || runs(&host, "s").first().is_some_and(|run| run["job"].is_u64()));
    let setup = host.kill();
    std::thread::sleep(Duration::from_secs(5));
    let host = setup.start();
    assert_eq!(runs(&host, "s")[0]["outcome"], "running");
    wait_until("it is owed", || host.get("/v1/schedules/s").expect(200)["owed"].is_string());
    wait_until("the missed run takes place", || runs(&host, "s").len() >= 2);
    change(&host, "s", "pause").expect(200);
    wait_until("nothing is under way", || runs(&host, "s").iter().all(|run| run["outcome"] != "running"));
    let all = runs(&host, "s");
    let causes: Vec<&str> = all.iter().rev().map(|run| run["cause"].as_str().unwrap()).collect();
    assert_eq!(causes[..2], ["due", "missed"], "{all:?}");
    assert!(all.iter().all(|run| run["outcome"] == "succeeded"), "{all:?}");
}

#[test]
fn a_schedule_that_is_made_again_does_not_take_the_job_of_the_one_before() {
    let mut setup = Setup::new();
    let mut host = setup.start();
    with_model(&host, slow_guest());
    put_rows(&host, 20);
    for round in 1..=4_u64 {
        add(&host, "s", &slow("0 3 * * *", "skip"));
        change(&host, "s", "run").expect(201);
        setup = host.kill();
        host = setup.start();
        wait_until("its job is made", || runs(&host, "s")[0]["job"].is_u64());
        let all = runs(&host, "s");
        assert_eq!((all.len(), &all[0]["number"]), (1, &json!(1)), "{all:?}");
        let job = host.get(&format!("/v1/jobs/{}", all[0]["job"])).expect(200);
        let made = host.get("/v1/schedules/s").expect(200)["created"].clone();
        assert_eq!(job["run_of"], json!({ "schedule": "s", "created": made, "run": 1 }), "{job}");
        assert_eq!(host.get("/v1/jobs").expect(200)["jobs"].as_array().map(Vec::len), Some(round as usize));
        assert_eq!(host.send(&Request::delete("/v1/schedules/s")).status, 204);
    }
    // Somebody who calls himself as a run does makes no job of it.
    add(&host, "s", &slow("0 3 * * *", "skip"));
    let job = schedule("", "")["job"].clone();
    let claimed = Request::post("/v1/jobs", job.to_string()).header("From", "schedule s, run 1");
    let claimed = host.send(&claimed.header("Content-Type", "application/json")).expect(201);
    assert!(claimed["run_of"].is_null(), "{claimed}");
}

#[test]
fn a_run_takes_place_once_whatever_ends_the_host() {
    let mut setup = Setup::new().set("log.level", "warn");
    let host = setup.start();
    with_model(&host, Guest::answering("y"));
    add(&host, "s", &schedule(EVERY_SECOND, "run_once"));
    let mut host = Some(host);
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(fastrand::u64(200..1_800)));
        setup = host.take().unwrap().kill();
        host = Some(setup.start());
    }
    let host = host.unwrap();
    change(&host, "s", "pause").expect(200);
    wait_until("nothing is under way", || runs(&host, "s").iter().all(|run| run["outcome"] != "running"));
    let all = runs(&host, "s");
    assert!(all.len() > 5, "{all:?}");
    let due: BTreeSet<&str> = all.iter().map(|run| second(&run["due"])).collect();
    assert_eq!(due.len(), all.len(), "two runs for one time: {all:?}");
    assert!(all.iter().all(|run| run["outcome"] == "succeeded"), "{all:?}");
    // As many jobs as runs, each of another.
    let jobs = host.get("/v1/jobs").expect(200)["jobs"].as_array().unwrap().clone();
    let of_runs: BTreeSet<u64> = all.iter().map(|run| run["job"].as_u64().unwrap()).collect();
    assert_eq!(jobs.len(), all.len());
    assert_eq!(of_runs, jobs.iter().map(|job| job["id"].as_u64().unwrap()).collect());
}

#[test]
fn what_cannot_be_a_schedule_is_said() {
    let host = Host::start();
    with_model(&host, Guest::answering("y"));
    let refused = |schedule: Value, words: &str| {
        let sentence = host.send(&Request::put("/v1/schedules/s", &schedule)).error(400);
        assert!(sentence.contains(words), "{sentence:?} does not say {words:?}");
    };
    refused(schedule("61 * * * *", "skip"), "cron is \"61 * * * *\"");
    refused(schedule("0 0 30 2 *", "skip"), "never due");
    refused(schedule("0 3 * * *", "later"), "missed");
    let mut atlantis = schedule("0 3 * * *", "skip");
    atlantis["time_zone"] = json!("Europe/Atlantis");
    refused(atlantis, "time_zone is \"Europe/Atlantis\"");
    refused(json!({ "cron": "0 3 * * *" }), "job");
    host.get("/v1/schedules/s").error(404);
    // A job that cannot be made is the failure of its run, and the next run takes place all the same.
    let mut unknown = schedule(EVERY_SECOND, "skip");
    unknown["job"]["model"] = json!("unknown");
    add(&host, "fails", &unknown);
    wait_until("it failed twice", || runs(&host, "fails").len() >= 2);
    let first = runs(&host, "fails").pop().unwrap();
    assert_eq!(first["outcome"], "failed", "{first}");
    assert!(first["error"].as_str().unwrap().contains("unknown"), "{first}");
}

#[test]
fn the_command_line_keeps_schedules() {
    let host = Host::start();
    with_model(&host, Guest::answering("y"));
    let folder = tempfile::tempdir().unwrap();
    let job = folder.path().join("job.toml");
    std::fs::write(&job, "dataset = 'd'\nmodel = 'm'\noutput = { dataset = 'out' }\n").unwrap();
    let run = |arguments: &[&str]| {
        let output = host.client(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&["schedules"]).contains("no schedules yet"));
    let made = run(&[
        "schedules",
        "add",
        "nightly",
        "--cron",
        "0 3 * * *",
        "--time-zone",
        "Europe/Lisbon",
        "--missed",
        "run-once",
        "--job",
        job.to_str().unwrap(),
    ]);
    assert!(made.starts_with("schedule nightly is made: next "), "{made}");
    assert!(run(&["schedules", "list"]).contains("Europe/Lisbon"));
    assert!(run(&["schedules", "show", "nightly"]).contains("are made up for by one run"));
    assert!(run(&["schedules", "run-now", "nightly"]).contains("running as job 1"));
    let began = Instant::now();
    while !run(&["schedules", "history", "nightly"]).contains("succeeded") {
        assert!(began.elapsed() < Duration::from_secs(60));
    }
    assert!(run(&["schedules", "pause", "nightly"]).contains("paused"));
    assert!(run(&["schedules", "resume", "nightly"]).contains("next "));
    run(&["schedules", "delete", "nightly"]);
    assert!(!host.client(&["schedules", "show", "nightly"]).status.success());
}
