//! Datasets that stay where they are: in an object store, or in a folder that the operator allowed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use modelhost_tests::folder;
use modelhost_tests::host::{Host, Setup};
use modelhost_tests::http::{Request, Response};
use modelhost_tests::object_store::ObjectStore;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::{CARD, CSV, PARQUET, column, put_plain, stored};

#[track_caller]
fn register(host: &Host, dataset: &str, urls: &[&str]) -> Response {
    let card: Value = serde_json::from_str(CARD).unwrap();
    register_with(host, dataset, json!({ "urls": urls, "card": card }))
}

#[track_caller]
fn register_with(host: &Host, dataset: &str, body: Value) -> Response {
    let target = format!("/v1/datasets/{dataset}/versions");
    host.send(&Request::put(target, &body).header("Content-Type", "application/json"))
}

#[test]
fn objects_are_read_where_they_are() {
    let store = ObjectStore::with_bucket("data");
    fs::write(store.path("data/income.csv"), CSV).unwrap();
    fs::create_dir(store.path("data/parts")).unwrap();
    for part in ["data/parts/1.parquet", "data/parts/2.parquet"] {
        fs::write(store.path(part), PARQUET).unwrap();
    }
    let setup = store.known_to(Setup::new()).set("batch.allowed_urls", r#"["s3://data/"]"#);
    let host = setup.start();
    let csv = register(&host, "csv", &["s3://data/income.csv"]).expect(201);
    assert_eq!(
        (&csv["rows"], &csv["bytes"], &csv["format"]),
        (&json!(500), &json!(CSV.len()), &json!("csv"))
    );
    assert_eq!(csv["files"][0]["location"], "registered");
    assert_eq!(csv["files"][0]["url"], "s3://data/income.csv");
    assert_eq!(register(&host, "csv", &["s3://data/income.csv"]).expect(200), csv);
    let urls = ["s3://data/parts/1.parquet", "s3://data/parts/2.parquet"];
    let parquet = register(&host, "parquet", &urls).expect(201);
    assert_eq!(parquet["rows"], 1000);
    // Nothing was copied.
    assert_eq!(stored(&host), Vec::<String>::new());
    assert_eq!(folder::names(&host.data_dir().join("staging")), Vec::<String>::new());
    let preview = host.get("/v1/datasets/parquet/versions/1/preview?rows=1000").expect(200);
    assert_eq!(preview["rows"].as_array().map(Vec::len), Some(1000));
    let profile = host.get("/v1/datasets/csv/versions/1/profile").expect(200);
    assert_eq!(column(&profile, "workclass")["nulls"], 31);
    // It knows after a restart, too.
    let host = host.stop().start();
    host.get("/v1/datasets/parquet/versions/1/profile").expect(200);
    assert_eq!(host.send(&Request::delete("/v1/datasets/parquet/versions/1")).status, 204);
    assert!(store.path("data/parts/1.parquet").exists());
}

#[test]
fn an_object_that_was_replaced_is_noticed() {
    let store = ObjectStore::with_bucket("data");
    let folder = tempfile::tempdir().unwrap();
    let allowed = format!("[\"s3://data/\", \"file://{}/\"]", folder.path().display());
    let host = store.known_to(Setup::new()).set("batch.allowed_urls", allowed).start();
    let local = folder.path().join("x.csv");
    let text = String::from_utf8(CSV.to_vec()).unwrap();
    for (dataset, path, url) in [
        ("remote", store.path("data/x.csv"), "s3://data/x.csv".to_owned()),
        ("local", local.clone(), format!("file://{}", local.display())),
    ] {
        fs::write(&path, CSV).unwrap();
        register(&host, dataset, &[&url]).expect(201);
        // As long as before, so that only the bytes tell.
        fs::write(&path, text.replacen("39,State-gov", "38,State-gov", 1)).unwrap();
        for what in ["preview", "profile"] {
            let sentence = host.get(&format!("/v1/datasets/{dataset}/versions/1/{what}")).error(409);
            assert!(sentence.contains("replaced"), "{sentence}");
        }
        let again = register(&host, dataset, &[&url]).expect(201);
        assert_eq!(again["number"], 2);
        let rows = host.get(&format!("/v1/datasets/{dataset}/versions/2/preview")).expect(200);
        assert_eq!(rows["rows"][0]["age"], 38);
        fs::remove_file(&path).unwrap();
        let gone = host.get(&format!("/v1/datasets/{dataset}/versions/2/preview"));
        assert!(gone.error(409).contains("does not exist any more"), "{}", gone.text());
    }
}

#[test]
fn only_what_the_operator_allowed_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
    for path in [&inside, &outside] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("x.csv"), "secret\n1\n").unwrap();
    }
    std::os::unix::fs::symlink(outside.join("x.csv"), inside.join("link.csv")).unwrap();
    let host = Setup::new().set("batch.allowed_urls", format!("[\"file://{}/\"]", inside.display())).start();
    let url = |path: &str| format!("file://{}/{path}", inside.display());
    register_with(&host, "d", json!({ "urls": [url("x.csv")] })).expect(201);
    for (path, status) in [
        ("../outside/x.csv", 400),
        ("%2e%2e/outside/x.csv", 400),
        ("..%2foutside/x.csv", 404),
        ("link.csv", 404),
        ("missing.csv", 404),
        ("", 400),
        ("x.csv?y", 400),
    ] {
        // The sentence holds the URL, which is a path of this machine.
        let refused = register_with(&host, "no", json!({ "urls": [url(path)] }));
        assert_eq!(refused.status, status, "{path}: {}", refused.text());
    }
    for other in ["file:///etc/passwd", "http://127.0.0.1/x.csv", "s3://data/x.csv", "data:,x"] {
        register_with(&host, "no", json!({ "urls": [other] })).error(400);
    }
    host.get("/v1/datasets/no").error(404);
    // By default nothing is allowed.
    let strict = Host::start();
    let refused = register_with(&strict, "d", json!({ "urls": [url("x.csv")] }));
    assert!(refused.status == 400 && refused.text().contains("batch.allowed_urls"), "{}", refused.text());
}

