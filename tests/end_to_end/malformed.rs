//! Inference requests that are none: each kind of mistake has its status and a sentence that helps.

use modelhost_tests::guest::Guest;
use modelhost_tests::host::Setup;
use modelhost_tests::http::Request;
use modelhost_tests::inference::{column, column_body};

use crate::online::{infer, with_model};

/// A request with one input `x`, given by its JSON.
fn with_input(datatype: &str, shape: &str, data: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#)
}

/// Each malformed body, and the words that the sentence must hold.
#[test]
fn malformed_bodies() {
    let host = with_model();
    let input = |fields: &str| format!(r#"{{"inputs":[{{{fields}}}]}}"#);
    let good = r#""name":"x","datatype":"FP32","shape":[1],"data":[1]"#;
    let cases: Vec<(String, &[&str])> = vec![
        (String::new(), &["empty"]),
        ("{".into(), &["not an inference request"]),
        ("null".into(), &["object"]),
        ("[]".into(), &["object"]),
        ("{}".into(), &["inputs"]),
        (r#"{"inputs":{}}"#.into(), &["array"]),
        (r#"{"inputs":[]}"#.into(), &["\"x\"", "missing"]),
        (r#"{"inputs":[]} trailing"#.into(), &["trailing"]),
        (input(r#""datatype":"FP32","shape":[1],"data":[1]"#), &["name"]),
        (input(r#""name":"x","shape":[1],"data":[1]"#), &["datatype"]),
        (input(r#""name":"x","datatype":"FP32","data":[1]"#), &["shape"]),
        (input(r#""name":"x","datatype":"FP32","shape":[1]"#), &["\"x\"", "no data"]),
        (format!(r#"{{"inputs":[{{{good}}},{{{good}}}]}}"#), &["\"x\"", "more than once"]),
        (input(r#""name":"z","datatype":"FP32","shape":[1],"data":[1]"#), &["\"z\"", "expected x"]),
        (with_input("FP64", "[1]", "[1]"), &["\"x\"", "FP64", "FP32"]),
        (with_input("FLOAT", "[1]", "[1]"), &["\"x\"", "FLOAT", "FP32"]),
        (with_input("FP16", "[1]", "[1]"), &["FP16", "binary"]),
        (with_input("FP32", "[1,1]", "[1]"), &["\"x\"", "[1, 1]", "[-1]"]),
        (with_input("FP32", "[]", "[1]"), &["\"x\"", "[-1]"]),
        (with_input("FP32", "[-1]", "[1]"), &["\"x\"", "shape", "[-1]"]),
        (with_input("FP32", "[1.5]", "[1]"), &["\"x\"", "shape"]),
        (with_input("FP32", "\"1\"", "[1]"), &["\"x\"", "shape"]),
        (with_input("FP32", "[2]", "[]"), &["\"x\"", "0 elements", "takes 2"]),
        (with_input("FP32", "[3]", "[1]"), &["\"x\"", "1 elements", "takes 3"]),
        (with_input("FP32", "[1]", "[1,2]"), &["\"x\"", "more than 1"]),
        (with_input("FP32", "[2,2]", "[[1,2],[3]]"), &["\"x\"", "dimension 1", "takes 2"]),
        (with_input("FP32", "[2]", "[[1],[2]]"), &["\"x\"", "nested"]),
        (with_input("FP32", "[2]", "[1,true]"), &["\"x\"", "element 1", "true"]),
        (with_input("FP32", "[1]", "[\"1\"]"), &["\"x\"", "element 0", "numbers"]),
        (with_input("FP32", "[1]", "[null]"), &["\"x\"", "element 0", "null"]),
        (with_input("FP32", "[1]", "[1e39]"), &["\"x\"", "1e39"]),
        (with_input("FP32", "[1]", "[NaN]"), &["not an inference request"]),
        (with_input("FP32", "[1]", "[Infinity]"), &["not an inference request"]),
        (with_input("FP32", "[1]", "1"), &["\"x\"", "array"]),
        (with_input("FP32", "[1]", "{}"), &["\"x\"", "array"]),
        (with_input("INT64", "[1]", "[1.5]"), &["1.5", "INT64"]),
        (with_input("INT8", "[1]", "[128]"), &["128", "-128 to 127"]),
        (with_input("UINT64", "[1]", "[-1]"), &["-1", "UINT64"]),
        (with_input("BOOL", "[1]", "[1]"), &["true or false"]),
        (with_input("BYTES", "[1]", "[1]"), &["BYTES", "strings"]),
        (with_input("BYTES", "[1]", r#"["\ud800"]"#), &["Unicode"]),
        (format!(r#"{{"parameters":{{"p":[]}},"inputs":[{{{good}}}]}}"#), &["parameter"]),
        (
            format!(r#"{{"parameters":{{"timeout":"soon"}},"inputs":[{{{good}}}]}}"#),
            &["timeout", "microseconds"],
        ),
        (
            format!(r#"{{"parameters":{{"binary_data_output":1}},"inputs":[{{{good}}}]}}"#),
            &["binary_data_output", "true or false"],
        ),
    ];
    let mut connection = host.connect();
    for (body, words) in cases {
        // All on one connection: a mistake costs nobody his connection.
        let sentence =
            connection.send(&Request::post("/v2/models/m/infer", body.clone())).unwrap().error(400);
        for word in words {
            assert!(sentence.contains(word), "{body}\n{sentence:?} does not say {word:?}");
        }
    }
    assert!(infer(&host, b"{\"inputs\":[\xff]}".to_vec()).error(400).contains("UTF-8"));
    host.send(&column("m", &[1.0])).expect(200);
}

/// A shape is only a claim: nothing is allocated for it.
#[test]
fn claims_cost_nothing() {
    let host = with_model();
    let before = modelhost_tests::process::resident_kib(host.pid());
    for shape in
        ["[1000000000000]", "[4611686018427387904]", "[4294967296,4294967296]", "[18446744073709551615]"]
    {
        assert!(infer(&host, with_input("FP32", shape, "[1]")).error(400).contains("\"x\""));
    }
    let deep = with_input("FP32", "[1]", &format!("{}{}", "[".repeat(200_000), "]".repeat(200_000)));
    infer(&host, deep).error(400);
    let grown = modelhost_tests::process::resident_kib(host.pid()).saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
}

#[test]
fn bodies_end_at_their_limit() {
    let host = Setup::new().set("server.max_body_bytes", 2000).start();
    host.deploy_new("m", &Guest::answering("y").component());
    let padded = |length: usize| {
        let body = column_body(&[1.0]).to_string();
        body.clone() + &" ".repeat(length - body.len())
    };
    infer(&host, padded(2000)).expect(200);
    assert!(infer(&host, padded(2001)).error(413).contains("2000 bytes"));
    // Refused before it comes, where the client says how long it is.
    let mut connection = host.connect();
    connection
        .write(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000000\r\n\r\n{")
        .unwrap();
    connection.read_response().unwrap().error(413);
}
