//! What a client gets: typed values under their keys, from the version that answers, or a sentence that says why not.

use modelhost_tests::form::Form;
use modelhost_tests::host::{Host, wait_until};
use modelhost_tests::http::Request;
use serde_json::{Value, json};

use super::{get, look_up, publication, put_dataset, put_table, staged, table_of};

fn users() -> Vec<Value> {
    vec![
        json!({ "key": "ada", "age": 36, "score": 0.25, "vip": true, "items": ["a", "b"],
                "top": [{ "item": "x", "score": 1.5 }], "note": null }),
        json!({ "key": "böb/1", "age": null, "score": 1e300, "vip": false, "items": [], "top": null, "note": "hi" }),
        json!({ "key": "lookup", "age": -1, "score": 0.1, "vip": false, "items": ["c"], "top": [], "note": "" }),
    ]
}

#[test]
fn values_come_back_as_they_went_in() {
    let host = Host::start();
    table_of(&host, "users", &users());
    for (row, address) in users().iter().zip(["ada", "b%C3%B6b%2F1", "lookup"]) {
        let mut expected = row.clone();
        let key = expected.as_object_mut().unwrap().remove("key").unwrap();
        let found = get(&host, "users", address).expect(200);
        assert_eq!(found["values"], expected);
        assert_eq!(found["key"], key);
        assert_eq!((&found["source"], &found["version"]), (&json!("table"), &json!(1)));
        assert_eq!((&found["table"], &found["stale"]), (&json!("users"), &json!(false)));
        assert!((0.0..60.0).contains(&found["age_seconds"].as_f64().unwrap()), "{found}");
    }
    let sentence = get(&host, "users", "eve").error(404);
    assert_eq!(sentence, "table users has no key \"eve\"");
}

