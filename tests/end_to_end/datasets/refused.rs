//! What must not become a dataset: refused with a sentence that names the file and the row, and nothing of it is left.

use std::collections::BTreeMap;

use modelhost_tests::folder;
use modelhost_tests::form::Form;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::{Request, Response};

use super::{CSV, PARQUET, put, put_plain};

/// A host with one dataset, and what lies in its folder.
struct Refusing {
    host: Host,
    before: BTreeMap<String, u64>,
}

impl Refusing {
    fn start(setup: Setup) -> Refusing {
        let host = setup.start();
        put(&host, "well", &[("income.csv", CSV)]).expect(201);
        let before = folder::listing(&host.data_dir());
        Refusing { host, before }
    }

    /// The answer has this status and a sentence with these words, and nothing is left.
    #[track_caller]
    fn assert_refused(&self, response: &Response, status: u16, words: &[&str]) {
        let sentence = response.error(status);
        for word in words {
            assert!(sentence.contains(word), "{sentence:?} does not say {word:?}");
        }
        wait_until("nothing is left", || folder::listing(&self.host.data_dir()) == self.before);
        self.host.get("/v1/datasets/new").error(404);
        self.host.get("/v1/datasets/well/versions/1/preview").expect(200);
    }
}

#[test]
fn broken_files_are_named_with_their_rows() {
    let refusing = Refusing::start(Setup::new());
    let refused = |name: &str, bytes: &[u8], words: &[&str]| {
        let good = [("good.csv", CSV), ("good.parquet", PARQUET), ("good.jsonl", b"{\"a\":1}\n".as_slice())];
        let extension = name.rsplit('.').next().unwrap_or_default();
        let good = good.iter().find(|(good, _)| good.ends_with(extension)).unwrap();
        for files in [&[(name, bytes)][..], &[*good, (name, bytes)][..]] {
            refusing.assert_refused(&put_plain(&refusing.host, "new", files), 422, words);
        }
    };
    for length in [0, 5, PARQUET.len() / 2, PARQUET.len() - 1] {
        refused("bad.parquet", &PARQUET[..length], &["file \"bad.parquet\"", "no whole Parquet file"]);
    }
    let mut damaged = PARQUET.to_vec();
    damaged[100..2000].fill(0x55);
    refused("bad.parquet", &damaged, &["file \"bad.parquet\", row 1", "row group 0"]);
    // A column is missing in the middle.
    let text = String::from_utf8(CSV.to_vec()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let short = lines[250].rsplit_once(',').unwrap().0;
    lines[250] = short;
    refused(
        "bad.csv",
        lines.join("\n").as_bytes(),
        &["file \"bad.csv\", row 250", "14 fields", "expected 15"],
    );
    refused(
        "bad.jsonl",
        b"{\"a\":1}\n{\"a\":\n{\"a\":3}\n",
        &["file \"bad.jsonl\", row 2", "no JSON object"],
    );
    // The name says one thing and the bytes another.
    refused("bad.parquet", CSV, &["no whole Parquet file"]);
    refused("bad.jsonl", CSV, &["file \"bad.jsonl\", row 1"]);
}

#[test]
fn files_that_do_not_belong_together() {
    let refusing = Refusing::start(Setup::new());
    let host = &refusing.host;
    let mixed = put_plain(host, "new", &[("a.csv", CSV), ("b.parquet", PARQUET)]);
    refusing.assert_refused(&mixed, 400, &["file \"b.parquet\" is Parquet", "the first one is CSV"]);
    let other = put_plain(host, "new", &[("a.csv", CSV), ("b.csv", b"x\n1\n")]);
    refusing.assert_refused(&other, 422, &["file \"b.csv\": its columns are x"]);
    refusing.assert_refused(&put_plain(host, "new", &[]), 400, &["no file"]);
    let unknown = put_plain(host, "new", &[("table.xlsx", b"PK")]);
    refusing.assert_refused(&unknown, 400, &["format of file \"table.xlsx\" is not known"]);
}

#[test]
fn cards_that_cannot_be_meant() {
    let refusing = Refusing::start(Setup::new());
    let put = |card: &str| {
        let form = Form::new().text("card", card).file("income.csv", CSV);
        refusing.host.send(&form.put("/v1/datasets/new/versions"))
    };
    refusing.assert_refused(&put(r#"{"license":"free"}"#), 422, &["license of the card is \"free\"", "SPDX"]);
    refusing.assert_refused(&put(r#"{"licence":"MIT"}"#), 400, &["part \"card\"", "licence"]);
    refusing.assert_refused(
        &put(r#"{"sensitive_columns":["name"]}"#),
        422,
        &["sensitive_columns of the card names \"name\""],
    );
    refusing.assert_refused(&put(r#"{"retention_until":"tomorrow"}"#), 400, &["part \"card\""]);
}

#[test]
fn requests_that_are_no_uploads() {
    let refusing = Refusing::start(Setup::new());
    let host = &refusing.host;
    let target = "/v1/datasets/new/versions";
    let raw = |content_type: &str, body: &[u8]| {
        host.send(&Request::new("PUT", target, body).header("Content-Type", content_type))
    };
    refusing.assert_refused(&raw("application/octet-stream", CSV), 400, &["multipart/form-data"]);
    refusing.assert_refused(&raw("multipart/form-data", CSV), 400, &["no form"]);
    refusing.assert_refused(&raw("application/json", b"{\"urls\":[]}"), 400, &["no file"]);
    refusing.assert_refused(&raw("application/json", b"{\"url\":1}"), 400, &["registration"]);
    let body = Form::new().file("income.csv", CSV).body();
    for length in [10, body.len() / 2, body.len() - 10] {
        refusing.assert_refused(&raw(&Form::content_type(), &body[..length]), 400, &["no form"]);
    }
    // The head of a part has no end.
    let endless = [&body[..60], "x".repeat(3 << 20).as_bytes()].concat();
    refusing.assert_refused(&raw(&Form::content_type(), &endless), 400, &["too long"]);
    let stray = host.send(&Form::new().text("carte", "{}").file("income.csv", CSV).put(target));
    refusing.assert_refused(&stray, 400, &["part \"carte\""]);
    assert!(host.send(&Form::new().put("/v1/datasets/a%20b/versions")).error(400).contains("dataset name"));
    host.send(&Request::post(target, "")).error(405);
}

#[test]
fn what_is_too_large() {
    let setup = Setup::new().set("batch.max_dataset_bytes", 70_000).set("batch.max_dataset_files", 2);
    let refusing = Refusing::start(setup);
    let large = put_plain(&refusing.host, "new", &[("a.csv", CSV), ("b.csv", CSV)]);
    refusing.assert_refused(&large, 413, &["70000 bytes"]);
    let files: Vec<(&str, &[u8])> = vec![("a.csv", b"a\n1\n"); 3];
    refusing.assert_refused(&put_plain(&refusing.host, "new", &files), 413, &["2 files"]);
}

#[test]
fn what_breaks_off_leaves_nothing() {
    let refusing = Refusing::start(Setup::new());
    let body = Form::new().file("income.csv", CSV).body();
    let head = format!(
        "PUT /v1/datasets/new/versions HTTP/1.1\r\nHost: m\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        Form::content_type(),
        body.len()
    );
    let mut connection = refusing.host.connect();
    connection.write(head.as_bytes()).unwrap();
    connection.write(&body[..body.len() / 2]).unwrap();
    wait_until("it arrives", || !folder::names(&refusing.host.data_dir().join("staging")).is_empty());
    drop(connection);
    wait_until("nothing is left", || folder::listing(&refusing.host.data_dir()) == refusing.before);
}
