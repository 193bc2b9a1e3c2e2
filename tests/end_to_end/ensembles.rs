//! Ensembles: a version that is a pipeline of other versions answers, is deployed, kept and counted like any other.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, Setup};
use modelhost_tests::http::{Request, Response};
use modelhost_tests::inference::{behaviour, column, column_body, output, to, version};
use modelhost_tests::{artifacts, onnx};
use serde_json::{Value, json};

const MEDIA_TYPE: &str = "application/vnd.modelhost.ensemble+json";

fn declare(host: &Host, model: &str, query: &str, declaration: &Value) -> Response {
    let target = format!("/v1/models/{model}/versions{query}");
    host.send(&Request::post(target, declaration.to_string()).header("Content-Type", MEDIA_TYPE))
}

fn step(model: &str, inputs: Value, outputs: Value) -> Value {
    json!({ "model": model, "inputs": inputs, "outputs": outputs })
}

fn ensemble(inputs: &[&str], outputs: &[&str], steps: &[Value]) -> Value {
    json!({ "ensemble": { "inputs": inputs, "outputs": outputs, "steps": steps } })
}

fn multiplying(factor: f32) -> Vec<u8> {
    with_graph(artifacts::test_plugin("labelled"), &format!("times-{factor}"), &onnx::multiplication(factor))
}

/// `y` is 2 · 3 · 2 times `x`, by way of two branches.
fn diamond(last: &str) -> Value {
    ensemble(
        &["x"],
        &["y"],
        &[
            step(last, json!({ "x": "tripled", "text": "label" }), json!({ "y": "y" })),
            step("double", json!({ "x": "x" }), json!({ "y": "doubled" })),
            step("triple@1", json!({ "x": "doubled" }), json!({ "y": "tripled" })),
            step("double@first", json!({ "x": "doubled" }), json!({ "label": "label" })),
        ],
    )
}

fn with_models(setup: &Setup) -> Host {
    let host = setup.start();
    host.deploy_new("double", &multiplying(2.0));
    host.send(&Request::put("/v1/models/double/aliases/first", &json!({ "version": 1 })));
    host.upload("triple", &multiplying(3.0)).expect(201);
    host.deploy_new("selective", &artifacts::test_plugin("selective"));
    host
}

fn asked(host: &Host, model: &str, values: &[f32]) -> Value {
    host.send(&column(model, values)).expect(200)
}

#[test]
fn a_diamond_answers_what_its_steps_answer_one_by_one() {
    let host = with_models(&Setup::new());
    let declared = declare(&host, "all", "?deploy=true", &diamond("selective")).expect(201);
    assert_eq!(declared["signature"]["inputs"], json!([{ "name": "x", "datatype": "FP32", "shape": [-1] }]));
    assert_eq!(declared["ensemble"]["steps"][1]["version"], 1, "names stand for numbers: {declared}");
    let values = [1.0, -2.5, 1e6];
    let doubled = asked(&host, "double", &values);
    let floats = |answer: &Value| -> Vec<f32> {
        output(answer, "y").as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
    };
    let triple =
        host.send(&to("/v2/models/triple/versions/1/infer", &column_body(&floats(&doubled)))).expect(200);
    let mut body = column_body(&floats(&triple));
    let label =
        json!({ "name": "text", "datatype": "BYTES", "shape": [3], "data": output(&doubled, "label") });
    body["inputs"].as_array_mut().unwrap().push(label);
    let by_hand = host.send(&to("/v2/models/selective/infer", &body)).expect(200);
    let whole = asked(&host, "all", &values);
    assert_eq!(output(&whole, "y"), output(&by_hand, "y"));
    assert_eq!((version(&whole), &whole["model_name"]), (1, &json!("all")));

    assert_eq!(host.get("/v2/models/all").expect(200)["platform"], "ensemble");
    assert_eq!(host.get("/v2/models/double").expect(200)["platform"], "modelhost_component");
    host.get("/v2/models/all/ready").expect(200);
    let statistics = host.get("/v2/models/all/versions/1/stats").expect(200)["model_stats"][0].clone();
    assert_eq!((&statistics["inference_count"], &statistics["execution_count"]), (&json!(3), &json!(1)));
    assert!(statistics["inference_stats"]["compute_infer"]["ns"].as_u64().unwrap() > 0, "{statistics}");

    // The same steps are the same version, however they are written; another version of a step makes another one.
    assert_eq!(declare(&host, "all", "", &diamond("selective@1")).expect(200)["number"], 1);
    host.deploy_new("double", &multiplying(5.0));
    assert_eq!(output(&asked(&host, "all", &values), "y"), output(&by_hand, "y"), "a version never changes");
    assert_eq!(declare(&host, "all", "", &diamond("selective")).expect(201)["number"], 2);

    // An ensemble within an ensemble.
    let outer = ensemble(
        &["x"],
        &["z"],
        &[
            step("all@1", json!({ "x": "x" }), json!({ "y": "twelve" })),
            step("triple@1", json!({ "x": "twelve" }), json!({ "y": "z" })),
        ],
    );
    declare(&host, "outer", "?deploy=true", &outer).expect(201);
    assert_eq!(*output(&asked(&host, "outer", &[1.0]), "z"), json!([36.0]));
}

