//! The Open Inference Protocol as clients use it.

use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, wait_until};
use modelhost_tests::http::{Request, Response};
use modelhost_tests::inference::{column, column_body, output, to, version};
use modelhost_tests::{artifacts, onnx};
use serde_json::{Value, json};

/// A host whose model `m` takes a column of FP32.
pub fn with_model() -> Host {
    let host = Host::start();
    host.deploy_new("m", &labelled("first", 2.0));
    host
}

fn labelled(label: &str, factor: f32) -> Vec<u8> {
    with_graph(artifacts::test_plugin("labelled"), label, &onnx::multiplication(factor))
}

pub fn infer(host: &Host, body: impl Into<Vec<u8>>) -> Response {
    host.send(&Request::post("/v2/models/m/infer", body))
}

#[test]
fn metadata_and_health() {
    let host = with_model();
    let server = host.get("/v2").expect(200);
    assert_eq!(server["name"], "modelhost");
    assert!(server["version"].is_string() && server["extensions"].is_array(), "{server}");
    assert_eq!(host.get("/v2/health/live").expect(200), json!({ "live": true }));
    assert_eq!(host.get("/v2/health/ready").expect(200), json!({ "ready": true }));
    let ready = host.get("/v2/models/m/ready");
    assert_eq!(ready.expect(200), json!({ "name": "m", "ready": true }));
    assert_eq!(ready.header("content-type"), Some("application/json"));
    let model = host.get("/v2/models/m").expect(200);
    assert_eq!((&model["name"], &model["versions"]), (&json!("m"), &json!(["1"])));
    assert_eq!(model["inputs"], json!([{ "name": "x", "datatype": "FP32", "shape": [-1] }]));
    assert_eq!(model["outputs"][0], json!({ "name": "label", "datatype": "BYTES", "shape": [-1] }));
    assert!(model["platform"].as_str().is_some_and(|platform| platform.contains('_')), "{model}");
}

#[test]
fn a_model_without_a_deployment_is_not_ready() {
    let host = Host::start();
    host.upload("m", &labelled("first", 2.0)).expect(201);
    assert_eq!(host.get("/v2/models/m/ready").expect(503), json!({ "name": "m", "ready": false }));
    host.get("/v2/models/m/versions/1/ready").expect(200);
    assert!(host.send(&column("m", &[1.0])).error(503).contains("deploy"));
}

#[test]
fn versions_and_aliases_in_the_path() {
    let host = with_model();
    host.upload("m", &labelled("second", 3.0)).expect(201);
    host.send(&Request::put("/v1/models/m/aliases/next", &json!({ "version": 2 }))).expect(200);
    let ask = |selector: &str| {
        let target = format!("/v2/models/m{selector}/infer");
        let answer = host.send(&to(&target, &column_body(&[1.0]))).expect(200);
        (version(&answer), output(&answer, "label")[0].as_str().unwrap().to_owned())
    };
    assert_eq!(ask(""), (1, "first".to_owned()));
    assert_eq!(ask("/versions/1"), (1, "first".to_owned()));
    for selector in ["/versions/2", "/versions/next", "/versions/002"] {
        assert_eq!(ask(selector), (2, "second".to_owned()));
        assert_eq!(host.get(&format!("/v2/models/m{selector}")).expect(200)["name"], "m");
        host.get(&format!("/v2/models/m{selector}/ready")).expect(200);
    }
    for unknown in [
        "/v2/models/other",
        "/v2/models/m/versions/3",
        "/v2/models/m/versions/last",
        "/v2/models/m/versions/-",
    ] {
        for (end, is_post) in [("", false), ("/ready", false), ("/infer", true)] {
            let target = format!("{unknown}{end}");
            let request = if is_post { to(&target, &column_body(&[1.0])) } else { Request::get(target) };
            let sentence = host.send(&request).error(404);
            let name = unknown.rsplit('/').next().unwrap();
            assert!(sentence.contains(name), "{sentence:?} does not name {name:?}");
        }
    }
}

