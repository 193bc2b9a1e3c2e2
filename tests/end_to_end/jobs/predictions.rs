//! What a job writes is what the online endpoint answers, and what the plugin's training script says.

use std::fs;

use arrow::array::RecordBatch;
use modelhost_tests::host::Host;
use modelhost_tests::inference::{assert_as_expected, to};
use modelhost_tests::{artifacts, table};
use serde_json::{Value, json};

use super::{income_job, job, output, put, run, version_of, with_income};

const NUMBERS: [&str; 5] = ["age", "education_num", "capital_gain", "capital_loss", "hours_per_week"];
const NAMES: [&str; 5] = ["workclass", "marital_status", "occupation", "relationship", "native_country"];

/// The online answer for some rows of a census table.
fn online(host: &Host, rows: &RecordBatch) -> Value {
    let count = rows.num_rows();
    let numbers = NUMBERS.map(|name| {
        json!({ "name": name, "datatype": "FP32", "shape": [count], "data": table::integers(rows, name) })
    });
    let names = NAMES.map(|name| {
        let known = |text: String| if text.is_empty() { "?".to_owned() } else { text };
        let data: Vec<String> = table::texts(rows, name).into_iter().map(known).collect();
        json!({ "name": name, "datatype": "BYTES", "shape": [count], "data": data })
    });
    let inputs: Vec<Value> = numbers.into_iter().chain(names).collect();
    host.send(&to("/v2/models/income/infer", &json!({ "inputs": inputs }))).expect(200)
}

/// Compares so many rows at random places with what is answered online for each alone, and a page of them together.
pub fn assert_as_online(host: &Host, predicted: &RecordBatch, sample: usize) {
    let original = table::census();
    let ids = table::integers(predicted, "id");
    let labels = table::texts(predicted, "label");
    let probabilities = table::singles(predicted, "probability");
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..sample {
        let place = random.usize(..ids.len());
        let row = original.slice(ids[place] as usize % original.num_rows(), 1);
        let expected =
            json!({ "outputs": [{ "data": [labels[place]] }, { "data": [probabilities[place]] }] });
        assert_as_expected(&expected, &online(host, &row));
    }
}

/// Every row must be there once, with the prediction of the original row that it repeats.
pub fn assert_every_row_once(predicted: &RecordBatch, rows: usize) {
    let ids = table::integers(predicted, "id");
    assert_eq!(ids.len(), rows);
    assert!(ids.iter().copied().eq(0..rows as i64), "the rows are not in the order of the input, each once");
    let (labels, probabilities) =
        (table::texts(predicted, "label"), table::singles(predicted, "probability"));
    for place in 500..rows {
        let original = place % 500;
        assert_eq!(labels[place], labels[original], "row {place}");
        let difference = (probabilities[place] - probabilities[original]).abs();
        assert!(difference < 1e-6, "row {place}: {difference}");
    }
}

#[test]
fn a_million_rows_are_predicted_as_online() {
    let rows = 1_000_000;
    let host = Host::start();
    with_income(&host);
    put(&host, "census", "application/vnd.apache.parquet", table::repeated_census(rows));
    let done = run(&host, &income_job("census", "scores"));
    assert_eq!(
        done["rows"],
        json!({ "total": rows, "succeeded": rows, "failed": 0, "filtered": 0, "incomplete": 0 })
    );
    let predicted = output(&host, &done);
    assert_every_row_once(&predicted, rows);
    assert_as_online(&host, &predicted, 300);
}

/// Rows of reference cases as a CSV file, and what is expected of each.
fn reference_rows(plugin: &str) -> (Vec<String>, Vec<Vec<Value>>, Vec<Vec<Value>>) {
    let path = artifacts::checkout(&format!("plugins/{plugin}/tests/reference.json"));
    let cases: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let column_names = |tensors: &Value| -> Vec<String> {
        tensors.as_array().unwrap().iter().map(|tensor| tensor["name"].as_str().unwrap().to_owned()).collect()
    };
    let names = column_names(&cases[0]["request"]["inputs"]);
    let (mut rows, mut expected) = (Vec::new(), Vec::new());
    for case in cases.as_array().unwrap() {
        let (inputs, outputs) = (&case["request"]["inputs"], &case["response"]["outputs"]);
        let at = |tensors: &Value, row: usize| -> Vec<Value> {
            tensors.as_array().unwrap().iter().map(|tensor| tensor["data"][row].clone()).collect()
        };
        let count = inputs[0]["shape"][0].as_u64().unwrap() as usize;
        rows.extend((0..count).map(|row| at(inputs, row)));
        expected.extend((0..count).map(|row| at(outputs, row)));
    }
    (names, rows, expected)
}

