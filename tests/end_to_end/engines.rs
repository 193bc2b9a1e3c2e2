//! Which engine runs a graph is chosen at upload, recorded, and shown.

use modelhost_tests::component::with_graph;
use modelhost_tests::host::Setup;
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
