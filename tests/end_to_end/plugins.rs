//! The plugins that modelhost comes with answer what their training scripts say, and a plain network needs no
//! plugin of its own.

use std::fs;
use std::thread;

use modelhost_tests::host::{Host, Setup};
use modelhost_tests::http::Request;
use modelhost_tests::inference::{assert_as_expected, to};
use modelhost_tests::{artifacts, onnx};
use serde_json::{Value, json};

fn read_json(path: &str) -> Value {
    let text = fs::read_to_string(artifacts::checkout(path)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn assert_answers(host: &Host, model: &str, case: &Value) {
    let answer = host.send(&to(&format!("/v2/models/{model}/infer"), &case["request"])).expect(200);
    assert_as_expected(&case["response"], &answer);
}

/// On each engine, with calls put together and not, alone and under load.
fn assert_reference_cases(name: &str) {
    let library = artifacts::onnxruntime();
    let engines = if library.is_some() { vec!["tract", "onnxruntime"] } else { vec!["tract"] };
    let library = library.unwrap_or_else(|| "off".to_owned());
    let host = Setup::new().set("inference.onnxruntime", library).start();
    assert_eq!(host.deploy_new(name, &artifacts::plugin(name)), 1);
    let cases = read_json(&format!("plugins/{name}/tests/reference.json"));
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 3, "{} cases prove little", cases.len());
    for engine in engines {
        for (max_batch_size, delay) in [(1, 0), (32, 2_000)] {
            configure(&host, name, engine, max_batch_size, delay);
            cases.iter().for_each(|case| assert_answers(&host, name, case));
            assert_answers_under_load(&host, name, cases);
        }
    }
}

#[track_caller]
fn configure(host: &Host, model: &str, engine: &str, max_batch_size: u32, delay: u32) {
    let batching = json!({ "max_batch_size": max_batch_size, "max_queue_delay_microseconds": delay });
    let configuration = json!({ "engine": engine, "dynamic_batching": batching });
    host.send(&Request::put(format!("/v1/models/{model}/configuration"), &configuration)).expect(200);
}

/// Several clients at once, each of which begins with another case.
fn assert_answers_under_load(host: &Host, model: &str, cases: &[Value]) {
    const CLIENTS: usize = 8;
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let beginning = client * cases.len() / CLIENTS;
                cases.iter().cycle().skip(beginning).take(cases.len()).for_each(|case| {
                    assert_answers(host, model, case);
                });
            });
        }
    });
}

#[test]
fn income_answers_as_its_training_script() {
    assert_reference_cases("income");
}

#[test]
fn novelist_answers_as_its_training_script() {
    assert_reference_cases("novelist");
}

#[test]
fn similarity_answers_as_its_training_script() {
    assert_reference_cases("similarity");
}

#[test]
fn spam_answers_as_its_training_script() {
    assert_reference_cases("spam");
}

#[test]
fn the_recommender_answers_as_its_training_script() {
    assert_reference_cases("recommender");
}

#[test]
fn hotel_answers_as_its_training_script() {
    assert_reference_cases("hotel");
}

#[test]
fn a_plain_network_is_a_model() {
    let host = Host::start();
    let network = artifacts::checkout("examples/iris.onnx");
    let pushed = host.client(&["push", network.to_str().unwrap(), "--model", "iris", "--deploy"]);
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    assert_answers(&host, "iris", &read_json("examples/iris.json"));
}

#[test]
fn the_signature_of_a_plain_network_is_the_networks() {
    let host = Host::start();
    let folder = tempfile::tempdir().unwrap();
    let network = folder.path().join("triple.onnx");
    fs::write(&network, onnx::multiplication(3.0)).unwrap();
    let pushed = host.client(&["push", network.to_str().unwrap(), "--model", "triple", "--deploy"]);
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let metadata = host.get("/v2/models/triple").expect(200);
    assert_eq!(metadata["inputs"], serde_json::json!([{ "name": "x", "datatype": "FP32", "shape": [-1] }]));
    assert_eq!(metadata["outputs"], serde_json::json!([{ "name": "y", "datatype": "FP32", "shape": [-1] }]));
    let answer = host.send(&modelhost_tests::inference::column("triple", &[1.0, -2.0])).expect(200);
    assert_eq!(answer["outputs"][0]["data"], serde_json::json!([3.0, -6.0]));
}
