//! `/v2/logging` changes what the running host logs.

use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::{Request, Response};
use serde_json::{Value, json};

use super::post;

fn change(host: &Host, settings: &Value) -> Response {
    post(host, "/v2/logging", settings)
}

/// The lines about a request with this id, once it must have been written: a later line is there.
fn lines_about(host: &Host, id: &str) -> Vec<String> {
    host.log().lines().filter(|line| line.contains(id)).map(str::to_owned).collect()
}

fn ask(host: &Host, id: &str) {
    host.send(&Request::get("/v2").header("X-Request-Id", id)).expect(200);
}

fn wait_for(host: &Host, id: &str) -> String {
    wait_until("the line is there", || !lines_about(host, id).is_empty());
    lines_about(host, id).remove(0)
}

#[test]
fn the_settings_are_those_of_the_configuration() {
    let default = json!({
        "log_file": "", "log_info": true, "log_warning": true, "log_error": true,
        "log_verbose_level": 0, "log_format": "ISO8601",
    });
    let host = Host::start();
    assert_eq!(host.get("/v2/logging").expect(200), default);
    assert_eq!(change(&host, &json!({})).expect(200), default);
    let quiet = Setup::new().set("log.level", "error").start();
    let settings = quiet.get("/v2/logging").expect(200);
    assert_eq!((&settings["log_info"], &settings["log_error"]), (&json!(false), &json!(true)));
    // It can be made to say more than it was configured to.
    change(&quiet, &json!({ "log_info": true })).expect(200);
    ask(&quiet, "now-it-speaks");
    wait_for(&quiet, "now-it-speaks");
}

#[test]
fn information_can_be_silenced_and_asked_for_again() {
    let host = Host::start();
    ask(&host, "first-request");
    wait_for(&host, "first-request");
    let settings = change(&host, &json!({ "log_info": false })).expect(200);
    assert_eq!((&settings["log_info"], &settings["log_warning"]), (&json!(false), &json!(true)));
    ask(&host, "second-request");
    change(&host, &json!({ "log_info": true })).expect(200);
    ask(&host, "third-request");
    wait_for(&host, "third-request");
    assert_eq!(lines_about(&host, "second-request"), [""; 0]);
}

#[test]
fn verbose_levels_show_more_of_modelhost() {
    let host = Host::start();
    let verbose = |level: u32| {
        let settings = change(&host, &json!({ "log_verbose_level": level })).expect(200);
        assert_eq!(settings["log_verbose_level"], level);
    };
    verbose(2);
    verbose(1);
    verbose(0);
    assert_eq!(host.get("/v2/logging").expect(200)["log_info"], true);
    ask(&host, "still-there");
    wait_for(&host, "still-there");
}

#[test]
fn the_time_of_a_line_has_two_forms() {
    let host = Host::start();
    ask(&host, "long-form");
    let line = wait_for(&host, "long-form");
    assert!(line.starts_with("20") && line.contains('T'), "{line}");
    assert_eq!(change(&host, &json!({ "log_format": "default" })).expect(200)["log_format"], "default");
    ask(&host, "short-form");
    let line = wait_for(&host, "short-form");
    let (date, rest) = line.split_once(' ').unwrap();
    assert!(date.len() == 4 && date.bytes().all(|byte| byte.is_ascii_digit()), "{line}");
    assert_eq!(rest.as_bytes()[2], b':', "{line}");
    change(&host, &json!({ "log_format": "ISO8601" })).expect(200);
}

#[test]
fn clients_choose_no_files_and_no_nonsense() {
    let host = Host::start();
    let target = host.data_dir().join("log.txt");
    let sentence = change(&host, &json!({ "log_file": target.to_str() })).error(400);
    assert!(sentence.contains("log_file cannot be set"), "{sentence}");
    assert!(!target.exists());
    change(&host, &json!({ "log_file": "" })).expect(200);
    for bad in [
        json!({ "log_info": "yes" }),
        json!({ "log_verbose_level": -1 }),
        json!({ "log_verbose_level": 1.5 }),
        json!({ "log_format": "xml" }),
        json!({ "log_everything": true }),
        // One bad value changes nothing.
        json!({ "log_info": false, "log_format": 7 }),
    ] {
        change(&host, &bad).error(400);
    }
    assert_eq!(host.get("/v2/logging").expect(200)["log_info"], true);
}
