//! Datasets: put, looked at, deleted; refused with file and row; never half there.

mod crash;
mod disk;
mod hostile;
mod objects;
mod rebuilt;
mod refused;

use modelhost_tests::folder;
use modelhost_tests::form::Form;
use modelhost_tests::host::Host;
use modelhost_tests::http::{Request, Response};
use serde_json::{Value, json};

const CSV: &[u8] = include_bytes!("../../data/income.csv");
const PARQUET: &[u8] = include_bytes!("../../data/income.parquet");
const CARD: &str = r#"{"license":"CC-BY-4.0","commercial_use":true,"source":"doi:10.24432/C5XW20",
    "consent":"public census","sensitive_columns":["race","sex"],"retention_until":"2090-12-31","description":"1994"}"#;

/// Puts these files there.
#[track_caller]
fn put(host: &Host, dataset: &str, files: &[(&str, &[u8])]) -> Response {
    let form = files.iter().fold(Form::new(), |form, (name, bytes)| form.file(name, bytes));
    host.send(&form.text("card", CARD).put(&format!("/v1/datasets/{dataset}/versions")))
}

/// The same without a card, whose sensitive columns have to be there.
#[track_caller]
fn put_plain(host: &Host, dataset: &str, files: &[(&str, &[u8])]) -> Response {
    let form = files.iter().fold(Form::new(), |form, (name, bytes)| form.file(name, bytes));
    host.send(&form.put(&format!("/v1/datasets/{dataset}/versions")))
}

/// What lies in the folder of datasets.
fn stored(host: &Host) -> Vec<String> {
    folder::names(&host.data_dir().join("datasets"))
}

fn column<'a>(profile: &'a Value, name: &str) -> &'a Value {
    let columns = profile["columns"].as_array().unwrap();
    columns.iter().find(|column| column["name"] == name).unwrap()
}

#[test]
fn a_dataset_is_put_shown_and_deleted() {
    let host = Host::start();
    let made = put(&host, "income", &[("income.csv", CSV)]);
    assert_eq!(made.header("location"), Some("/v1/datasets/income/versions/1"));
    let version = made.expect(201);
    assert_eq!(
        (&version["number"], &version["rows"], &version["format"]),
        (&json!(1), &json!(500), &json!("csv"))
    );
    assert_eq!(version["bytes"], CSV.len());
    assert_eq!(version["card"], serde_json::from_str::<Value>(CARD).unwrap());
    let types: Vec<&str> =
        version["schema"].as_array().unwrap().iter().map(|column| column["type"].as_str().unwrap()).collect();
    assert_eq!(types[..4], ["Int64", "Utf8", "Int64", "Utf8"]);
    // The same bytes under the same card are the same version, under another card another one of the same file.
    assert_eq!(put(&host, "income", &[("income.csv", CSV)]).expect(200), version);
    assert_eq!(put_plain(&host, "income", &[("income.csv", CSV)]).expect(201)["number"], 2);
    assert_eq!(stored(&host).len(), 1);
    // The same rows in Parquet, in two files.
    let parquet = put(&host, "income", &[("1.parquet", PARQUET), ("2.parquet", PARQUET)]).expect(201);
    assert_eq!((&parquet["number"], &parquet["rows"]), (&json!(3), &json!(1000)));
    assert_eq!(host.get("/v1/datasets/income/versions/latest").expect(200), parquet);
    assert_eq!(host.get("/v1/datasets/income/versions/1").expect(200), version);
    let listed = host.get("/v1/datasets").expect(200);
    assert_eq!(listed["datasets"], json!([{"name": "income", "versions": [1, 2, 3], "latest": parquet}]));
    assert_eq!(host.get("/v1/datasets/income").expect(200), listed["datasets"][0]);
    assert_eq!(host.get("/v1/datasets/income/versions").expect(200)["versions"][0], version);
    assert_eq!(stored(&host).len(), 2);
    let delete = |number| host.send(&Request::delete(format!("/v1/datasets/income/versions/{number}")));
    assert_eq!(delete(3).status, 204);
    assert_eq!(delete(3).error(404), "version 3 of dataset \"income\" does not exist");
    assert_eq!(stored(&host).len(), 1);
    assert_eq!(delete(1).status, 204);
    // Version 2 has the same file.
    assert_eq!(stored(&host).len(), 1);
    host.get("/v1/datasets/income/versions/2/preview").expect(200);
    assert_eq!(delete(2).status, 204);
    assert_eq!(stored(&host), Vec::<String>::new());
    assert_eq!(host.get("/v1/datasets/income").error(404), "dataset \"income\" does not exist");
    // Numbers are not used again.
    assert_eq!(put(&host, "income", &[("income.csv", CSV)]).expect(201)["number"], 4);
}

