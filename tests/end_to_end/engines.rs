//! Which engines a host has, and what it says where one is missing.

use modelhost_tests::artifacts;
use modelhost_tests::component::with_graph;
use modelhost_tests::host::Setup;
use modelhost_tests::{inference, onnx};
use serde_json::Value;

/// A host with ONNX Runtime, or the test is left out.
macro_rules! setup_or_return {
    () => {
        match artifacts::onnxruntime() {
            Some(library) => Setup::new().set("inference.onnxruntime", library),
            None => return,
        }
    };
}

fn engine(listing: &Value, index: usize) -> &Value {
    &listing["engines"][index]
}

#[test]
fn the_built_in_engine_is_always_there() {
    let host = Setup::new().set("inference.onnxruntime", "off").start();
    let listing = host.get("/v1/engines").expect(200);
    assert_eq!(engine(&listing, 0)["name"], "tract");
    assert_eq!(engine(&listing, 0)["available"], true);
    assert!(engine(&listing, 0)["version"].as_str().is_some_and(|version| version.starts_with("0.")));
    assert_eq!(engine(&listing, 1)["name"], "onnxruntime");
    assert_eq!(engine(&listing, 1)["available"], false);
    assert!(engine(&listing, 1)["reason"].as_str().is_some_and(|reason| reason.contains("switched off")));
    let shown = String::from_utf8(host.client(&["engines"]).stdout).unwrap();
    assert!(shown.contains("tract") && shown.contains("built in"), "{shown}");
    assert!(shown.contains("onnxruntime") && shown.contains("switched off"), "{shown}");
}

#[test]
fn onnx_runtime_is_shown_with_its_version_and_file() {
    let host = setup_or_return!().start();
    let listing = host.get("/v1/engines").expect(200);
    let found = engine(&listing, 1);
    assert_eq!((&found["name"], &found["available"]), (&"onnxruntime".into(), &true.into()), "{found}");
    assert!(found["version"].as_str().is_some_and(|version| version.starts_with("1.")), "{found}");
    assert!(found["library"].as_str().is_some_and(|library| library.contains("onnxruntime")), "{found}");
    assert_eq!(found.get("reason"), None);
    let shown = String::from_utf8(host.client(&["engines"]).stdout).unwrap();
    assert!(shown.contains(found["version"].as_str().unwrap()), "{shown}");
    let json: Value = serde_json::from_slice(&host.client(&["engines", "--json"]).stdout).unwrap();
    assert_eq!(json, listing);
}

#[test]
fn a_graph_that_no_engine_takes_is_refused_with_the_reason_of_each() {
    let host = setup_or_return!().start();
    let component = with_graph(artifacts::plugin("onnx"), "model", &onnx::operator("", "NoSuchOperator"));
    let refusal = host.upload("m", &component).error(422);
    for part in ["\"model\"", "tract: ", "onnxruntime: ", "NoSuchOperator"] {
        assert!(refusal.contains(part), "{refusal}");
    }
    // Neither the machine's folders nor the library's sources are anybody's business.
    assert!(!refusal.contains("/onnxruntime"), "{refusal}");
}

#[test]
fn a_graph_that_only_one_engine_takes_runs_on_that_one() {
    let host = setup_or_return!().start();
    let component = with_graph(artifacts::plugin("onnx"), "model", &onnx::operator("", "Softplus"));
    let version = host.deploy_new("softplus", &component);
    let answer = host.send(&inference::column("softplus", &[0.0, 3.0])).expect(200);
    let values = inference::output(&answer, "y").as_array().unwrap();
    assert_eq!(values.len(), 2);
    for (value, expected) in values.iter().zip([2.0_f64.ln(), (1.0 + 3.0_f64.exp()).ln()]) {
        assert!((value.as_f64().unwrap() - expected).abs() < 1e-5, "{answer}");
    }
    assert_eq!(version, 1);
    // The same file on a host without that engine is refused, by the name of the operator.
    let alone = Setup::new().start();
    let refusal = alone.upload("softplus", &component).error(422);
    assert!(refusal.contains("Softplus"), "{refusal}");
}

#[test]
fn a_host_does_not_start_with_a_library_that_it_cannot_use() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libonnxruntime.so");
    for (what, expected) in [(None, "No such file"), (Some("no library"), "cannot be opened")] {
        if let Some(text) = what {
            std::fs::write(&file, text).unwrap();
        }
        let setup = Setup::new().set("inference.onnxruntime", file.display());
        let output = setup
            .command("serve")
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(setup.data_dir())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        for part in ["inference.onnxruntime", "libonnxruntime.so", expected] {
            assert!(complaint.contains(part), "{complaint}");
        }
    }
}