fn assert_as_trained(plugin: &str, outputs: &[&str]) {
    let (names, rows, expected) = reference_rows(plugin);
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let fields = names.iter().zip(row).map(|(name, value)| (name.clone(), value.clone()));
            Value::Object(fields.collect()).to_string()
        })
        .collect();
    let host = Host::start();
    host.deploy_new(plugin, &artifacts::plugin(plugin));
    put(&host, "reference", "application/jsonl", lines.join("\n"));
    let done = run(
        &host,
        &json!({ "dataset": "reference", "model": plugin, "output": { "dataset": "answers", "format": "jsonl" } }),
    );
    let preview = host
        .get(&format!("/v1/datasets/answers/versions/1/preview?rows={}", rows.len().min(1000)))
        .expect(200);
    assert_eq!(done["rows"]["succeeded"], rows.len());
    for (row, (answer, expected)) in preview["rows"].as_array().unwrap().iter().zip(&expected).enumerate() {
        assert_eq!(answer["row"], row);
        for (name, expected) in outputs.iter().zip(expected) {
            assert_as_expected(expected, &answer[*name]);
        }
    }
}

#[test]
fn income_is_predicted_as_its_training_script_does() {
    assert_as_trained("income", &["label", "probability"]);
}

#[test]
fn spam_is_predicted_as_its_training_script_does() {
    assert_as_trained("spam", &["label", "probability"]);
}

#[test]
fn the_output_says_where_it_comes_from_and_inherits_its_terms() {
    let host = Host::start();
    with_income(&host);
    let rows = table::to_parquet(&[table::with_keys(&table::census(), 0)], 200);
    let card =
        json!({ "license": "CC-BY-4.0", "commercial_use": false, "sensitive_columns": ["sex", "race"] });
    let form =
        modelhost_tests::form::Form::new().file("census.parquet", &rows).text("card", &card.to_string());
    host.send(&form.put("/v1/datasets/census/versions")).expect(201);
    let mut specification = income_job("census@latest", "scores");
    specification["carry"] = json!(["sex", "age"]);
    let done = run(&host, &specification);
    let version = version_of(&host, &done);
    let lineage = &version["lineage"];
    assert_eq!(
        (&lineage["input"], &lineage["model"], &lineage["model_version"]),
        (&json!("census@1"), &json!("income"), &json!(1))
    );
    assert_eq!(
        (&lineage["job"], &lineage["model_digest"]),
        (&json!(done["id"].to_string()), &done["model"]["digest"])
    );
    assert_eq!(version["card"]["license"], "CC-BY-4.0");
    assert_eq!(version["card"]["commercial_use"], false);
    assert_eq!(version["card"]["sensitive_columns"], json!(["sex"]));
    let names: Vec<&Value> =
        version["schema"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["id", "sex", "age", "label", "probability"]);
    assert_eq!(job(&host, 1)["dataset"], "census@1");
}

#[test]
fn only_the_wanted_rows_and_columns_are_read() {
    let host = Host::start();
    with_income(&host);
    put(&host, "census", "application/vnd.apache.parquet", table::repeated_census(3_000));
    let mut specification = income_job("census", "scores");
    specification["where"] = json!("age > 60 AND workclass IS NOT NULL");
    let mut columns: Vec<String> = NUMBERS.iter().chain(&NAMES).map(|name| (*name).to_owned()).collect();
    columns.extend(["id".to_owned(), "upper(sex) AS who".to_owned()]);
    specification["columns"] = json!(columns);
    specification["carry"] = json!(["who"]);
    let done = run(&host, &specification);
    let predicted = output(&host, &done);
    let original = table::census();
    let (ages, classes, sexes) = (
        table::integers(&original, "age"),
        table::texts(&original, "workclass"),
        table::texts(&original, "sex"),
    );
    let wanted: Vec<i64> = (0..3_000)
        .filter(|id| ages[id % 500] > 60 && !classes[id % 500].is_empty())
        .map(|id| id as i64)
        .collect();
    assert_eq!(table::integers(&predicted, "id"), wanted);
    let upper: Vec<String> = wanted.iter().map(|id| sexes[*id as usize % 500].to_uppercase()).collect();
    assert_eq!(table::texts(&predicted, "who"), upper);
    assert_eq!(done["rows"]["filtered"], 3_000 - wanted.len());
    assert_as_online(&host, &predicted, 50);
}