#[test]
fn first_rows_are_those_of_the_files_in_their_order() {
    let host = Host::start();
    put(&host, "csv", &[("income.csv", CSV)]).expect(201);
    put(&host, "parquet", &[("2.parquet", PARQUET), ("1.parquet", PARQUET)]).expect(201);
    let lines: Vec<String> =
        host.get("/v1/datasets/csv/versions/latest/preview?rows=1000").expect(200)["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect();
    assert_eq!(lines.len(), 500);
    put(&host, "jsonl", &[("income.jsonl", lines.join("\n").as_bytes())]).expect(201);
    let preview = |dataset: &str, query: &str| {
        host.get(&format!("/v1/datasets/{dataset}/versions/1/preview{query}")).expect(200)["rows"].clone()
    };
    let first = preview("csv", "");
    assert_eq!(first.as_array().map(Vec::len), Some(10));
    assert_eq!(first[0]["age"], 39);
    assert_eq!(first[0]["workclass"], "State-gov");
    for dataset in ["parquet", "jsonl"] {
        for query in ["", "?rows=500"] {
            assert_eq!(preview(dataset, query), preview("csv", query), "{dataset}{query}");
        }
    }
    // Row 28 says nothing about the class of worker.
    assert_eq!(preview("csv", "?rows=28")[27]["workclass"], Value::Null);
    let columns = host.get("/v1/datasets/csv/versions/1/preview").expect(200)["columns"].clone();
    assert_eq!(columns.as_array().map(Vec::len), Some(15));
    for query in ["?rows=0", "?rows=1001", "?rows=x", "?row=1"] {
        host.get(&format!("/v1/datasets/csv/versions/1/preview{query}")).error(400);
    }
}

#[test]
fn a_profile_says_what_the_values_are_like() {
    let host = Host::start();
    for (dataset, file, bytes) in [("csv", "income.csv", CSV), ("parquet", "income.parquet", PARQUET)] {
        put(&host, dataset, &[(file, bytes)]).expect(201);
        let profile = host.get(&format!("/v1/datasets/{dataset}/versions/1/profile")).expect(200);
        assert_eq!(profile["rows"], 500);
        let age = column(&profile, "age");
        assert_eq!((&age["nulls"], &age["min"], &age["max"]), (&json!(0), &json!(17), &json!(90)));
        let median = age["quantiles"].as_array().unwrap().iter().find(|quantile| quantile["percent"] == 50);
        let median = median.unwrap()["value"].as_f64().unwrap();
        assert!((35.5..=37.5).contains(&median), "{age}");
        assert_eq!(age["top"][0], json!({"value": 30, "count": 17}));
        let distinct = age["distinct"].as_u64().unwrap();
        assert!((58..=64).contains(&distinct), "{age}");
        let class = column(&profile, "workclass");
        assert_eq!((&class["nulls"], &class["distinct"]), (&json!(31), &json!(6)));
        assert_eq!((&class["min"], &class["max"]), (&json!("Federal-gov"), &json!("State-gov")));
        let top = json!([{"value": "Private", "count": 347}, {"value": "Self-emp-not-inc", "count": 35}]);
        assert_eq!(class["top"].as_array().unwrap()[..2], top.as_array().unwrap()[..]);
        assert_eq!(column(&profile, "sex")["sensitive"], true);
        assert_eq!(class["sensitive"], false);
    }
}

#[test]
fn columns_of_every_type_have_a_profile() {
    let host = Host::start();
    let csv = "n,f,b,d,t,\"a, \"\"b\"\"\"\n1,1.5,true,2020-01-31,2020-01-31T10:00:00,x\n,NaN,false,,,\n3,-2e3,true,2021-01-31,2021-01-31T10:00:00,\n";
    put_plain(&host, "csv", &[("x.csv", csv.as_bytes())]).expect(201);
    let profile = host.get("/v1/datasets/csv/versions/1/profile").expect(200);
    assert_eq!(column(&profile, "n")["nulls"], 1);
    assert_eq!(column(&profile, "b")["top"][0], json!({"value": true, "count": 2}));
    assert_eq!(column(&profile, "d")["max"], "2021-01-31");
    assert_eq!(column(&profile, "t")["min"], "2020-01-31T10:00:00");
    assert_eq!(column(&profile, "a, \"b\"")["nulls"], 2);
    let lines = r#"{"id":1,"tags":["a","b"],"place":{"x":1.5}}
{"id":2,"tags":[],"place":null}"#;
    put_plain(&host, "jsonl", &[("x.jsonl", lines.as_bytes())]).expect(201);
    let profile = host.get("/v1/datasets/jsonl/versions/1/profile").expect(200);
    assert_eq!(column(&profile, "place")["nulls"], 1);
    let rows = host.get("/v1/datasets/jsonl/versions/1/preview").expect(200)["rows"].clone();
    assert_eq!(rows[0], json!({"id": 1, "tags": ["a", "b"], "place": {"x": 1.5}}));
    // A header and nothing else.
    put_plain(&host, "empty", &[("x.csv", b"a,b\n")]).expect(201);
    let profile = host.get("/v1/datasets/empty/versions/1/profile").expect(200);
    assert_eq!((&profile["rows"], &column(&profile, "a")["nulls"]), (&json!(0), &json!(0)));
    assert_eq!(host.get("/v1/datasets/empty/versions/1/preview").expect(200)["rows"], json!([]));
}

#[test]
fn one_file_may_come_without_a_form_and_types_may_be_asked_for() {
    let host = Host::start();
    let target = "/v1/datasets/zips/versions";
    let plain = Request::new("PUT", target, "zip\n01234\n").header("Content-Type", "text/csv; charset=utf-8");
    assert_eq!(host.send(&plain).expect(201)["schema"][0]["type"], "Int64");
    let form = Form::new().text("types", r#"{"zip":"Utf8"}"#).file("zips", b"zip\n01234\n");
    assert!(host.send(&form.put(target)).error(400).contains("format of file \"zips\" is not known"));
    let typed = host.send(&form.text("format", "csv").put(target)).expect(201);
    assert_eq!((&typed["number"], &typed["schema"][0]["type"]), (&json!(2), &json!("Utf8")));
    assert_eq!(host.get("/v1/datasets/zips/versions/2/preview").expect(200)["rows"][0]["zip"], "01234");
}

#[test]
fn everything_is_there_after_a_restart() {
    let host = Host::start();
    put(&host, "income", &[("income.parquet", PARQUET)]).expect(201);
    put(&host, "other", &[("income.csv", CSV)]).expect(201);
    let delete = Request::delete("/v1/datasets/other/versions/1");
    assert_eq!(host.send(&delete).status, 204);
    let before = host.get("/v1/datasets").expect(200);
    let setup = host.stop();
    // What an interrupted upload could leave.
    std::fs::write(setup.data_dir().join("datasets/left.csv"), "a").unwrap();
    std::fs::write(setup.data_dir().join("staging/left"), "a").unwrap();
    let host = setup.start();
    assert_eq!(host.get("/v1/datasets").expect(200), before);
    assert_eq!(stored(&host).len(), 1);
    assert_eq!(put(&host, "other", &[("income.csv", CSV)]).expect(201)["number"], 2);
    let setup = host.kill();
    let checked = setup.check(&[]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let rebuilt = setup.check(&["--rebuild"]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let host = setup.start();
    assert_eq!(host.get("/v1/datasets").expect(200)["datasets"].as_array().map(Vec::len), Some(2));
    host.get("/v1/datasets/other/versions/2/profile").expect(200);
}

#[test]
fn the_command_line_puts_and_shows() {
    let host = Host::start();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let run = |arguments: &[&str]| {
        let output = host.client(arguments);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {error}");
        out.into_owned()
    };
    assert!(run(&["datasets"]).contains("no datasets yet"));
    let csv = write("income.csv", CSV);
    let card = write("card.toml", b"license = 'CC-BY-4.0'\nsensitive_columns = ['sex']\n");
    let said = run(&["datasets", "put", "income", &csv, "--card", &card, "--type", "age=Float64"]);
    assert!(
        said.starts_with("version 1 of dataset income is ready: 500 rows, 15 columns, 52.81 KiB"),
        "{said}"
    );
    let said = run(&["datasets", "put", "income", &csv, "--card", &card, "--type", "age=Float64"]);
    assert!(said.starts_with("version 1 of dataset income is the same already"), "{said}");
    assert!(run(&["datasets", "list"]).contains("CC-BY-4.0"));
    assert!(run(&["datasets", "versions", "income"]).contains("ada"));
    let shown = run(&["datasets", "show", "income@1"]);
    assert!(shown.contains("sensitive") && shown.contains("income.csv"), "{shown}");
    assert!(run(&["datasets", "schema", "income"]).contains("Float64"));
    let preview = run(&["datasets", "preview", "income", "--rows", "3"]);
    assert_eq!(preview.lines().count(), 4, "{preview}");
    assert!(run(&["datasets", "profile", "income"]).contains("Private (347)"));
    let json: Value = serde_json::from_str(&run(&["datasets", "show", "income", "--json"])).unwrap();
    assert_eq!(json["number"], 1);
    let unclear = host.client(&["datasets", "delete", "income"]);
    assert_eq!(unclear.status.code(), Some(2));
    assert!(run(&["datasets", "delete", "income@1"]).contains("is deleted"));
    let missing = host.client(&["datasets", "show", "income"]);
    assert_eq!(missing.status.code(), Some(1));
}