#[test]
fn what_is_asked_for_is_echoed_and_selected() {
    let host = with_model();
    let ask = |fields: Value| {
        let mut body = column_body(&[1.0, 2.0]);
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        infer(&host, body.to_string())
    };
    let names = |answer: &Value| -> Vec<String> {
        let outputs = answer["outputs"].as_array().unwrap();
        outputs.iter().map(|output| output["name"].as_str().unwrap().to_owned()).collect()
    };
    let whole = ask(json!({})).expect(200);
    assert_eq!(
        (names(&whole), whole.get("id")),
        (["label", "y", "label_again"].map(str::to_owned).to_vec(), None)
    );
    assert_eq!(whole["model_name"], "m");
    let y = whole["outputs"][1].clone();
    assert_eq!(y, json!({ "name": "y", "shape": [2], "datatype": "FP32", "data": [2.0, 4.0] }));
    let id = "an \"id\" \u{1f600}\n";
    assert_eq!(ask(json!({ "id": id })).expect(200)["id"], id);
    let some = ask(json!({ "outputs": [{ "name": "y" }, { "name": "label" }] })).expect(200);
    assert_eq!(names(&some), ["y", "label"]);
    assert_eq!(names(&ask(json!({ "outputs": [] })).expect(200)).len(), 3);
    // What other clients put in beside the protocol's fields.
    ask(json!({ "model_name": "m", "unknown": { "deep": [null] } })).expect(200);
    let unknown = ask(json!({ "outputs": [{ "name": "z" }] })).error(400);
    assert!(unknown.contains("\"z\"") && unknown.contains("label"), "{unknown}");
    assert!(
        ask(json!({ "outputs": [{ "name": "y" }, { "name": "y" }] })).error(400).contains("more than once")
    );
    assert!(ask(json!({ "id": 7 })).error(400).contains("string"));
}

fn echo() -> Host {
    let host = Host::start();
    host.deploy_new("m", &artifacts::test_plugin("echo"));
    host
}

