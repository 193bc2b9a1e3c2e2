//! The command line, as people and as scripts use it.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use modelhost_tests::guest::Guest;
use modelhost_tests::host::{Host, Setup};
use modelhost_tests::{artifacts, onnx};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A host, and files to push to it.
struct Desk {
    host: Host,
    folder: TempDir,
}

impl Desk {
    fn new() -> Desk {
        Desk { host: Host::start(), folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a command prints that succeeds.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.host.client(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The same as JSON.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
    }

    /// What a command complains of that ends with this code.
    #[track_caller]
    fn fail(&self, arguments: &[&str], code: i32) -> String {
        failure(&self.host.client(arguments), code)
    }

    /// A model with two versions, of which the first is deployed.
    fn with_two_versions() -> Desk {
        let desk = Desk::new();
        for number in [1, 2] {
            let file = desk.file("m.wasm", &Guest::answering(&format!("y{number}")).component());
            desk.run(&["push", &file, "--model", "m"]);
        }
        desk.run(&["deploy", "m", "1", "--comment", "the first"]);
        desk
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn failure(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout), "", "complaints go to standard error");
    text(&output.stderr)
}

#[test]
fn push_uploads_and_deploys() {
    let desk = Desk::new();
    let file = desk.file("m.wasm", &Guest::answering("y").component());
    let said = desk.run(&["push", &file, "--model", "m"]);
    assert!(
        said.contains("version 1 of m is ready") && said.contains("sha256:") && said.contains("FP32"),
        "{said}"
    );
    let said = desk.run(&["push", &file, "--model", "m", "--deploy", "--comment", "why not"]);
    assert!(said.contains("version 1 of m has these bytes already") && said.contains("revision 1"), "{said}");
    let said = desk.run(&["push", &file, "--model", "m", "--deploy"]);
    assert!(said.contains("deployed already"), "{said}");
    let uploaded = desk.json(&["push", &file, "--model", "other", "--deploy"]);
    assert_eq!((&uploaded["number"], &uploaded["deployed"]["by"]), (&json!(1), &json!("ada")));
    let listed = desk.json(&["revisions", "m"]);
    assert_eq!(listed["revisions"][0]["comment"], "why not");
}

#[test]
fn what_is_there_is_listed() {
    let desk = Desk::new();
    assert!(desk.run(&["models"]).contains("no models yet"));
    assert_eq!(desk.json(&["models"]), json!({ "models": [], "object": "list", "data": [] }));
    let desk = Desk::with_two_versions();
    desk.run(&["alias", "m", "champion", "2"]);
    let models = desk.run(&["models"]);
    let lines: Vec<Vec<&str>> = models.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((lines[0][0], lines[1][0], lines[1][1]), ("MODEL", "m", "1"));
    assert!(lines[1].contains(&"ada") && lines[1].contains(&"champion=2"), "{models}");
    assert_eq!(desk.json(&["models"])["models"][0]["name"], "m");
    assert!(desk.run(&["model", "m"]).contains("the first"));
    assert_eq!(desk.json(&["model", "m"])["aliases"], json!({ "champion": 2 }));
    let versions = desk.run(&["versions", "m"]);
    assert_eq!(versions.lines().count(), 3, "{versions}");
    assert!(versions.contains("100 %") && versions.contains("champion"), "{versions}");
    assert_eq!(desk.json(&["versions", "m"])["versions"].as_array().map(Vec::len), Some(2));
    assert!(desk.run(&["version", "m", "champion"]).contains("y2"));
    assert_eq!(desk.json(&["version", "m", "2"])["number"], 2);
    assert!(desk.run(&["status"]).contains("ready"));
    assert_eq!(desk.json(&["status"])["ready"], true);
}

#[test]
fn deployments_are_changed() {
    let desk = Desk::with_two_versions();
    assert!(
        desk.run(&["deploy", "m", "2", "--by", "grace"]).contains("version 2 of m answers, as revision 2")
    );
    assert!(desk.run(&["rollback", "m"]).contains("version 1 of m answers, as revision 3, which restores 1"));
    assert_eq!(desk.json(&["rollback", "m", "--to", "2"])["restores"], 2);
    desk.run(&["alias", "m", "champion", "1"]);
    assert_eq!(desk.json(&["deploy", "m", "champion"])["traffic"][0]["version"], 1);
    let log = desk.run(&["revisions", "m"]);
    assert_eq!(log.lines().count(), 6, "{log}");
    assert!(log.contains("grace") && log.contains("the first"), "{log}");
    assert!(desk.fail(&["deploy", "m", "2", "--if-match", "1"], 1).contains("somebody else"));
    assert!(desk.fail(&["delete", "m", "1"], 1).contains("deployed"));
    assert!(desk.run(&["delete", "m", "2"]).contains("version 2 of m is deleted"));
    desk.run(&["alias", "m", "champion", "--delete"]);
    assert_eq!(desk.json(&["model", "m"])["aliases"], json!({}));
}

#[test]
fn models_are_configured_and_counted() {
    let desk = Desk::with_two_versions();
    let row = |printed: &str, first: &str| -> Vec<String> {
        let found =
            printed.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        found.into_iter().find(|words| words.first().is_some_and(|word| word == first)).unwrap_or_default()
    };
    let shown = desk.run(&["configure", "m", "--weight", "3", "--max-batch-size", "8"]);
    assert_eq!(row(&shown, "weight"), ["weight", "3"], "{shown}");
    assert_eq!(row(&shown, "all"), ["all", "graphs", "8", "default", "default"], "{shown}");
    // What is not typed stays.
    let kept = desk.json(&["configure", "m", "--max-queued-requests", "0"]);
    let expected = json!({
        "engine": "auto", "weight": 3, "max_queued_requests": 0, "dynamic_batching": { "max_batch_size": 8 }
    });
    assert_eq!(kept, expected);
    assert_eq!(desk.json(&["configure", "m"]), expected, "without a change it is shown");
    assert!(desk.run(&["model", "m"]).contains("weight=3 queued=0 batch=8"));
    desk.run(&["configure", "m", "--weight", "default"]);
    assert_eq!(desk.json(&["configure", "m"]).get("weight"), None);
    assert!(desk.fail(&["configure", "m", "--weight", "20000"], 1).contains("1 to 10000"));
    assert!(desk.fail(&["configure", "m", "--graph", "net", "--max-batch-size", "2"], 1).contains("net"));
    assert!(desk.fail(&["configure", "m", "--weight", "2", "--if-match", "1"], 1).contains("somebody else"));
    desk.fail(&["configure", "m", "--weight", "0"], 2);
    desk.run(&["predict", "m", "--input", "x=[1]"]);
    let shown = desk.run(&["stats"]);
    assert_eq!(
        row(&shown, "m").get(..4),
        Some(["m", "1", "1", "0"].map(str::to_owned).as_slice()),
        "{shown}"
    );
    let counted = desk.json(&["stats", "m"]);
    assert_eq!(counted["model_stats"][0]["inference_stats"]["success"]["count"], 1);
    assert!(desk.fail(&["stats", "unknown"], 1).contains("unknown"));
}

#[test]
fn models_are_asked() {
    let desk = Desk::with_two_versions();
    let said = desk.run(&["predict", "m", "--input", "x=[1, 2.5]"]);
    assert!(said.contains("Y1") && said.contains("2.5") && said.contains("answered by version 1"), "{said}");
    let answer = desk.json(&["predict", "m", "--version", "2", "--input", "x=[1]"]);
    assert_eq!((&answer["model_version"], &answer["outputs"][0]["name"]), (&json!("2"), &json!("y2")));
    let values = desk.file("values.json", b"[7, 8, 9]");
    let answer = desk.json(&["predict", "m", "--input", &format!("x=@{values}")]);
    assert_eq!(answer["outputs"][0]["data"], json!([7.0, 8.0, 9.0]));
    let body = modelhost_tests::inference::column_body(&[4.0]).to_string();
    let request = desk.file("request.json", body.as_bytes());
    let answer = desk.json(&["predict", "m", "--input", &format!("@{request}")]);
    assert_eq!(answer["outputs"][0]["data"], json!([4.0]));
    assert!(desk.fail(&["predict", "m", "--input", "z=[1]"], 2).contains("\"z\""));
    assert!(desk.fail(&["predict", "m", "--input", "x=[[1]]"], 2).contains("do not fit"));
}

#[test]
fn parameters_reach_the_plugin() {
    let desk = Desk::new();
    desk.host.deploy_new("hostile", &artifacts::test_plugin("hostile"));
    let ask = |behaviour: &str| {
        let parameter = format!("behaviour={behaviour}");
        desk.host.client(&["predict", "hostile", "--input", "x=[1]", "--parameter", &parameter])
    };
    assert!(ask("answer").status.success());
    assert!(failure(&ask("internal"), 1).contains("the plugin gave up"));
    assert!(failure(&ask("7"), 1).contains("behaviour"), "a number is no text");
}

#[test]
fn networks_are_packed_into_components() {
    let desk = Desk::new();
    let network = desk.file("five.onnx", &onnx::multiplication(5.0));
    let plugin = desk.file("labelled.wasm", &artifacts::test_plugin("labelled"));
    let packed = desk.path("packed.wasm").to_str().unwrap().to_owned();
    let graph = format!("five={network}");
    assert!(desk.run(&["pack", &plugin, "--graph", &graph, "-o", &packed]).contains("1 graph"));
    desk.run(&["push", &packed, "--model", "m", "--deploy"]);
    let answer = desk.json(&["predict", "m", "--input", "x=[2]"]);
    assert_eq!(
        (&answer["outputs"][0]["data"], &answer["outputs"][1]["data"]),
        (&json!(["five"]), &json!([10.0]))
    );
}

#[test]
fn scripts_can_tell_failures_apart() {
    let desk = Desk::new();
    // The host said no.
    assert!(desk.fail(&["model", "unknown"], 1).contains("unknown"));
    let refused: Value = serde_json::from_str(&desk.fail(&["model", "unknown", "--json"], 1)).unwrap();
    assert!(refused["status"] == 404 && refused["error"].is_string(), "{refused}");
    let broken = desk.file("broken.wasm", b"\0asm\x01\0\0\0");
    assert!(desk.fail(&["push", &broken, "--model", "m"], 1).contains("core WebAssembly module"));
    // This machine said no.
    assert!(desk.fail(&["push", "/no/such/file.wasm", "--model", "m"], 1).contains("/no/such/file.wasm"));
    // Nobody can mean that.
    desk.fail(&["push"], 2);
    desk.fail(&["deploy", "m"], 2);
    desk.fail(&["model", "a/b"], 2);
    // Nobody is there.
    let url = format!("http://{}", desk.host.address());
    let setup = desk.host.stop();
    let nobody = setup.command("models").args(["--url", &url]).output().unwrap();
    assert!(failure(&nobody, 3).contains("no answer"));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let refused = |setup: Setup| {
        let output = setup.command("serve").arg("--data-dir").arg(setup.data_dir()).output().unwrap();
        failure(&output, 1)
    };
    assert!(refused(Setup::new().set("server.max_body_bytes", 0)).contains("max_body_bytes is 0"));
    let mistyped = refused(Setup::new().set("runtime.limits.handles", "many"));
    assert!(mistyped.contains("MODELHOST_RUNTIME_LIMITS_HANDLES"), "{mistyped}");
    let taken = Host::start();
    let setup = Setup::new();
    let address = taken.address().to_string();
    let output =
        setup.command("serve").args(["--listen", &address, "--data-dir"]).arg(setup.data_dir()).output();
    assert!(failure(&output.unwrap(), 1).contains(&address));
}

#[test]
fn a_configuration_file_is_read() {
    let setup = Setup::new();
    let file = setup.data_dir().with_extension("toml");
    fs::write(&file, "[serving]\nmax_upload_bytes = 1234\n").unwrap();
    let print = |setup: &Setup| {
        let output =
            setup.command("serve").arg("--print-config").arg("--config").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(print(&setup).contains("max_upload_bytes = 1234"));
    assert!(print(&setup.clone().set("serving.max_upload_bytes", 99)).contains("max_upload_bytes = 99"));
    fs::write(&file, "[serving]\nmax_uplaod_bytes = 1\n").unwrap();
    let output = setup.command("serve").arg("--config").arg(&file).output().unwrap();
    assert!(failure(&output, 1).contains("max_uplaod_bytes"));
    fs::remove_file(&file).unwrap();
}