#[test]
fn many_keys_are_answered_each_on_its_own() {
    let host = Host::start();
    let rows: Vec<Value> = (0..3_000).map(|key| json!({ "key": key * 2, "value": key })).collect();
    table_of(&host, "numbers", &rows);
    let keys: Vec<i64> = (0..1_000).map(|number| (number * 7_919) % 6_000).collect();
    let found = look_up(&host, "numbers", &json!({ "keys": keys })).expect(200);
    let predictions = found["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), keys.len());
    for (key, prediction) in keys.iter().zip(predictions) {
        assert_eq!(prediction["key"], *key);
        match key % 2 {
            0 => assert_eq!(prediction["values"]["value"], key / 2),
            _ => {
                assert_eq!(prediction["error"], format!("table numbers has no key {key}"));
                assert_eq!(prediction["code"], 404);
            }
        }
    }
    assert_eq!(look_up(&host, "numbers", &json!({ "keys": [] })).expect(200)["predictions"], json!([]));
}

#[test]
fn what_cannot_be_looked_up_is_told() {
    let host = Host::start();
    table_of(&host, "numbers", &[json!({ "key": 1, "value": 2 })]);
    put_table(&host, "empty", &json!({ "key": "key" }));
    let cases = [
        (
            get(&host, "numbers", "one"),
            400,
            "key \"one\" is no whole number: table numbers has whole numbers as keys",
        ),
        (get(&host, "numbers", "-9223372036854775808"), 404, "table numbers has no key -9223372036854775808"),
        (get(&host, "nobody", "1"), 404, "prediction table nobody is not known"),
        (get(&host, "empty", "1"), 404, "nothing was published to table empty yet"),
        (
            look_up(&host, "numbers", &json!({ "keys": [1, "1"] })),
            400,
            "key \"1\" is a string: table numbers has whole numbers as keys",
        ),
        (
            look_up(&host, "numbers", &json!({ "keys": [1.5] })),
            400,
            "expected a whole number of 64 bits or a string",
        ),
        (look_up(&host, "numbers", &json!({ "keys": vec![1; 1_025] })), 400, "at most 1024"),
        (
            look_up(&host, "numbers", &json!({ "keys": [1], "requests": [null, null] })),
            400,
            "2 entries for 1 keys",
        ),
        (
            look_up(&host, "numbers", &json!({ "keys": [1], "requests": [{ "inputs": 7 }] })),
            400,
            "the request for key 1",
        ),
        (look_up(&host, "numbers", &json!({ "key": 1 })), 400, "a lookup such as"),
    ];
    for (response, status, sentence) in cases {
        let said = response.error(status);
        assert!(said.contains(sentence), "{said:?} does not say {sentence:?}");
    }
}

#[test]
fn a_dataset_that_can_be_no_table_is_refused_and_changes_nothing() {
    let host = Host::start();
    table_of(&host, "t", &[json!({ "key": "a", "value": 1 })]);
    let cases = [
        (
            "twice",
            vec![json!({ "key": "b" }), json!({ "key": "a" }), json!({ "key": "b" })],
            "key \"b\" is in more than one row",
        ),
        ("null", vec![json!({ "key": "a" }), json!({ "key": null })], "holds a null"),
        (
            "real",
            vec![json!({ "key": 1.5 })],
            "key column \"key\" has type Float64: expected whole numbers or strings",
        ),
        ("none", vec![json!({ "id": 1 })], "key column \"key\" is not in the dataset: it has id"),
    ];
    for (dataset, rows, sentence) in cases {
        put_dataset(&host, dataset, &rows);
        let said = host.send(&publication("t", dataset)).error(422);
        assert!(said.contains(sentence), "{said:?} does not say {sentence:?}");
    }
    assert!(host.send(&publication("t", "nothing")).error(404).contains("nothing"));
    assert!(host.send(&publication("t", "t@7")).error(404).contains('7'));
    assert!(host.send(&publication("nobody", "t")).error(404).contains("nobody"));
    let unnamed = host.send(&Request::post("/v1/predictions/t/versions", "{}")).error(400);
    assert!(unnamed.contains("no dataset of its own"), "{unnamed}");
    assert_eq!(get(&host, "t", "a").expect(200)["version"], 1);
    let table = host.get("/v1/predictions/t").expect(200);
    assert_eq!((&table["versions"].as_array().unwrap().len(), &table["next_version"]), (&1, &json!(2)));
    let files = std::fs::read_dir(host.data_dir().join("tables/t")).unwrap().count();
    assert_eq!((files, staged(&host)), (1, vec![]));
}

#[test]
fn settings_are_shown_changed_and_checked() {
    let host = Host::start();
    let settings = json!({ "key": "key", "dataset": "d", "max_age_seconds": 60, "keep_versions": 1 });
    let created = host.send(&Request::put("/v1/predictions/t", &settings));
    assert_eq!(created.status, 201);
    let tag = created.header("etag").unwrap().to_owned();
    let table = host.get("/v1/predictions/t").expect(200);
    assert_eq!(
        (&table["settings"]["max_age_seconds"], &table["settings"]["when_stale"]),
        (&json!(60), &json!("serve_stale"))
    );
    put_dataset(&host, "d", &[json!({ "key": 1, "value": 1 })]);
    put_dataset(&host, "d", &[json!({ "key": 1, "value": 2 })]);
    let of_latest =
        host.send(&Request::post("/v1/predictions/t/versions", "").header("From", "ada")).expect(201);
    assert_eq!(
        (&of_latest["dataset"], &of_latest["by"], &of_latest["rows"]),
        (&json!("d@2"), &json!("ada"), &json!(1))
    );
    let stale = host.send(&Request::put("/v1/predictions/t", &settings).header("If-Match", tag.clone()));
    stale.error(412);
    let other_key = host.send(&Request::put("/v1/predictions/t", &json!({ "key": "value" }))).error(409);
    assert!(other_key.contains("another key needs another table"), "{other_key}");
    for wrong in [
        json!({}),
        json!({ "key": "" }),
        json!({ "key": "k", "max_age_seconds": 0 }),
        json!({ "key": "k", "keep_versions": 0 }),
        json!({ "key": "k", "when_stale": "live" }),
        json!({ "key": "k", "when_stale": "never" }),
        json!({ "key": "k", "unknown": 1 }),
        json!({ "key": "k", "live": { "model": "a/b" } }),
        json!({ "key": "k", "live": { "model": "m", "features": "new" } }),
    ] {
        host.send(&Request::put("/v1/predictions/new", &wrong)).error(400);
    }
    host.send(&Request::put("/v1/predictions/a%20b", &settings)).error(400);
    let listed = host.get("/v1/predictions").expect(200);
    assert_eq!(listed["predictions"].as_array().unwrap().len(), 1);
    assert_eq!(host.send(&Request::delete("/v1/predictions/t").header("If-Match", tag)).status, 412);
    assert_eq!(host.send(&Request::delete("/v1/predictions/t")).status, 204);
    host.get("/v1/predictions/t").error(404);
    assert!(!host.data_dir().join("tables/t").exists());
}

#[test]
fn lookups_are_counted_and_nobody_is_named_in_the_log() {
    let host = Host::start();
    table_of(&host, "users", &[json!({ "key": "zuleika", "value": 1 })]);
    get(&host, "users", "zuleika").expect(200);
    get(&host, "users", "quentin").error(404);
    look_up(&host, "users", &json!({ "keys": ["zuleika", "zuleika", "quentin", "xavier"] })).expect(200);
    look_up(&host, "users", &json!({ "keys": ["xavier", 1] })).error(400);
    let metrics = host.get("/metrics").text();
    for line in [
        "prediction_lookups_total{source=\"table\",table=\"users\"} 3",
        "prediction_lookups_total{source=\"missing\",table=\"users\"} 3",
        "prediction_lookups_total{source=\"error\",table=\"users\"} 2",
        "prediction_lookup_duration_seconds_count{caller=\"client\"} 4",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let lines = |log: &str| log.matches("/v1/predictions/users/{key}").count();
    wait_until("both lines are in the log", || lines(&host.log()) == 2);
    let log = host.log();
    for name in ["zuleika", "quentin", "xavier"] {
        assert!(!log.contains(name), "{name} is in\n{log}");
    }
    host.send(&Request::delete("/v1/predictions/users"));
    assert!(!host.get("/metrics").text().contains("table=\"users\""));
}

#[test]
fn a_version_says_what_may_be_done_with_it() {
    let host = Host::start();
    let card = json!({ "license": "CC-BY-4.0", "commercial_use": false, "sensitive_columns": ["value"],
                       "description": "as long as one likes" });
    let form = Form::new().file("d.csv", b"key,value\n1,2\n").text("card", &card.to_string());
    host.send(&form.put("/v1/datasets/d/versions")).expect(201);
    put_table(&host, "t", &json!({ "key": "key" }));
    host.send(&publication("t", "d")).expect(201);
    let shown = host.get("/v1/predictions/t").expect(200)["versions"][0]["card"].clone();
    let terms = json!({ "license": "CC-BY-4.0", "commercial_use": false, "sensitive_columns": ["value"] });
    assert_eq!(shown, terms);
    let output = host.client(&["predictions", "show", "t"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("CC-BY-4.0"));
}

#[test]
fn a_body_is_bounded_before_it_is_read_into_memory() {
    let host = Host::start();
    table_of(&host, "t", &[json!({ "key": "a", "value": 1 })]);
    let requests = format!("{{\"keys\":[\"a\"],\"requests\":[{}null]}}", "null,".repeat(1_000_000));
    let said = host.send(&Request::post("/v1/predictions/t/lookup", requests)).error(400);
    assert!(said.contains("at most 1024"), "{said}");
    let keys = format!("{{\"keys\":[{}\"a\"]}}", "\"a\",".repeat(1_000_000));
    assert!(host.send(&Request::post("/v1/predictions/t/lookup", keys)).error(400).contains("at most 1024"));
}

#[test]
fn a_dataset_stays_as_long_as_a_table_is_made_of_it() {
    let host = Host::start();
    table_of(&host, "t", &[json!({ "key": "a", "value": 1 })]);
    let deletion = Request::delete("/v1/datasets/t/versions/1");
    assert!(host.send(&deletion).error(409).contains("prediction table t"));
    let host = host.stop().start();
    assert!(host.send(&deletion).error(409).contains("prediction table t"));
    assert_eq!(host.send(&Request::delete("/v1/predictions/t")).status, 204);
    assert_eq!(host.send(&deletion).status, 204);
}

#[test]
fn the_command_line_does_all_of_it() {
    let host = Host::start();
    put_dataset(&host, "users", &[json!({ "user": "a b", "score": 0.5, "items": ["x"] })]);
    put_dataset(&host, "users", &[json!({ "user": "a b", "score": 0.75, "items": ["y"] })]);
    let run = |line: &[&str]| {
        let output = host.client(&[&["predictions"], line].concat());
        let text =
            String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        (output.status.code().unwrap(), text.into_owned())
    };
    assert!(run(&[]).1.contains("no prediction tables yet"));
    let (code, shown) =
        run(&["set", "users", "--key", "user", "--dataset", "users", "--max-age-seconds", "60"]);
    assert!(code == 0 && shown.contains("60 s, then stale"), "{shown}");
    assert!(
        run(&["publish", "users", "users@1"])
            .1
            .contains("version 1 of table users answers now: 1 keys of users@1")
    );
    assert!(run(&["publish", "users"]).1.contains("version 2 of table users answers now: 1 keys of users@2"));
    let (_, found) = run(&["get", "users", "a b"]);
    assert!(
        found.contains("table version 2") && found.contains("0.75") && found.contains("[\"y\"]"),
        "{found}"
    );
    assert!(run(&["rollback", "users"]).1.contains("version 1 of table users answers again"));
    assert!(run(&["get", "users", "a b"]).1.contains("table version 1"));
    let (_, listed) = run(&[]);
    assert!(listed.contains("users@1") && listed.contains("1 2"), "{listed}");
    assert!(run(&["show", "users"]).1.contains("items score"));
    assert_eq!(run(&["get", "users", "nobody"]).0, 1);
    assert!(run(&["delete", "users"]).1.contains("table users is gone"));
    assert_eq!(publish_fails(&host), 404);
}

fn publish_fails(host: &Host) -> u16 {
    host.send(&publication("users", "users")).status
}
