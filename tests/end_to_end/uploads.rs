//! What must not become a version is refused with a sentence that says why, and leaves nothing behind: no file, no
//! line in the journal, no model.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::component::{expensive, from_text, with_another_predictor, with_graph, with_section};
use modelhost_tests::guest::Guest;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::{Request, Response};
use modelhost_tests::{artifacts, folder, inference, onnx, process};

/// A host with one model that is well, and what lies in its folder.
struct Refusing {
    host: Host,
    before: BTreeMap<String, u64>,
}

impl Refusing {
    fn start(setup: Setup) -> Refusing {
        let host = setup.start();
        host.deploy_new("well", &Guest::answering("y").component());
        let before = folder::listing(&host.data_dir());
        Refusing { host, before }
    }

    /// Nothing of the upload is left.
    #[track_caller]
    fn assert_untouched(&self) {
        wait_until("nothing is left of the upload", || folder::listing(&self.host.data_dir()) == self.before);
        self.host.get("/v1/models/new").error(404);
        let models = self.host.get("/v1/models").expect(200);
        assert_eq!(models["models"].as_array().map(Vec::len), Some(1), "{models}");
        self.host.send(&inference::column("well", &[1.0])).expect(200);
    }

    /// The upload is refused with a sentence that holds these words.
    #[track_caller]
    fn assert_refused(&self, component: &[u8], status: u16, words: &[&str]) {
        self.assert_sentence(&self.host.upload("new", component), status, words);
    }

    #[track_caller]
    fn assert_sentence(&self, response: &Response, status: u16, words: &[&str]) {
        let sentence = response.error(status);
        for word in words {
            assert!(sentence.contains(word), "{sentence:?} does not say {word:?}");
        }
        self.assert_untouched();
    }
}

fn tiny() -> Vec<u8> {
    Guest::answering("y").component()
}

#[test]
fn what_is_no_component() {
    let refusing = Refusing::start(Setup::new());
    refusing.assert_refused(b"", 400, &["empty"]);
    refusing.assert_refused(b"PK\x03\x04 a zip", 400, &["not WebAssembly"]);
    refusing.assert_refused(&onnx::multiplication(2.0), 400, &["not WebAssembly"]);
    refusing.assert_refused(b"\0asm\x01\0\0\0", 400, &["core WebAssembly module", "component"]);
    refusing.assert_refused(b"\0asm\x07\0\x01\0", 400, &[]);
    let garbled = [&tiny()[..8], &[0x55; 500]].concat();
    refusing.assert_refused(&garbled, 400, &[]);
}

#[test]
fn what_is_truncated() {
    let refusing = Refusing::start(Setup::new());
    let component = artifacts::test_plugin("labelled");
    for length in [3, 7, 9, 50, 1000, component.len() / 2, component.len() - 1] {
        refusing.assert_refused(&component[..length], 400, &["truncated"]);
    }
}

#[test]
fn what_is_valid_and_no_plugin() {
    let refusing = Refusing::start(Setup::new());
    refusing.assert_refused(
        &from_text("(component)"),
        422,
        &["does not export modelhost:plugin/predictor@0.1.0"],
    );
    refusing.assert_refused(&with_another_predictor(), 422, &["contract"]);
    let sockets = r#"(component (import "wasi:sockets/tcp@0.2.6" (instance)))"#;
    refusing.assert_refused(&from_text(sockets), 422, &["wasi:sockets/tcp@0.2.6", "not granted"]);
    let several = r#"(component (import "wasi:http/types@0.2.0" (instance)) (import "other:package/x" (instance))
        (import "wasi:io/streams@0.2.6" (instance)))"#;
    refusing.assert_refused(&from_text(several), 422, &["wasi:http/types@0.2.0", "other:package/x"]);
    let invalid = Guest::answering("y").component();
    let invalid = with_section(invalid, "name", b"").into_iter().chain([3, 0]).collect::<Vec<u8>>();
    refusing.assert_refused(&invalid, 400, &[]);
}

