//! What operators do through the HTTP API, and what is refused.

use std::sync::Barrier;
use std::thread;

use modelhost_tests::component::with_graph;
use modelhost_tests::guest::Guest;
use modelhost_tests::host::{Host, deployment};
use modelhost_tests::http::{Request, Response};
use modelhost_tests::{folder, inference, onnx};
use serde_json::{Value, json};

/// A host whose model `m` has this many versions, none deployed.
pub fn with_versions(count: u64) -> Host {
    let host = Host::start();
    for number in 1..=count {
        host.upload("m", &component(number)).expect(201);
    }
    host
}

pub fn component(number: u64) -> Vec<u8> {
    with_graph(
        Guest::answering(&format!("y{number}")).component(),
        "net",
        &onnx::multiplication(number as f32),
    )
}

#[track_caller]
pub fn answering_version(host: &Host, model: &str) -> u64 {
    inference::version(&host.send(&inference::column(model, &[1.0])).expect(200))
}

pub fn rollback(body: &str) -> Request {
    Request::post("/v1/models/m/rollback", body)
}

pub fn alias(name: &str, version: u64) -> Request {
    Request::put(format!("/v1/models/m/aliases/{name}"), &json!({ "version": version }))
}

fn etag(response: &Response) -> String {
    response.header("etag").unwrap_or_else(|| panic!("no ETag: {}", response.text())).to_owned()
}

#[test]
fn the_same_bytes_are_the_same_version() {
    let host = with_versions(2);
    let before = (etag(&host.get("/v1/models/m")), folder::listing(&host.data_dir()));
    let again = host.upload("m", &component(1));
    assert_eq!(again.header("location"), Some("/v1/models/m/versions/1"));
    assert_eq!(again.expect(200)["number"], 1);
    assert_eq!((etag(&host.get("/v1/models/m")), folder::listing(&host.data_dir())), before);
    // Another model has versions of its own.
    assert_eq!(host.upload("other", &component(1)).expect(201)["number"], 1);
}

#[test]
fn an_upload_can_deploy_at_once() {
    let host = Host::start();
    let upload = |number| {
        let target = "/v1/models/m/versions?deploy=true&comment=first%20try";
        host.send(&Request::post(target, component(number)).header("From", "ada"))
    };
    let deployed = upload(1).expect(201)["deployed"].clone();
    assert_eq!(
        (&deployed["number"], &deployed["by"], &deployed["comment"]),
        (&json!(1), &json!("ada"), &json!("first try"))
    );
    assert_eq!(answering_version(&host, "m"), 1);
    assert_eq!(upload(1).expect(200).get("deployed"), None, "it is deployed already");
    upload(2).expect(201);
    assert_eq!(answering_version(&host, "m"), 2);
    assert_eq!(upload(1).expect(200)["deployed"]["number"], 3);
    assert_eq!(answering_version(&host, "m"), 1);
}