#[test]
fn what_does_not_fit_together_is_said() {
    let host = with_models(&Setup::new());
    host.upload("unused", &multiplying(4.0)).expect(201);
    let x = || json!({ "x": "x" });
    let one = |model: &str| ensemble(&["x"], &["y"], &[step(model, x(), json!({ "y": "y" }))]);
    let refused = |declaration: &Value| declare(&host, "bad", "", declaration).error(422);
    let good = step("double", x(), json!({ "y": "y" }));
    for (declaration, expected) in [
        (one("other"), "step 1: model other is not known"),
        (one("double@7"), "step 1: model double has no version 7"),
        (one("double@last"), "step 1: model double has no alias last"),
        (one("double@0"), "step 1: \"0\" is no number of a version"),
        (one("unused"), "step 1: model unused has no deployed version"),
        (one("a/b"), "step 1: model name \"a/b\" is not allowed"),
        (
            ensemble(&["x"], &["y"], &[step("double", json!({ "w": "x" }), json!({ "y": "y" }))]),
            "has no input \"w\": expected x",
        ),
        (
            ensemble(&["x"], &["y"], &[step("double", x(), json!({ "w": "y" }))]),
            "has no output \"w\": expected label, y, label_again",
        ),
        (ensemble(&["x"], &["y"], &[good.clone(), good.clone()]), "\"y\" is produced twice"),
        (
            ensemble(&[], &["y"], std::slice::from_ref(&good)),
            "\"x\", which is input \"x\" of step 1 (double version 1), is never produced",
        ),
        (
            ensemble(&["x"], &["y", "z"], std::slice::from_ref(&good)),
            "output \"z\" of the ensemble is never produced",
        ),
        (
            ensemble(&["x", "w"], &["y"], std::slice::from_ref(&good)),
            "input \"w\" of the ensemble is used by no step",
        ),
        (
            ensemble(&["x"], &["y"], &[step("double", x(), json!({ "y": "y", "label": "rest" }))]),
            "\"rest\", which is output",
        ),
        (
            ensemble(&[], &["y"], &[step("double", json!({ "x": "y" }), json!({ "y": "y" }))]),
            "must not form a cycle",
        ),
        (
            ensemble(
                &["x"],
                &["y"],
                &[
                    step("double", x(), json!({ "label": "t" })),
                    step("double", json!({ "x": "t" }), json!({ "y": "y" })),
                ],
            ),
            "\"t\" is BYTES as output \"label\" of step 1 (double version 1), but FP32 as input \"x\" of step 2",
        ),
        (ensemble(&["x"], &["y"], &vec![good.clone(); 65]), "has 65 steps: at most 64"),
        (ensemble(&["x"], &[], std::slice::from_ref(&good)), "has no outputs"),
        (ensemble(&["x"], &["y"], &[]), "has no steps"),
    ] {
        let sentence = refused(&declaration);
        assert!(sentence.contains(expected), "{sentence:?} does not say {expected:?}");
    }
    let malformed = [json!({}), json!({ "ensemble": {} }), json!({ "ensemble": 7 }), json!({ "steps": [] })];
    for declaration in malformed {
        assert!(declare(&host, "bad", "", &declaration).error(400).contains("an ensemble"));
    }
    host.get("/v1/models/bad").error(404);
}