#[test]
fn what_does_not_start() {
    let refusing = Refusing::start(Setup::new().set("runtime.limits.wall_time_ms", 300));
    let guest = || Guest::answering("y");
    refusing.assert_refused(
        &guest().before_signature("unreachable").component(),
        422,
        &["does not start", "trap"],
    );
    let start = guest().with_items("(func $start unreachable) (start $start)").component();
    refusing.assert_refused(&start, 422, &["does not start", "trap"]);
    let began = Instant::now();
    let endless = guest().before_signature("(loop $turn (br $turn))").component();
    refusing.assert_refused(&endless, 422, &["does not start", "300 ms"]);
    let endless_start =
        guest().with_items("(func $start (loop $turn (br $turn))) (start $start)").component();
    refusing.assert_refused(&endless_start, 422, &["does not start", "300 ms"]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let outside = guest().before_signature("(return (i32.const 131068))").component();
    refusing.assert_refused(&outside, 422, &["does not start"]);
}

#[test]
fn signatures_that_make_no_sense() {
    let refusing = Refusing::start(Setup::new());
    refusing.assert_refused(
        &Guest::answering("y").promising_extent(-2).component(),
        422,
        &["signature", "-2"],
    );
    refusing.assert_refused(&Guest::answering("").component(), 422, &["signature", "name"]);
    refusing.assert_refused(&Guest::answering("a\nb").component(), 422, &["signature", "name"]);
    let labelled = artifacts::plugin("onnx");
    refusing.assert_refused(&labelled, 422, &["no graph"]);
}

#[test]
fn graphs_that_the_engine_does_not_run() {
    let refusing = Refusing::start(Setup::new());
    let with = |network: &[u8]| with_graph(tiny(), "net", network);
    refusing.assert_refused(&with(b"no network"), 422, &["\"net\""]);
    refusing.assert_refused(&with(&onnx::multiplication(2.0)[..60]), 422, &["\"net\""]);
    refusing.assert_refused(
        &with(&onnx::operator("", "NoSuchOperator")),
        422,
        &["\"net\"", "NoSuchOperator"],
    );
    let trees = with(&onnx::operator("ai.onnx.ml", "TreeEnsembleClassifier"));
    refusing.assert_refused(&trees, 422, &["\"net\"", "TreeEnsembleClassifier"]);
    let good = with(&onnx::multiplication(2.0));
    refusing.assert_refused(
        &with_graph(good.clone(), "net", &onnx::multiplication(3.0)),
        422,
        &["two graphs", "\"net\""],
    );
    refusing.assert_refused(&with_section(good, "modelhost:graph/", b""), 422, &["name"]);
}

#[test]
fn more_than_a_sandbox_has() {
    let refusing = Refusing::start(
        Setup::new()
            .set("runtime.limits.memory_bytes", 32 << 20)
            .set("runtime.limits.table_elements", 5000)
            .set("runtime.limits.core_instances", 1),
    );
    let with = |items: &str| Guest::answering("y").with_items(items).component();
    refusing.assert_refused(&with("(table 5001 funcref)"), 422, &["sandbox", "5001", "5000"]);
    let memory = Guest::answering("y").with_memory(600).component();
    refusing.assert_refused(&memory, 422, &["sandbox", "memory"]);
    // A component with imports consists of several instances.
    refusing.assert_refused(&artifacts::test_plugin("echo"), 422, &["sandbox", "instances", "1"]);
    refusing.host.upload("fits", &with("(table 5000 funcref)")).expect(201);
}

#[test]
fn more_bytes_than_are_allowed() {
    let refusing = Refusing::start(Setup::new().set("serving.max_upload_bytes", 20_000));
    let large = with_section(tiny(), "ballast", &vec![7; 30_000]);
    refusing.assert_refused(&large, 413, &["20000 bytes"]);
    let mut connection = refusing.host.connect();
    connection
        .write(b"POST /v1/models/new/versions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    for piece in large.chunks(1000) {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        connection.write(&chunk).unwrap();
    }
    connection.write(b"0\r\n\r\n").unwrap();
    refusing.assert_sentence(&connection.read_response().unwrap(), 413, &["20000 bytes"]);
    refusing.host.upload("fits", &tiny()).expect(201);
}

#[test]
fn what_breaks_off() {
    let refusing = Refusing::start(Setup::new());
    let component = artifacts::test_plugin("labelled");
    let length = component.len();
    let heads = [
        format!(
            "POST /v1/models/new/versions?deploy=true HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"
        ),
        format!(
            "POST /v1/models/new/versions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n"
        ),
    ];
    for head in heads {
        let staging = refusing.host.data_dir().join("staging");
        let mut connection = refusing.host.connect();
        connection.write(&[head.as_bytes(), &component[..length / 2]].concat()).unwrap();
        wait_until("the upload is being received", || !folder::names(&staging).is_empty());
        drop(connection);
        refusing.assert_untouched();
    }
}

#[test]
fn what_stops_arriving() {
    let refusing = Refusing::start(Setup::new().set("server.body_idle_timeout_ms", 300));
    let mut connection = refusing.host.connect();
    let head = "POST /v1/models/new/versions HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n";
    connection.write(&[head.as_bytes(), &tiny()[..1000]].concat()).unwrap();
    refusing.assert_sentence(&connection.read_response().unwrap(), 408, &["time"]);
}

/// The cost of compiling is bounded, and paid by nobody but the author.
#[test]
fn what_is_too_expensive_to_compile() {
    let refusing = Refusing::start(Setup::new().set("runtime.compilation.seconds", 1));
    let component = expensive(tiny(), 400, 1000);
    thread::scope(|scope| {
        let upload = scope.spawn(|| {
            let began = Instant::now();
            (refusing.host.upload("new", &component), began.elapsed())
        });
        wait_until("it is being compiled", || is_compiling(&refusing.host));
        let mut slowest = Duration::ZERO;
        let mut asked = 0;
        while !upload.is_finished() {
            let began = Instant::now();
            refusing.host.send(&inference::column("well", &[1.0])).expect(200);
            slowest = slowest.max(began.elapsed());
            asked += 1;
        }
        let (response, took) = upload.join().unwrap();
        refusing.assert_sentence(&response, 422, &["too expensive to compile", "1 seconds"]);
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(
            asked > 10 && slowest < Duration::from_secs(1),
            "{asked} answers, the slowest after {slowest:?}"
        );
    });
    wait_until("the compiler ends", || !is_compiling(&refusing.host));
}

#[test]
fn what_takes_too_much_memory_to_compile() {
    let limit = 1_u64 << 30;
    let refusing = Refusing::start(Setup::new().set("runtime.compilation.memory_bytes", limit));
    let component = expensive(tiny(), 4, 250_000);
    refusing.assert_refused(
        &component,
        422,
        &["too expensive to compile", &format!("{limit} bytes of memory")],
    );
}

fn is_compiling(host: &Host) -> bool {
    process::children(host.pid()).iter().any(|command| command.contains("examine"))
}

#[test]
fn what_is_asked_for_wrongly() {
    let refusing = Refusing::start(Setup::new());
    let upload = |target: &str| refusing.host.send(&Request::post(target, tiny()));
    refusing.assert_sentence(&upload("/v1/models/a%20b/versions"), 400, &["model name", "a-z"]);
    refusing.assert_sentence(&upload("/v1/models/-/versions"), 400, &["model name"]);
    refusing.assert_sentence(&upload(&format!("/v1/models/{}/versions", "n".repeat(64))), 400, &["63"]);
    refusing.assert_sentence(&upload("/v1/models/..%2f..%2fetc/versions"), 400, &["model name"]);
    refusing.assert_sentence(&upload("/v1/models/new/versions?deploy=yes"), 400, &["deploy=true"]);
    refusing.assert_sentence(&upload("/v1/models/new/versions?depoly=true"), 400, &["deploy=true"]);
}

#[test]
fn what_is_good_after_all_that_is_taken() {
    let host = Host::start();
    let component = with_graph(tiny(), "net", &onnx::multiplication(2.0));
    let uploaded = host.upload("new", &component);
    assert_eq!(uploaded.header("location"), Some("/v1/models/new/versions/1"));
    assert_eq!(uploaded.header("etag"), Some("\"1\""));
    let version = uploaded.expect(201);
    assert_eq!(version["number"], 1);
    assert_eq!(version["size_bytes"], component.len());
    assert_eq!(version["signature"]["outputs"][0]["name"], "y");
    assert_eq!(version["graphs"][0]["name"], "net");
    assert_eq!(uploaded.text().matches("\"created\"").count(), 1, "a key twice: {}", uploaded.text());
    // It is ready and answers by its number, and nothing else until it is deployed.
    host.send(&inference::column("new", &[1.0])).error(503);
    let by_number = inference::to("/v2/models/new/versions/1/infer", &inference::column_body(&[1.0]));
    host.send(&by_number).expect(200);
}
