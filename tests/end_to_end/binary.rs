//! Binary tensor data, raw requests and compressed bodies: the same answers as in JSON, bit for bit, and mistakes that are
//! told.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, Setup};
use modelhost_tests::http::{Request, Response};
use modelhost_tests::inference::{column_body, output};
use modelhost_tests::{artifacts, onnx, process};
use serde_json::{Value, json};

use crate::online::{infer, with_model};

const JSON_BYTES: &str = "Inference-Header-Content-Length";
const INFER: &str = "/v2/models/m/infer";

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A request of this JSON part and these binary tensors.
fn binary(target: &str, json: &Value, tensors: &[u8]) -> Request {
    let json = json.to_string();
    let length = json.len().to_string();
    Request::post(target, [json.as_bytes(), tensors].concat()).header(JSON_BYTES, length)
}

/// The JSON part of a binary answer, and each binary output with its name.
#[track_caller]
fn parts(response: &Response) -> (Value, Vec<(String, Vec<u8>)>) {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/octet-stream"));
    let length: usize = response.header(JSON_BYTES).unwrap().parse().unwrap();
    let (json, mut rest) = response.body.split_at(length);
    let json: Value = serde_json::from_slice(json).unwrap();
    let mut tensors = Vec::new();
    for output in json["outputs"].as_array().unwrap() {
        if let Some(size) = output["parameters"]["binary_data_size"].as_u64() {
            let (tensor, after) = rest.split_at(size as usize);
            assert_eq!(output.get("data"), None);
            tensors.push((output["name"].as_str().unwrap().to_owned(), tensor.to_vec()));
            rest = after;
        }
    }
    assert!(rest.is_empty(), "{} bytes are no tensor's", rest.len());
    (json, tensors)
}

fn sized(name: &str, datatype: &str, shape: &[u64], bytes: usize) -> Value {
    json!({ "name": name, "datatype": datatype, "shape": shape, "parameters": { "binary_data_size": bytes } })
}

#[test]
fn both_ways_in_every_mixture() {
    let host = with_model();
    let data = floats(&[1.5, -2.0, 3.0]);
    let in_binary = json!({ "id": "7", "inputs": [sized("x", "FP32", &[3], data.len())] });
    // Binary in, JSON out.
    let answer = host.send(&binary(INFER, &in_binary, &data)).expect(200);
    assert_eq!((&answer["id"], output(&answer, "y")), (&json!("7"), &json!([3.0, -4.0, 6.0])));
    // Binary in, binary out.
    let mut all = in_binary.clone();
    all["parameters"] = json!({ "binary_data_output": true });
    let (json, tensors) = parts(&host.send(&binary(INFER, &all, &data)));
    assert_eq!(json["outputs"].as_array().unwrap().len(), 3);
    assert_eq!(tensors[1], ("y".to_owned(), floats(&[3.0, -4.0, 6.0])));
    assert_eq!(tensors[0].1, [&5_u32.to_le_bytes()[..], b"first"].concat().repeat(tensors[0].1.len() / 9));
    // What an output says of itself counts more.
    all["outputs"] = json!([{ "name": "y" }, { "name": "label", "parameters": { "binary_data": false } }]);
    let (json, tensors) = parts(&host.send(&binary(INFER, &all, &data)));
    assert_eq!(output(&json, "label")[0], "first");
    assert_eq!(tensors, [("y".to_owned(), floats(&[3.0, -4.0, 6.0]))]);
    // JSON in, binary out; nothing is binary that was not asked for.
    let mut body = column_body(&[1.0]);
    body["outputs"] = json!([{ "name": "y", "parameters": { "binary_data": true } }]);
    assert_eq!(parts(&infer(&host, body.to_string())).1, [("y".to_owned(), floats(&[2.0]))]);
    let plain = infer(&host, column_body(&[1.0]).to_string());
    assert_eq!((plain.header(JSON_BYTES), plain.header("content-type")), (None, Some("application/json")));
}

