//! Samples: requests in a component that the host sends to it at upload, and before it takes requests.

use std::fs;
use std::time::{Duration, Instant};

use modelhost_tests::component::{with_graph, with_section};
use modelhost_tests::host::{Host, Setup};
use modelhost_tests::inference::{self, column, column_body};
use modelhost_tests::{artifacts, onnx};
use serde_json::{Value, json};

fn labelled(factor: f32) -> Vec<u8> {
    with_graph(artifacts::test_plugin("labelled"), "net", &onnx::multiplication(factor))
}

fn with_sample(component: Vec<u8>, name: &str, sample: &str) -> Vec<u8> {
    with_section(component, &format!("modelhost:sample/{name}"), sample.as_bytes())
}

#[test]
fn samples_are_shown_and_survive_a_restart() {
    let host = Host::start();
    let sample = column_body(&[1.0, 2.0]).to_string();
    let example = json!({ "request": column_body(&[3.0]), "response": { "outputs": [] } }).to_string();
    let component = with_sample(with_sample(labelled(2.0), "bare", &sample), "example", &example);
    host.deploy_new("m", &component);
    let shown = |host: &Host| host.get("/v1/models/m/versions/1").expect(200)["samples"].clone();
    let samples = shown(&host);
    let names: Vec<&Value> = samples.as_array().unwrap().iter().map(|sample| &sample["name"]).collect();
    assert_eq!(names, ["bare", "example"]);
    for (index, text) in [sample, example].into_iter().enumerate() {
        let number = |field: &str| samples[index][field].as_u64().unwrap() as usize;
        let found = &component[number("offset")..][..number("size_bytes")];
        assert_eq!(found, text.as_bytes());
    }
    let host = host.kill().start();
    assert_eq!(shown(&host), samples);
    host.send(&column("m", &[1.0])).expect(200);
    // What warms up is not what clients asked for.
    let metrics = host.get("/metrics").text();
    assert!(metrics.contains("nv_inference_request_success{model=\"m\",version=\"1\"} 1"), "{metrics}");
}

#[test]
fn a_sample_that_is_not_answered_refuses_the_upload() {
    let host = Setup::new().set("runtime.limits.wall_time_ms", 500).start();
    let hostile = |behaviour: &str| {
        let mut body = column_body(&[1.0]);
        body["parameters"] = json!({ "behaviour": behaviour });
        with_sample(artifacts::test_plugin("hostile"), "usual", &body.to_string())
    };
    let wrong_name = column_body(&[1.0]).to_string().replace("\"x\"", "\"z\"");
    let cases = [
        (with_sample(labelled(2.0), "usual", ""), "the body is empty"),
        (with_sample(labelled(2.0), "usual", "no JSON"), "not an inference request"),
        (with_sample(labelled(2.0), "usual", &"[".repeat(100_000)), "not an inference request"),
        (with_sample(labelled(2.0), "usual", &wrong_name), "input \"z\" is not known"),
        (hostile("invalid"), "the plugin does not like it"),
        (hostile("internal"), "the plugin gave up"),
        (hostile("trap"), "unreachable"),
        (hostile("loop"), "500"),
        (hostile("wrong-shape"), "shape"),
    ];
    for (component, words) in cases {
        let sentence = host.upload("new", &component).error(422);
        assert!(sentence.starts_with("sample \"usual\" cannot be answered: "), "{sentence}");
        assert!(sentence.contains(words), "{sentence:?} does not say {words:?}");
        host.get("/v1/models/new").error(404);
    }
    host.upload("new", &hostile("answer")).expect(201);
    let many = (0..17).fold(labelled(2.0), |all, index| with_sample(all, &index.to_string(), "{}"));
    assert_eq!(host.upload("m", &many).error(422), "the component carries more than 16 samples");
    let large = with_sample(labelled(2.0), "a", &" ".repeat((1 << 20) + 1));
    assert!(host.upload("m", &large).error(422).contains("at most 1048576 are allowed"));
    let twice = with_sample(with_sample(labelled(2.0), "a", "{}"), "a", "{}");
    assert!(host.upload("m", &twice).error(422).contains("two samples named \"a\""));
}

#[test]
fn the_example_plugins_bring_their_example() {
    let host = Host::start();
    for name in ["income", "spam", "recommender", "hotel"] {
        host.upload(name, &artifacts::plugin(name)).expect(201);
        let version = host.get(&format!("/v1/models/{name}/versions/1")).expect(200);
        assert_eq!(version["samples"][0]["name"], "example", "{version}");
    }
}

#[test]
fn push_and_pack_add_samples() {
    let host = Host::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("triple.onnx"), onnx::multiplication(3.0)).unwrap();
    fs::write(path("usual.json"), column_body(&[1.0]).to_string()).unwrap();
    fs::write(path("wrong.json"), "{}").unwrap();
    let push = |sample: &str| {
        host.client(&[
            "push",
            &path("triple.onnx"),
            "--model",
            "triple",
            "--sample",
            &path(sample),
            "--deploy",
        ])
    };
    let refused = push("wrong.json");
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && complaint.contains("sample \"wrong\""), "{complaint}");
    let pushed = push("usual.json");
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let shown = host.client(&["version", "triple", "1"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("usual"), "{shown:?}");
    fs::write(path("labelled.wasm"), labelled(2.0)).unwrap();
    let pack = |arguments: &[&str]| host.client(&[&["pack"], arguments].concat());
    let (component, sample, packed) = (path("labelled.wasm"), path("usual.json"), path("packed.wasm"));
    let output = pack(&[&component, "--sample", &sample, "--output", &packed]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    host.upload("packed", &fs::read(packed).unwrap()).expect(201);
    let nothing = pack(&[&component, "--output", &path("nothing.wasm")]);
    assert!(!nothing.status.success(), "nothing to pack is a mistake");
}

/// Half of them are followed by the first request to what was deployed, half by one to what has long been in use.
const DEPLOYMENTS: usize = 40;
/// The first request of a version may take this many times as long as one to a version that was asked hundreds of times,
/// after the same pause, at the median: medians of twenty on a machine that does other things too.
const FACTOR: u32 = 2;

#[test]
fn the_first_request_after_a_deployment_is_as_fast_as_the_hundredth() {
    let host = Host::start();
    let example: Value =
        serde_json::from_slice(&fs::read(artifacts::checkout("plugins/spam/example.json")).unwrap()).unwrap();
    let request = |model: &str| inference::to(&format!("/v2/models/{model}/infer"), &example["request"]);
    let (fresh, old) = (request("fresh"), request("old"));
    let mut connection = host.connect();
    let mut ask = |request| {
        let began = Instant::now();
        connection.send(request).unwrap().expect(200);
        began.elapsed()
    };
    host.deploy_new("old", &artifacts::plugin("spam"));
    for _ in 0..200 {
        ask(&old);
    }
    let (mut first, mut long_used, mut hundredth) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..DEPLOYMENTS {
        let distinct = with_section(artifacts::plugin("spam"), "distinct", index.to_string().as_bytes());
        host.deploy_new("fresh", &distinct);
        if index % 2 == 0 {
            first.push(ask(&fresh));
        } else {
            long_used.push(ask(&old));
        }
        let later: Vec<Duration> = (1..100).map(|_| ask(&fresh)).collect();
        hundredth.push(median(later[49..].to_vec()));
    }
    let (first, long_used, hundredth) = (median(first), median(long_used), median(hundredth));
    println!(
        "after a deployment: first request to it {first:?}, one to a version in use {long_used:?}; without a pause {hundredth:?}"
    );
    assert!(first <= long_used * FACTOR, "first {first:?}, to a version in use {long_used:?}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