/// The body of a request to the echo, with every input of this shape, and the elements of each datatype that are
/// nearest to what could go wrong.
fn echo_body(nested: bool) -> (String, Vec<(&'static str, String)>) {
    let rows: [(&str, [&str; 4]); 12] = [
        ("BOOL", ["true", "false", "false", "true"]),
        ("UINT8", ["0", "255", "7", "128"]),
        ("UINT16", ["0", "65535", "256", "1"]),
        ("UINT32", ["0", "4294967295", "65536", "1"]),
        ("UINT64", ["0", "18446744073709551615", "9007199254740993", "1"]),
        ("INT8", ["-128", "127", "0", "-1"]),
        ("INT16", ["-32768", "32767", "0", "-1"]),
        ("INT32", ["-2147483648", "2147483647", "0", "-1"]),
        ("INT64", ["-9223372036854775808", "9223372036854775807", "9007199254740993", "-9007199254740993"]),
        ("FP32", ["0.1", "3.4028235e38", "-1.1754944e-38", "1.0"]),
        ("FP64", ["0.1", "1.7976931348623157e308", "5e-324", "-0.0"]),
        ("BYTES", ["\"\"", "\"zw\u{f6}lf \u{1f600}\"", "\"\\\"\\\\\\n,][\"", "\"\\u0000\""]),
    ];
    let flat = |row: &[&str; 4]| format!("[{}]", row.join(","));
    let data = |row: &[&str; 4]| match nested {
        true => format!("[[{}],[{}]]", row[..2].join(","), row[2..].join(",")),
        false => flat(row),
    };
    let input = |(name, row): &(&str, [&str; 4])| {
        format!(r#"{{"name":"{name}","datatype":"{name}","shape":[2,2],"data":{}}}"#, data(row))
    };
    let scalar = r#"{"name":"scalar","datatype":"FP64","shape":[],"data":[2.5]}"#.to_owned();
    let inputs: Vec<String> = rows.iter().map(input).chain([scalar]).collect();
    let expected = rows.iter().map(|(name, row)| (*name, flat(row))).chain([("scalar", "[2.5]".to_owned())]);
    (format!(r#"{{"inputs":[{}]}}"#, inputs.join(",")), expected.collect())
}

#[test]
fn every_datatype_comes_back_exactly() {
    let host = echo();
    for nested in [false, true] {
        let (body, expected) = echo_body(nested);
        let answer = infer(&host, body).expect(200);
        for (name, data) in expected {
            // As numbers: 64-bit integers stay integers, and floats are compared bit by bit.
            let data: Value = serde_json::from_str(&data).unwrap();
            assert_eq!(*output(&answer, name), data, "{name}");
        }
        assert_eq!(answer["outputs"][0]["shape"], json!([2, 2]));
        assert_eq!(answer["outputs"][12]["shape"], json!([]));
    }
}

#[test]
fn empty_tensors_come_back_empty() {
    let host = echo();
    for (shape, data) in [([0, 3], "[]"), ([3, 0], "[[],[],[]]"), ([3, 0], "[]"), ([0, 0], "[]")] {
        let (body, _) = echo_body(false);
        let mut body: Value = serde_json::from_str(&body).unwrap();
        for input in body["inputs"].as_array_mut().unwrap().iter_mut().take(12) {
            input["shape"] = json!(shape);
            input["data"] = serde_json::from_str(data).unwrap();
        }
        let answer = infer(&host, body.to_string()).expect(200);
        for found in answer["outputs"].as_array().unwrap().iter().take(12) {
            assert_eq!((&found["shape"], &found["data"]), (&json!(shape), &json!([])), "{found}");
        }
    }
}

#[test]
fn what_json_cannot_express_is_said() {
    let host = Host::start();
    host.deploy_new("m", &artifacts::test_plugin("hostile"));
    let sentence = host.send(&modelhost_tests::inference::behaviour("m", "not-a-number", 0));
    assert!(sentence.status >= 400, "{}", sentence.text());
    let sentence = sentence.error(sentence.status);
    assert!(
        sentence.contains("\"y\"") && sentence.contains("NaN") && sentence.contains("binary"),
        "{sentence}"
    );
}

#[test]
fn large_tensors_pass() {
    let host = with_model();
    let values: Vec<f32> = (0..300_000_u32).map(|index| index as f32 / 8.0).collect();
    let answer = host.send(&column("m", &values)).expect(200);
    let doubled = output(&answer, "y").as_array().unwrap();
    assert_eq!(doubled.len(), values.len());
    assert!(doubled.iter().zip(&values).all(|(found, value)| found.as_f64() == Some(f64::from(value * 2.0))));
}

#[test]
fn addresses_and_methods() {
    let host = with_model();
    for target in [
        "/nothing",
        "/v2/",
        "/v2/models",
        "/v2/models/m/infer/x",
        "/v1/models/m/aliases",
        "/%ff",
        "//",
        "/v3",
    ] {
        host.get(target).error(404);
        host.send(&Request::post(target, "{}")).error(404);
    }
    let wrong = [
        ("GET", "/v2/models/m/infer", "POST"),
        ("POST", "/v2/models/m", "GET, HEAD"),
        ("DELETE", "/v1/models/m", "GET, HEAD"),
        ("PATCH", "/v1/models/m/deployment", "GET, HEAD, PUT"),
        ("PUT", "/v1/models/m/versions/1", "GET, HEAD, DELETE"),
        ("POST", "/v1/models/m/aliases/a", "PUT, DELETE"),
        ("BREW", "/metrics", "GET, HEAD"),
    ];
    for (method, target, allowed) in wrong {
        let response = host.send(&Request::new(method, target, ""));
        response.error(405);
        assert_eq!(response.header("allow"), Some(allowed), "{method} {target}");
    }
    assert_eq!(host.get("/v2").header("x-request-id").map(str::len), Some(32));
    let named = host.send(&Request::get("/v2").header("X-Request-Id", "abc-1"));
    assert_eq!(named.header("x-request-id"), Some("abc-1"));
    wait_until("the request is in the log", || host.log().contains("abc-1"));
}