/// Every datatype that a JSON request has, with the values that JSON has no or no exact form for, through a plugin that
/// answers what it was given.
#[test]
fn every_datatype_comes_back_bit_for_bit() {
    let host = Host::start();
    host.deploy_new("m", &artifacts::test_plugin("echo"));
    let text = [&3_u32.to_le_bytes()[..], b"\xff\x00\xfe", &0_u32.to_le_bytes()].concat();
    let large = [i64::MIN, (1 << 53) + 1].map(i64::to_le_bytes).concat();
    let tensors: Vec<(&str, Vec<u64>, Vec<u8>)> = vec![
        ("BOOL", vec![1, 2], vec![1, 0]),
        ("UINT8", vec![0, 7], vec![]),
        ("UINT16", vec![1, 2], vec![1, 2, 3, 255]),
        ("UINT32", vec![1, 1], vec![255; 4]),
        ("UINT64", vec![1, 2], vec![255; 16]),
        ("INT8", vec![3, 1], vec![128, 0, 127]),
        ("INT16", vec![1, 1], vec![0, 128]),
        ("INT32", vec![1, 1], vec![1, 0, 0, 128]),
        ("INT64", vec![1, 2], large),
        ("FP32", vec![1, 3], floats(&[f32::NAN, f32::NEG_INFINITY, -0.0])),
        ("FP64", vec![1, 1], f64::INFINITY.to_le_bytes().to_vec()),
        ("BYTES", vec![2, 1], text),
        ("scalar", vec![], 0.1_f64.to_le_bytes().to_vec()),
    ];
    let datatype = |name: &'static str| if name == "scalar" { "FP64" } else { name };
    let inputs = tensors.iter().map(|(name, shape, data)| sized(name, datatype(name), shape, data.len()));
    let request = json!({
        "inputs": inputs.collect::<Vec<_>>(),
        "parameters": { "binary_data_output": true },
    });
    let data: Vec<u8> = tensors.iter().flat_map(|(_, _, data)| data.clone()).collect();
    let (json, answered) = parts(&host.send(&binary(INFER, &request, &data)));
    for (index, (name, shape, data)) in tensors.iter().enumerate() {
        assert_eq!((&answered[index].0, &answered[index].1), (&(*name).to_owned(), data));
        assert_eq!(json["outputs"][index]["shape"], json!(shape));
        assert_eq!(json["outputs"][index]["datatype"], datatype(name));
    }
}

#[test]
fn integers_beyond_two_to_the_fifty_third_are_exact_in_json() {
    let host = Host::start();
    host.deploy_new("m", &artifacts::test_plugin("echo"));
    let empty = |name: &str| json!({ "name": name, "datatype": name, "shape": [0, 1], "data": [] });
    let mut inputs: Vec<Value> =
        ["BOOL", "UINT8", "UINT16", "UINT32", "INT8", "INT16", "INT32", "FP32", "FP64", "BYTES"]
            .map(empty)
            .to_vec();
    inputs.push(json!({ "name": "scalar", "datatype": "FP64", "shape": [], "data": [0.1] }));
    let exact = ["18446744073709551615", "9007199254740993", "0"];
    let body = json!({ "inputs": inputs }).to_string().replacen(
        '[',
        &format!(
            r#"[{{"name":"UINT64","datatype":"UINT64","shape":[1,3],"data":[{0}]}},{{"name":"INT64","datatype":"INT64","shape":[1,2],"data":[-9223372036854775808,9007199254740993]}},"#,
            exact.join(",")
        ),
        1,
    );
    let answer = infer(&host, body);
    answer.expect(200);
    let text = answer.text();
    assert!(text.contains(&format!("[{}]", exact.join(","))), "{text}");
    assert!(text.contains("[-9223372036854775808,9007199254740993]"), "{text}");
}

#[test]
fn a_raw_body_is_the_one_input() {
    let host = with_model();
    let raw = |body: Vec<u8>| host.send(&Request::post(INFER, body).header(JSON_BYTES, "0"));
    let (json, tensors) = parts(&raw(floats(&[1.0, 2.0])));
    assert_eq!(json["outputs"].as_array().unwrap().len(), tensors.len());
    assert_eq!(tensors[1], ("y".to_owned(), floats(&[2.0, 4.0])));
    assert!(raw(vec![0; 7]).error(400).contains("input \"x\""));
    host.deploy_new("echo", &artifacts::test_plugin("echo"));
    let several = Request::post("/v2/models/echo/infer", vec![0; 4]).header(JSON_BYTES, "0");
    assert!(host.send(&several).error(400).contains("13 inputs"));
}

#[test]
fn mistakes_are_told() {
    let host = with_model();
    let json = json!({ "inputs": [sized("x", "FP32", &[2], 8)] });
    let cases: [(Request, &[&str]); 5] = [
        (binary(INFER, &json, &[0; 7]), &["\"x\"", "binary_data_size 8", "only 7"]),
        (binary(INFER, &json, &[0; 9]), &["1 bytes", "expected none"]),
        (
            binary(INFER, &json!({ "inputs": [sized("x", "FP32", &[3], 8)] }), &[0; 8]),
            &["\"x\"", "takes 12 bytes"],
        ),
        (
            Request::post(INFER, json.to_string()),
            &["\"x\"", "expected the header Inference-Header-Content-Length"],
        ),
        (
            Request::post(INFER, "{}").header(JSON_BYTES, "three"),
            &["Inference-Header-Content-Length", "number"],
        ),
    ];
    let mut connection = host.connect();
    for (request, words) in cases {
        let sentence = connection.send(&request).unwrap().error(400);
        for word in words {
            assert!(sentence.contains(word), "{sentence:?} does not say {word:?}");
        }
    }
    let beyond = Request::post(INFER, json.to_string()).header(JSON_BYTES, "18446744073709551615");
    host.send(&beyond).error(400);
}