#[test]
fn deployments_and_rollbacks_are_a_log() {
    let host = with_versions(2);
    host.get("/v1/models/m/deployment").error(404);
    host.send(&rollback("")).error(409);
    let by = |request: Request, name: &str| host.send(&request.header("From", name)).expect(200);
    let comment = json!({ "traffic": [{ "version": 1, "percent": 100 }], "comment": "begin" });
    by(Request::put("/v1/models/m/deployment", &comment), "ada");
    host.send(&rollback("")).error(409);
    by(deployment("m", 2), "grace");
    assert_eq!(by(rollback(""), "ada")["restores"], 1);
    assert_eq!(answering_version(&host, "m"), 1);
    by(rollback(r#"{"revision":2,"comment":"again"}"#), "ada");
    assert_eq!(answering_version(&host, "m"), 2);
    let listed = host.get("/v1/models/m/revisions").expect(200);
    let field = |name: &str| -> Vec<Value> {
        listed["revisions"].as_array().unwrap().iter().map(|revision| revision[name].clone()).collect()
    };
    assert_eq!(field("number"), [1, 2, 3, 4]);
    assert_eq!(field("by"), ["ada", "grace", "ada", "ada"]);
    assert_eq!(field("comment"), [json!("begin"), Value::Null, Value::Null, json!("again")]);
    assert_eq!(field("restores"), [Value::Null, Value::Null, json!(1), json!(2)]);
    assert_eq!(field("traffic")[2], json!([{ "version": 1, "percent": 100 }]));
    let times = field("time");
    assert!(times.iter().all(|time| time.as_str().is_some_and(|time| time.ends_with('Z'))), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[0].as_str() <= pair[1].as_str()), "{times:?}");
    assert_eq!(host.get("/v1/models/m/deployment").expect(200)["number"], 4);
}

#[test]
fn deployments_that_cannot_be() {
    let host = with_versions(2);
    let before = etag(&host.get("/v1/models/m"));
    let share = |version: u64, percent: u64| json!({ "version": version, "percent": percent });
    let deploy =
        |traffic: Value| host.send(&Request::put("/v1/models/m/deployment", &json!({ "traffic": traffic })));
    assert!(deploy(json!([share(1, 50)])).error(400).contains("100"));
    assert!(deploy(json!([share(1, 50), share(2, 50)])).error(400).contains("exactly one"));
    deploy(json!([])).error(400);
    deploy(json!([{ "version": 1 }])).error(400);
    deploy(json!([share(1, 300)])).error(400);
    assert!(deploy(json!([share(3, 100)])).error(404).contains('3'));
    let put = |body: &str| host.send(&Request::new("PUT", "/v1/models/m/deployment", body));
    for body in ["", "{", "[]", "null", r#"{"traffic":"all"}"#, r#"{"traffic":[],"when":"now"}"#] {
        assert!(put(body).error(400).contains("traffic"), "{body}");
    }
    host.send(&rollback(r#"{"revision":9}"#)).error(404);
    host.send(&rollback(r#"{"revision":-1}"#)).error(400);
    host.send(&deployment("unknown", 1)).error(404);
    assert_eq!(etag(&host.get("/v1/models/m")), before);
}

#[test]
fn aliases_move_and_answer() {
    let host = with_versions(2);
    host.send(&alias("champion", 1)).expect(200);
    let by_alias = inference::to("/v2/models/m/versions/champion/infer", &inference::column_body(&[1.0]));
    assert_eq!(inference::version(&host.send(&by_alias).expect(200)), 1);
    host.send(&alias("champion", 2)).expect(200);
    assert_eq!(inference::version(&host.send(&by_alias).expect(200)), 2);
    assert_eq!(host.get("/v1/models/m").expect(200)["aliases"], json!({ "champion": 2 }));
    assert_eq!(host.get("/v1/models/m/versions/champion").expect(200)["number"], 2);
    assert!(host.send(&alias("7", 1)).error(400).contains("alias"));
    host.send(&alias("-", 1)).error(400);
    host.send(&alias("late", 9)).error(404);
    host.send(&Request::delete("/v1/models/m/aliases/champion")).expect(204);
    host.send(&by_alias).error(404);
    host.send(&Request::delete("/v1/models/m/aliases/champion")).error(404);
}

#[test]
fn only_what_nothing_names_can_be_deleted() {
    let host = with_versions(2);
    host.deploy("m", 1);
    host.send(&alias("champion", 2)).expect(200);
    let delete = |version: &str| host.send(&Request::delete(format!("/v1/models/m/versions/{version}")));
    assert!(delete("1").error(409).contains("deployed"));
    assert!(delete("2").error(409).contains("champion"));
    delete("champion").error(400);
    delete("9").error(404);
    host.deploy("m", 2);
    let digest = host.get("/v1/models/m/versions/1").expect(200)["digest"].as_str().unwrap().to_owned();
    let files = |digest: &str| {
        let hex = digest.trim_start_matches("sha256:").to_owned();
        folder::listing(&host.data_dir()).into_keys().filter(|path| path.contains(&hex)).count()
    };
    assert_eq!(files(&digest), 2, "a component and its compiled code");
    delete("1").expect(204);
    assert_eq!(files(&digest), 0);
    host.get("/v2/models/m/versions/1").error(404);
    assert!(host.send(&rollback("")).error(409).contains("deleted"));
    // A number is never used again, not even for the same bytes.
    assert_eq!(host.upload("m", &component(1)).expect(201)["number"], 3);
}

#[test]
fn a_model_ends_with_its_last_version() {
    let host = with_versions(1);
    host.send(&Request::delete("/v1/models/m/versions/1")).expect(204);
    host.get("/v1/models/m").error(404);
    assert_eq!(host.get("/v1/models").expect(200)["models"], json!([]));
    let listing = folder::listing(&host.data_dir());
    let left: Vec<&String> = listing.keys().filter(|path| path.starts_with("artifacts")).collect();
    assert_eq!(left, Vec::<&String>::new());
}

#[test]
fn two_operators_cannot_overwrite_each_other_unseen() {
    let host = with_versions(2);
    let both_ready = Barrier::new(2);
    for round in 0..25 {
        let seen = etag(&host.get("/v1/models/m"));
        let change = |version: u64| {
            let (host, both_ready, seen) = (&host, &both_ready, seen.clone());
            move || {
                let mut connection = host.connect();
                both_ready.wait();
                connection.send(&deployment("m", version).header("If-Match", seen)).unwrap()
            }
        };
        let outcomes = thread::scope(|scope| {
            [scope.spawn(change(1)), scope.spawn(change(2))].map(|operator| operator.join().unwrap())
        });
        let mut statuses = [outcomes[0].status, outcomes[1].status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412], "round {round}");
        let winner = if outcomes[0].status == 200 { 1 } else { 2 };
        assert_eq!(answering_version(&host, "m"), winner);
        assert_eq!(
            etag(&outcomes[winner as usize - 1]),
            etag(&host.get("/v1/models/m")),
            "the new tag is in the answer"
        );
    }
}

#[test]
fn every_change_can_be_conditional() {
    let host = with_versions(3);
    host.deploy("m", 1);
    host.deploy("m", 2);
    host.send(&alias("old", 1)).expect(200);
    let stale = "\"1\"";
    let changes = [
        deployment("m", 1),
        rollback(""),
        alias("new", 1),
        Request::delete("/v1/models/m/aliases/old"),
        Request::delete("/v1/models/m/versions/3"),
    ];
    let before = host.get("/v1/models/m").expect(200);
    for change in &changes {
        assert!(host.send(&change.clone().header("If-Match", stale)).error(412).contains("somebody else"));
        host.send(&change.clone().header("If-Match", "2")).error(400);
    }
    assert_eq!(host.get("/v1/models/m").expect(200), before);
    for change in changes {
        let current = etag(&host.get("/v1/models/m"));
        let changed = host.send(&change.header("If-Match", current.clone()));
        assert!(changed.status < 300, "{}", changed.text());
        assert_ne!(etag(&changed), current);
    }
    host.send(&deployment("m", 2).header("If-Match", "*")).expect(200);
}