#[test]
fn steps_cannot_be_deleted_and_everything_survives_a_kill_and_a_rebuild() {
    let setup = Setup::new();
    let host = with_models(&setup);
    declare(&host, "all", "?deploy=true", &diamond("selective")).expect(201);
    // A later version is deployed, so that only the ensemble is in the way.
    host.deploy_new("selective", &multiplying(9.0));
    let refusal = |host: &Host| host.send(&Request::delete("/v1/models/selective/versions/1")).error(409);
    assert!(refusal(&host).contains("version 1 of model \"all\""), "{}", refusal(&host));
    let expected = asked(&host, "all", &[1.0, 2.0]);
    let record = host.get("/v1/models/all/versions/1").expect(200);
    let setup = host.kill();
    let host = setup.start();
    assert_eq!(asked(&host, "all", &[1.0, 2.0]), expected);
    refusal(&host);
    let setup = host.stop();
    assert!(setup.check(&[]).status.success());
    // Without its journal, the registry has what the manifests have.
    std::fs::write(setup.data_dir().join("journal.jsonl"), "").unwrap();
    let rebuilt = setup.check(&["--rebuild"]);
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    let host = setup.start();
    assert_eq!(host.get("/v1/models/all/versions/1").expect(200), record);
    host.deploy("all", 1);
    assert_eq!(asked(&host, "all", &[1.0, 2.0]), expected);
    refusal(&host);
    host.deploy_new("all", &multiplying(1.0));
    host.send(&Request::delete("/v1/models/all/versions/1"));
    host.get("/v1/models/all/versions/1").error(404);
    host.send(&Request::delete("/v1/models/selective/versions/1"));
    host.get("/v1/models/selective/versions/1").error(404);
}

/// A hostile step after a good one, and a hostile one by itself.
fn with_hostile(setup: &Setup) -> Host {
    let host = with_models(setup);
    host.deploy_new("hostile", &artifacts::test_plugin("hostile"));
    let after = ensemble(
        &["x"],
        &["y"],
        &[
            step("double", json!({ "x": "x" }), json!({ "y": "t" })),
            step("hostile", json!({ "x": "t" }), json!({ "y": "y" })),
        ],
    );
    declare(&host, "after", "?deploy=true", &after).expect(201);
    let both = ensemble(
        &["x"],
        &["a", "b"],
        &[
            step("hostile", json!({ "x": "x" }), json!({ "y": "a" })),
            step("hostile", json!({ "x": "x" }), json!({ "y": "b" })),
        ],
    );
    declare(&host, "both", "?deploy=true", &both).expect(201);
    host
}

#[test]
fn a_failure_names_its_step_and_whose_fault_it_is() {
    let host = with_hostile(&Setup::new());
    let ask = |model: &str, name: &str, status: u16| {
        let sentence = host.send(&behaviour(model, name, 0)).error(status);
        let step = if model == "after" { "step 2 (hostile version 1)" } else { "(hostile version 1)" };
        assert!(sentence.starts_with(&format!("model {model}: ")) && sentence.contains(step), "{sentence}");
    };
    ask("after", "trap", 502);
    ask("after", "internal", 502);
    ask("after", "unavailable", 503);
    // What it does not like came from another step, and then from the client.
    ask("after", "invalid", 502);
    ask("both", "invalid", 400);
    // Of what does not fit the ensemble's own signature no step is told.
    let wrong = json!({ "inputs": [{ "name": "x", "datatype": "INT64", "shape": [1], "data": [1] }] });
    let sentence = host.send(&to("/v2/models/both/infer", &wrong)).error(400);
    assert!(sentence.starts_with("model both: input \"x\" has datatype INT64"), "{sentence}");
    host.send(&behaviour("after", "answer", 0)).expect(200);
}