#[test]
fn objects_that_cannot_be_read() {
    let store = ObjectStore::with_bucket("data");
    fs::write(store.path("data/cut.parquet"), &PARQUET[..PARQUET.len() / 2]).unwrap();
    fs::write(store.path("data/bad.csv"), "a,b\n1,2\n3\n").unwrap();
    let setup = store.known_to(Setup::new()).set("batch.allowed_urls", r#"["s3://data/", "s3://none/"]"#);
    let host = setup.start();
    let refused = |url: &str, status: u16, words: &str| {
        let sentence = register_with(&host, "d", json!({ "urls": [url] })).error(status);
        assert!(sentence.contains(words), "{sentence:?} does not say {words:?}");
    };
    refused("s3://data/cut.parquet", 422, "no whole Parquet file");
    refused("s3://data/bad.csv", 422, "file \"bad.csv\", row 2");
    refused("s3://data/missing.csv", 404, "s3://data/missing.csv does not exist");
    refused("s3://none/x.csv", 404, "s3://none/x.csv does not exist");
    host.get("/v1/datasets/d").error(404);
    assert_eq!(folder::names(&host.data_dir().join("staging")), Vec::<String>::new());
}

/// A Parquet file with one column of whole numbers.
fn numbers(is_nullable: bool) -> Vec<u8> {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, is_nullable)]));
    let values = Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef;
    let batch = RecordBatch::try_new(schema.clone(), vec![values]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn what_is_registered_is_what_would_have_been_uploaded() {
    let folder = tempfile::tempdir().unwrap();
    let allowed = format!("[\"file://{}/\"]", folder.path().display());
    let host = Setup::new().set("batch.allowed_urls", allowed).start();
    let files = [("1.parquet", numbers(false)), ("2.parquet", numbers(true)), ("3.parquet", numbers(false))];
    let mut urls = Vec::new();
    for (name, bytes) in &files {
        fs::write(folder.path().join(name), bytes).unwrap();
        urls.push(format!("file://{}/{name}", folder.path().display()));
    }
    let registered = register_with(&host, "registered", json!({ "urls": urls })).expect(201);
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let uploaded = put_plain(&host, "uploaded", &files).expect(201);
    for what in ["schema", "rows", "bytes", "format"] {
        assert_eq!(registered[what], uploaded[what], "{what}");
    }
    assert_eq!(registered["schema"][0]["nullable"], true);
    let rows = |version: &Value| -> Vec<Value> {
        version["files"].as_array().unwrap().iter().map(|file| file["rows"].clone()).collect()
    };
    assert_eq!(rows(&registered), rows(&uploaded));
}

#[test]
fn what_an_object_store_says_in_trouble_is_for_the_operator() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let answer =
                "HTTP/1.1 400 Bad Request\r\nContent-Length: 15\r\nConnection: close\r\n\r\ninternal-secret";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let setup = Setup::new()
        .set("batch.allowed_urls", r#"["s3://data/"]"#)
        .variable("AWS_ENDPOINT", &endpoint)
        .variable("AWS_ALLOW_HTTP", "true")
        .variable("AWS_ACCESS_KEY_ID", "a")
        .variable("AWS_SECRET_ACCESS_KEY", "b");
    let host = setup.start();
    let sentence = register(&host, "d", &["s3://data/x.parquet"]).error(503);
    assert!(!sentence.contains("secret") && !sentence.contains("127.0.0.1"), "{sentence}");
}

#[test]
fn options_of_object_stores_are_checked_and_never_shown() {
    let setup = Setup::new();
    let file = setup.data_dir().with_extension("toml");
    let serve = |option: &str| {
        fs::write(&file, format!("[batch.object_stores.\"s3://\"]\n{option} = \"the-secret\"\n")).unwrap();
        let mut command = setup.command("serve");
        command
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--data-dir")
            .arg(setup.data_dir());
        command
    };
    let shown = serve("secret_access_key").arg("--print-config").output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("(hidden)") && !shown.contains("the-secret"), "{shown}");
    let refused = serve("secret_acces_key").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("secret_acces_key"), "{said}");
    assert!(!said.contains("the-secret"), "{said}");
    fs::remove_file(&file).unwrap();
}