#[test]
fn several_columns_make_one_input() {
    let host = Host::start();
    let network = artifacts::checkout("examples/iris.onnx");
    let pushed = host.client(&["push", network.to_str().unwrap(), "--model", "iris", "--deploy"]);
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let example: Value =
        serde_json::from_str(&fs::read_to_string(artifacts::checkout("examples/iris.json")).unwrap())
            .unwrap();
    let data = example["request"]["inputs"][0]["data"].as_array().unwrap();
    let rows: Vec<String> =
        data.chunks(4).map(|row| row.iter().map(Value::to_string).collect::<Vec<_>>().join(",")).collect();
    let flat = !data[0].is_array();
    assert!(flat, "the example holds its rows flat");
    put(&host, "flowers", "text/csv", format!("a,b,c,d\n{}\n", rows.join("\n")));
    let specification = json!({
        "dataset": "flowers", "model": "iris", "output": { "dataset": "kinds" },
        "inputs": { "measurements": ["a", "b", "c", "d"] },
    });
    let done = run(&host, &specification);
    let predicted = output(&host, &done);
    let expected = host.send(&to("/v2/models/iris/infer", &example["request"])).expect(200);
    assert_eq!(predicted.num_rows(), rows.len());
    let written = host.get("/v1/datasets/kinds/versions/1/preview").expect(200)["rows"].clone();
    for output in expected["outputs"].as_array().unwrap() {
        let of_row = |row: &Value| match &row[output["name"].as_str().unwrap()] {
            Value::Array(elements) => elements.clone(),
            element => vec![element.clone()],
        };
        let elements: Vec<Value> = written.as_array().unwrap().iter().flat_map(of_row).collect();
        assert_as_expected(&output["data"], &Value::Array(elements));
    }
}

#[test]
fn baskets_of_any_size_are_rows_too() {
    let host = Host::start();
    host.deploy_new("recommender", &artifacts::plugin("recommender"));
    let example: Value = serde_json::from_str(
        &fs::read_to_string(artifacts::checkout("plugins/recommender/tests/reference.json")).unwrap(),
    )
    .unwrap();
    let items: Vec<String> = example[0]["request"]["inputs"][0]["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item.as_str().filter(|item| !item.is_empty()).map(str::to_owned))
        .collect();
    let basket = |row: usize| -> Vec<&String> {
        (0..=row % 3).map(|item| &items[(row + item) % items.len()]).collect()
    };
    let lines: Vec<String> =
        (0..50).map(|row| json!({ "user": row, "basket": basket(row) }).to_string()).collect();
    put(&host, "baskets", "application/jsonl", lines.join("\n"));
    let specification = json!({
        "dataset": "baskets", "model": "recommender", "key": "user", "output": { "dataset": "offers" },
        "inputs": { "items": "basket" }, "batch_size": 16,
    });
    let done = run(&host, &specification);
    assert_eq!(done["rows"]["succeeded"], 50, "{done}");
    let preview = host.get("/v1/datasets/offers/versions/1/preview?rows=50").expect(200);
    for row in [0, 1, 2, 17, 49] {
        let basket = basket(row);
        let input =
            json!({ "name": "items", "datatype": "BYTES", "shape": [1, basket.len()], "data": basket });
        let online =
            host.send(&to("/v2/models/recommender/infer", &json!({ "inputs": [input] }))).expect(200);
        let answer = &preview["rows"][row];
        assert_eq!(answer["user"], row);
        assert_as_expected(modelhost_tests::inference::output(&online, "items"), &answer["items"]);
        assert_as_expected(modelhost_tests::inference::output(&online, "scores"), &answer["scores"]);
    }
}