#[test]
fn branches_run_at_once_within_one_deadline() {
    let host = with_hostile(&Setup::new());
    host.send(&behaviour("both", "answer", 0)).expect(200);
    let began = Instant::now();
    host.send(&behaviour("both", "sleep", 1_000)).expect(200);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1_900), "{took:?}");
    let mut body = column_body(&[1.0]);
    body["parameters"] = json!({ "behaviour": "sleep", "amount": 20_000, "timeout": 300_000 });
    let began = Instant::now();
    let sentence = host.send(&to("/v2/models/after/infer", &body)).error(504);
    assert!(sentence.contains("step 2") && began.elapsed() < Duration::from_secs(5), "{sentence}");
}

#[test]
fn an_ensemble_never_waits_for_itself() {
    let setup = Setup::new()
        .set("runtime.max_concurrent_calls", 1)
        .set("serving.max_concurrent_requests_per_model", 1);
    let host = with_hostile(&setup);
    // A version of a model that is a step of another version of the same model.
    let nested = ensemble(
        &["x"],
        &["y"],
        &[
            step("after@1", json!({ "x": "x" }), json!({ "y": "t" })),
            step("double", json!({ "x": "t" }), json!({ "y": "y" })),
        ],
    );
    declare(&host, "after", "?deploy=true", &nested).expect(201);
    thread::scope(|scope| {
        for client in 0..8 {
            let host = &host;
            scope.spawn(move || {
                for _ in 0..10 {
                    let model = if client % 2 == 0 { "after" } else { "both" };
                    host.send(&behaviour(model, "sleep", 1)).expect(200);
                }
            });
        }
    });
}

#[test]
fn deployments_and_rollbacks_drop_no_request() {
    let host = with_models(&Setup::new());
    let single =
        |model: &str| ensemble(&["x"], &["y"], &[step(model, json!({ "x": "x" }), json!({ "y": "y" }))]);
    declare(&host, "e", "?deploy=true", &single("double@1")).expect(201);
    declare(&host, "e", "", &single("triple@1")).expect(201);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut connection = host.connect();
                while !is_over.load(SeqCst) {
                    let answer = connection.send(&column("e", &[1.0, 2.0])).unwrap().expect(200);
                    let factor = [2.0, 3.0][version(&answer) as usize - 1];
                    assert_eq!(*output(&answer, "y"), json!([factor, 2.0 * factor]));
                }
            });
        }
        for _ in 0..30 {
            assert_eq!(host.deploy("e", 2)["number"].as_u64().map(|number| number > 1), Some(true));
            assert_eq!(version(&asked(&host, "e", &[1.0])), 2);
            host.send(&Request::post("/v1/models/e/rollback", "{}")).expect(200);
            assert_eq!(version(&asked(&host, "e", &[1.0])), 1);
        }
        is_over.store(true, SeqCst);
    });
}

#[test]
fn the_command_line_pushes_and_shows_ensembles() {
    let host = with_models(&Setup::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipeline.toml");
    let text = "[ensemble]\ninputs = ['x']\noutputs = ['y']\n[[ensemble.steps]]\nmodel = 'double'\ninputs = { x = 'x' }\noutputs = { y = 'y' }\n";
    std::fs::write(&path, text).unwrap();
    let pushed = host.client(&["push", path.to_str().unwrap(), "--model", "e", "--deploy"]);
    let said = String::from_utf8(pushed.stdout.clone()).unwrap();
    assert!(
        pushed.status.success() && said.contains("double@1") && said.contains("deployed as"),
        "{pushed:?}"
    );
    let listed = String::from_utf8(host.client(&["versions", "e"]).stdout).unwrap();
    assert!(listed.contains("ensemble of 1 steps"), "{listed}");
    let shown = String::from_utf8(host.client(&["version", "e", "1"]).stdout).unwrap();
    assert!(shown.contains("double@1") && shown.contains("x <- x"), "{shown}");
    assert_eq!(*output(&asked(&host, "e", &[1.0]), "y"), json!([2.0]));
}
