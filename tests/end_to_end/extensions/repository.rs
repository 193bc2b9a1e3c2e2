//! What is in the repository, and taking a model out of service and back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use modelhost_tests::host::Host;
use modelhost_tests::http::{Request, Response};
use modelhost_tests::inference::{column, column_body, to, version};
use serde_json::{Value, json};

use super::{doubling, post, serving};
use crate::operate::{answering_version, component, rollback, with_versions};

fn index(host: &Host) -> Value {
    host.send(&Request::post("/v2/repository/index", "")).expect(200)
}

fn change(host: &Host, model: &str, what: &str) -> Response {
    host.send(&Request::post(format!("/v2/repository/models/{model}/{what}"), "").header("From", "ada"))
}

fn entry(model: &str, version: &str, reason: &str) -> Value {
    let state = if reason.is_empty() { "READY" } else { "UNAVAILABLE" };
    json!({ "name": model, "version": version, "state": state, "reason": reason })
}

#[test]
fn the_index_lists_every_version() {
    let host = with_versions(2);
    host.upload("a", &doubling()).expect(201);
    let all = json!([entry("a", "1", ""), entry("m", "1", ""), entry("m", "2", "")]);
    assert_eq!(index(&host), all);
    assert_eq!(host.send(&Request::post("/v2/repository/any/index", "{}")).expect(200), all);
    change(&host, "m", "unload").expect(200);
    let gone = json!([entry("a", "1", ""), entry("m", "1", "unloaded"), entry("m", "2", "unloaded")]);
    assert_eq!(index(&host), gone);
    assert_eq!(post(&host, "/v2/repository/index", &json!({ "ready": false })).expect(200), gone);
    let ready = post(&host, "/v2/repository/index", &json!({ "ready": true })).expect(200);
    assert_eq!(ready, json!([entry("a", "1", "")]));
    for bad in [json!({ "ready": "yes" }), json!({ "reday": true }), json!({ "ready": null })] {
        post(&host, "/v2/repository/index", &bad).error(400);
    }
}

#[test]
fn an_unloaded_model_answers_nothing_until_it_is_loaded() {
    let host = with_versions(2);
    host.deploy("m", 1);
    host.send(&crate::operate::alias("champion", 2)).expect(200);
    assert_eq!(change(&host, "m", "unload").text(), "");
    assert_eq!(host.get("/v2/models/m/ready").expect(503)["ready"], false);
    for path in ["", "/versions/1", "/versions/champion"] {
        let model = format!("/v2/models/m{path}");
        assert_eq!(host.get(&format!("{model}/ready")).expect(503)["ready"], false);
        for refused in [
            host.get(&model),
            host.get(&format!("{model}/config")),
            host.send(&to(&format!("{model}/infer"), &column_body(&[1.0]))),
        ] {
            assert!(refused.error(503).contains("model m is unloaded"));
        }
    }
    // What operators see stays as it was.
    host.get("/v1/models/m/versions/1").expect(200);
    assert_eq!(host.get("/v1/models/m/deployment").expect(200)["traffic"], json!([]));
    change(&host, "m", "load").expect(200);
    assert_eq!(answering_version(&host, "m"), 1);
    let revision = host.get("/v1/models/m/deployment").expect(200);
    assert_eq!((&revision["number"], &revision["by"]), (&json!(3), &json!("ada")));
}

#[test]
fn it_stays_unloaded_over_a_restart_and_a_lost_store() {
    let host = with_versions(1);
    host.deploy("m", 1);
    change(&host, "m", "unload").expect(200);
    let setup = host.kill();
    let host = setup.start();
    assert_eq!(index(&host), json!([entry("m", "1", "unloaded")]));
    host.send(&column("m", &[1.0])).error(503);
    let setup = host.stop();
    let rebuilt = setup.check(&["--rebuild"]);
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    let host = setup.start();
    host.send(&column("m", &[1.0])).error(503);
    change(&host, "m", "load").expect(200);
    let host = host.kill().start();
    assert_eq!(answering_version(&host, "m"), 1);
}

