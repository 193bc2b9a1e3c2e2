//! Which engine runs a graph is chosen at upload, recorded, and shown.

use modelhost_tests::component::with_graph;
use modelhost_tests::host::Setup;
use modelhost_tests::http::Request;
use modelhost_tests::inference::{column, output};
use modelhost_tests::{artifacts, onnx};
use serde_json::json;

#[test]
fn without_onnx_runtime_the_built_in_engine_runs_everything() {
    let host = Setup::new().set("inference.onnxruntime", "off").start();
    for name in ["income", "spam", "recommender"] {
        host.deploy_new(name, &artifacts::plugin(name));
    }
    host.deploy_new("m", &with_graph(artifacts::test_plugin("labelled"), "net", &onnx::multiplication(2.0)));
    for name in ["income", "spam", "recommender", "m"] {
        let version = host.get(&format!("/v1/models/{name}/versions/1")).expect(200);
        let choice = &version["graphs"][0]["engine_choice"];
        assert_eq!(choice["engine"], "tract", "{version}");
        assert_eq!(choice["reason"], "it is the only engine of this host");
        assert_eq!(choice["candidates"][0]["engine"], "tract");
        assert!(choice["candidates"][0]["version"].is_string(), "{choice}");
    }
    let shown = host.client(&["version", "m", "1"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("tract: it is the only engine"), "{shown:?}");
    let answer = host.kill().start().send(&column("m", &[2.0])).expect(200);
    assert_eq!(*output(&answer, "y"), json!([4.0]));
}

/// Where ONNX Runtime is there too, both engines are tried on what the sample computes, and the faster one is used.
#[test]
fn with_onnx_runtime_both_engines_compete() {
    let Some(library) = artifacts::onnxruntime() else { return };
    let host = Setup::new().set("inference.onnxruntime", library).start();
    for name in ["income", "spam", "recommender"] {
        host.deploy_new(name, &artifacts::plugin(name));
        let version = host.get(&format!("/v1/models/{name}/versions/1")).expect(200);
        let choice = &version["graphs"][0]["engine_choice"];
        let candidates = choice["candidates"].as_array().unwrap();
        let names: Vec<_> = candidates.iter().map(|candidate| &candidate["engine"]).collect();
        assert_eq!(names, ["tract", "onnxruntime"], "{choice}");
        let times = candidates.iter().map(|candidate| candidate["median_microseconds"].as_f64());
        let times: Vec<f64> = times.collect::<Option<_>>().unwrap_or_else(|| panic!("{choice}"));
        assert!(choice["max_difference"].as_f64().is_some_and(|apart| apart <= 1.0), "{choice}");
        let other_is_faster = times[1] < 0.9 * times[0];
        assert_eq!(choice["engine"], if other_is_faster { "onnxruntime" } else { "tract" }, "{choice}");
        println!("{name}: {choice}");
    }
    // Without it everything is answered too, and it is said why.
    let setup = host.kill();
    let host = setup.set("inference.onnxruntime", "off").start();
    for name in ["income", "spam", "recommender"] {
        let example = artifacts::checkout(&format!("plugins/{name}/example.json"));
        let example: serde_json::Value = serde_json::from_slice(&std::fs::read(example).unwrap()).unwrap();
        let answer = host
            .send(&modelhost_tests::inference::to(&format!("/v2/models/{name}/infer"), &example["request"]));
        modelhost_tests::inference::assert_as_expected(&example["response"], &answer.expect(200));
    }
}

/// What an operator chooses counts, whatever was found to be faster.
#[test]
fn an_explicit_choice_is_honoured() {
    let Some(library) = artifacts::onnxruntime() else { return };
    let host = Setup::new().set("inference.onnxruntime", library).start();
    host.deploy_new("m", &with_graph(artifacts::test_plugin("labelled"), "net", &onnx::multiplication(2.0)));
    let configure = |engine: &str| {
        host.send(&Request::put("/v1/models/m/configuration", &json!({ "engine": engine }))).expect(200);
        let answer = host.send(&column("m", &[2.0])).expect(200);
        assert_eq!(*output(&answer, "y"), json!([4.0]), "{engine}");
    };
    for engine in ["onnxruntime", "tract", "onnxruntime", "auto", "onnxruntime"] {
        configure(engine);
    }
    // Where the chosen engine is gone, another one answers, and the log says so.
    let setup = host.kill();
    let host = setup.set("inference.onnxruntime", "off").start();
    assert_eq!(*output(&host.send(&column("m", &[2.0])).expect(200), "y"), json!([4.0]));
    let log = host.log();
    assert!(log.contains("a graph runs on another engine") && log.contains("onnxruntime"), "{log}");
}

/// An engine that came after a version was uploaded is first tried with its networks where a hostile one does no harm.
#[test]
fn an_engine_that_came_later_is_tried_under_limits_first() {
    let Some(library) = artifacts::onnxruntime() else { return };
    let host = Setup::new().set("inference.onnxruntime", "off").start();
    host.deploy_new("m", &with_graph(artifacts::test_plugin("labelled"), "net", &onnx::multiplication(2.0)));
    let host = host.stop().set("inference.onnxruntime", library).start();
    assert_eq!(*output(&host.send(&column("m", &[2.0])).expect(200), "y"), json!([4.0]));
    assert!(!host.log().contains("examining again"), "nobody wants it yet");
    host.send(&Request::put("/v1/models/m/configuration", &json!({ "engine": "onnxruntime" }))).expect(200);
    assert_eq!(*output(&host.send(&column("m", &[3.0])).expect(200), "y"), json!([6.0]));
    assert!(host.log().contains("examining again"), "{}", host.log());
    // What was found holds: it is not tried again for each version that carries the network.
    host.deploy_new(
        "twin",
        &with_graph(artifacts::test_plugin("labelled"), "net", &onnx::multiplication(2.0)),
    );
    host.send(&Request::put("/v1/models/twin/configuration", &json!({ "engine": "onnxruntime" })))
        .expect(200);
    assert_eq!(host.log().matches("examining again").count(), 1);
}