#[test]
fn classes_in_place_of_scores() {
    let host = with_model();
    let mut body = column_body(&[1.0, 5.0, 3.0]);
    body["outputs"] = json!([{ "name": "y", "parameters": { "classification": 2 } }]);
    let answer = infer(&host, body.to_string()).expect(200);
    let y = &answer["outputs"][0];
    assert_eq!(y["datatype"], "BYTES", "{answer}");
    assert!(y["data"].as_array().is_some_and(|classes| !classes.is_empty()), "{answer}");
    body["outputs"] = json!([{ "name": "label", "parameters": { "classification": 1 } }]);
    assert!(infer(&host, body.to_string()).error(400).contains("\"label\""));
    body["outputs"] = json!([{ "name": "y", "parameters": { "classification": "two" } }]);
    assert!(infer(&host, body.to_string()).error(400).contains("classification"));
}

fn compress(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(bytes, 1).unwrap(),
    }
}

fn expand(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut expanded = Vec::new();
    match coding {
        "gzip" => GzDecoder::new(bytes).read_to_end(&mut expanded).unwrap(),
        "deflate" => ZlibDecoder::new(bytes).read_to_end(&mut expanded).unwrap(),
        _ => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut expanded).unwrap(),
    };
    expanded
}

#[test]
fn compressed_bodies_both_ways() {
    let host = with_model();
    let values = vec![1.0; 2_000];
    let plain = infer(&host, column_body(&values).to_string());
    assert_eq!(plain.header("content-encoding"), None);
    for coding in ["gzip", "deflate", "zstd"] {
        let body = compress(coding, column_body(&values).to_string().as_bytes());
        let request =
            Request::post(INFER, body).header("Content-Encoding", coding).header("Accept-Encoding", coding);
        let answer = host.send(&request);
        assert_eq!((answer.status, answer.header("content-encoding")), (200, Some(coding)));
        assert!(answer.body.len() * 4 < plain.body.len(), "{coding}: {} bytes", answer.body.len());
        assert_eq!(expand(coding, &answer.body), plain.body);
        // Binary tensors are counted from the start of what was compressed.
        let data = floats(&values);
        let json = json!({
            "inputs": [sized("x", "FP32", &[2_000], data.len())],
            "outputs": [{ "name": "y", "parameters": { "binary_data": true } }],
        });
        let json = json.to_string();
        let request = Request::post(INFER, compress(coding, &[json.as_bytes(), &data].concat()))
            .header("Content-Encoding", coding)
            .header("Accept-Encoding", coding)
            .header(JSON_BYTES, json.len().to_string());
        let mut answer = host.send(&request);
        answer.body = expand(coding, &answer.body);
        assert_eq!(parts(&answer).1, [("y".to_owned(), floats(&vec![2.0; 2_000]))]);
    }
    let unknown = Request::post(INFER, "{}").header("Content-Encoding", "br");
    assert!(host.send(&unknown).error(415).contains("\"br\""));
    let broken = Request::post(INFER, "{}").header("Content-Encoding", "gzip");
    assert!(host.send(&broken).error(400).contains("gzip"));
}

/// A few kilobytes that would become gigabytes.
#[test]
fn a_small_body_does_not_become_a_large_one() {
    let host = with_model();
    let before = process::resident_kib(host.pid());
    for coding in ["gzip", "zstd"] {
        let bomb = compress(coding, &vec![b' '; 512 << 20]);
        let request = Request::post(INFER, bomb).header("Content-Encoding", coding);
        assert!(host.send(&request).error(413).contains("larger than"), "{coding}");
    }
    let grown = process::resident_kib(host.pid()).saturating_sub(before);
    assert!(grown < 256 << 10, "{grown} KiB");
}

/// A quarter of a gibibyte in one body, and as much in the answer.
#[test]
fn large_bodies_take_a_small_multiple_of_their_size() {
    const BYTES: usize = 256 << 20;
    let host = Setup::new()
        .set("server.max_body_bytes", BYTES)
        .set("runtime.limits.tensor_bytes", 4 * BYTES)
        .set("runtime.limits.output_bytes", 2 * BYTES)
        .set("runtime.limits.graph_memory_bytes", 4 * BYTES)
        .start();
    let component = with_graph(artifacts::plugin("onnx"), "model", &onnx::multiplication(2.0));
    host.deploy_new("m", &component);
    let json = |elements: usize| {
        json!({
            "inputs": [sized("x", "FP32", &[elements as u64], 4 * elements)],
            "outputs": [{ "name": "y", "parameters": { "binary_data": true } }],
        })
    };
    let elements = BYTES / 4 - 256;
    let answer = host.send(&binary(INFER, &json(elements), &floats(&vec![1.5; elements])));
    let (_, tensors) = parts(&answer);
    assert!(tensors[0].1.as_chunks::<4>().0.iter().all(|element| f32::from_le_bytes(*element) == 3.0));
    let peak = process::peak_resident_kib(host.pid());
    assert!(peak < 5 * BYTES as u64 / 1024, "{peak} KiB");
}