#[test]
fn doing_it_twice_changes_nothing() {
    let host = with_versions(1);
    host.deploy("m", 1);
    let revisions = || host.get("/v1/models/m/revisions").expect(200)["revisions"].as_array().map(Vec::len);
    change(&host, "m", "load").expect(200);
    assert_eq!(revisions(), Some(1));
    for _ in 0..2 {
        change(&host, "m", "unload").expect(200);
        assert_eq!(revisions(), Some(2));
    }
    for _ in 0..2 {
        change(&host, "m", "load").expect(200);
        assert_eq!(revisions(), Some(3));
    }
}

#[test]
fn what_was_never_deployed_is_loaded_by_its_newest_version() {
    let host = with_versions(3);
    host.get("/v2/models/m/ready").expect(503);
    change(&host, "m", "load").expect(200);
    assert_eq!(answering_version(&host, "m"), 3);
    // What was deployed may be gone by the time it is loaded again.
    change(&host, "m", "unload").expect(200);
    host.send(&Request::delete("/v1/models/m/versions/3")).expect(204);
    change(&host, "m", "load").expect(200);
    assert_eq!(answering_version(&host, "m"), 2);
}

#[test]
fn deploying_and_rolling_back_end_it_too() {
    let host = with_versions(2);
    host.deploy("m", 1);
    change(&host, "m", "unload").expect(200);
    host.deploy("m", 2);
    assert_eq!(answering_version(&host, "m"), 2);
    // The revision before let nothing answer, which nobody means by rolling back.
    host.send(&rollback("")).expect(200);
    assert_eq!(answering_version(&host, "m"), 1);
    change(&host, "m", "unload").expect(200);
    let to_nothing = host.send(&rollback("{\"revision\": 2}")).error(409);
    assert!(to_nothing.contains("revision 2 unloaded the model"), "{to_nothing}");
    host.send(&rollback("")).expect(200);
    assert_eq!(answering_version(&host, "m"), 1);
    host.deploy_new("m", &component(7));
    assert_eq!(answering_version(&host, "m"), 3);
}

#[test]
fn unloading_and_loading_drop_no_request_that_was_accepted() {
    let host = serving();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = host.connect();
                    let mut answered = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        let response = connection.send(&column("m", &[1.0, 2.0])).unwrap();
                        match response.status {
                            200 => answered += usize::from(version(&response.json()) == 1),
                            // It is refused before its body is read, which ends the connection.
                            _ => {
                                assert!(response.error(503).contains("unloaded"));
                                connection = host.connect();
                            }
                        }
                    }
                    answered
                })
            })
            .collect();
        for _ in 0..10 {
            change(&host, "m", "unload").expect(200);
            change(&host, "m", "load").expect(200);
            thread::sleep(Duration::from_millis(5));
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>() > 0);
    });
}

#[test]
fn what_cannot_be_loaded_is_said() {
    let host = serving();
    for what in ["load", "unload"] {
        change(&host, "unknown", what).error(404);
        change(&host, "%2e%2e", what).error(404);
        host.get(&format!("/v2/repository/models/m/{what}")).error(405);
    }
    let load = |parameters: Value| {
        post(&host, "/v2/repository/models/m/load", &json!({ "parameters": parameters })).error(400)
    };
    let file = "AAAA".repeat(100_000);
    assert!(load(json!({ "file:1/model.onnx": file })).contains("POST /v1/models/{model}/versions uploads"));
    assert!(load(json!({ "config": "{}" })).contains("/v1/models/{model}/configuration"));
    assert!(load(json!({ "x": 1 })).contains("\"x\" is not known"));
    let unload = |parameters: Value| {
        post(&host, "/v2/repository/here/models/m/unload", &json!({ "parameters": parameters }))
    };
    unload(json!({ "unload_dependents": "yes" })).error(400);
    unload(json!({ "force": true })).error(400);
    assert_eq!(answering_version(&host, "m"), 1, "nothing of that unloaded it");
    unload(json!({ "unload_dependents": true })).expect(200);
    post(&host, "/v2/repository/here/models/m/load", &json!({ "parameters": {} })).expect(200);
    assert_eq!(answering_version(&host, "m"), 1);
}

#[test]
fn the_command_line_shows_it() {
    let host = with_versions(1);
    host.deploy("m", 1);
    change(&host, "m", "unload").expect(200);
    for command in [["models"].as_slice(), &["revisions", "m"]] {
        let shown = host.client(command);
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.status.success() && text.contains("unloaded"), "{text}");
    }
}
