//! Prediction tables: what was computed before is looked up, by clients and by plugins, and goes from version to version
//! as models do.

mod changes;
mod crash;
mod damage;
mod hostile;
mod live;
mod lookup;
mod plugin;
mod reranker;
mod stale;
mod swap;

use modelhost_tests::host::Host;
use modelhost_tests::http::{Request, Response};
use serde_json::{Value, json};

/// What is being made in the data folder. The folder in which queries put what does not fit into memory is there as long
/// as the host is, and empty.
pub fn staged(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.data_dir().join("staging")).unwrap().map(Result::unwrap);
    let is_of_queries = |entry: &std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        name.starts_with("datafusion-") && std::fs::read_dir(entry.path()).unwrap().count() == 0
    };
    let left = entries.filter(|entry| !is_of_queries(entry));
    left.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Uploads a dataset of these rows; answers the number of its version.
#[track_caller]
pub fn put_dataset(host: &Host, name: &str, rows: &[Value]) -> u64 {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    put_lines(host, name, &lines.join("\n"))
}

/// The same, of JSON lines.
#[track_caller]
pub fn put_lines(host: &Host, name: &str, lines: &str) -> u64 {
    let target = format!("/v1/datasets/{name}/versions");
    let request = Request::new("PUT", target, lines).header("Content-Type", "application/jsonl");
    let version = host.send(&request).expect(201);
    version["number"].as_u64().unwrap()
}

/// Makes a table, or changes its settings.
#[track_caller]
pub fn put_table(host: &Host, table: &str, settings: &Value) -> Value {
    let response = host.send(&Request::put(format!("/v1/predictions/{table}"), settings));
    assert!(matches!(response.status, 200 | 201), "{}", response.text());
    response.json()
}

/// The request that publishes a dataset, such as `d` or `d@2`.
pub fn publication(table: &str, dataset: &str) -> Request {
    let body = json!({ "dataset": dataset }).to_string();
    Request::post(format!("/v1/predictions/{table}/versions"), body)
}

/// Publishes a dataset; answers the number of the table's version.
#[track_caller]
pub fn publish(host: &Host, table: &str, dataset: &str) -> u64 {
    host.send(&publication(table, dataset)).expect(201)["number"].as_u64().unwrap()
}

/// A dataset of these rows as a table with the key `key`.
#[track_caller]
pub fn table_of(host: &Host, table: &str, rows: &[Value]) {
    put_dataset(host, table, rows);
    put_table(host, table, &json!({ "key": "key" }));
    publish(host, table, table);
}

pub fn get(host: &Host, table: &str, key: &str) -> Response {
    host.get(&format!("/v1/predictions/{table}/{key}"))
}

pub fn look_up(host: &Host, table: &str, body: &Value) -> Response {
    host.send(&Request::post(format!("/v1/predictions/{table}/lookup"), body.to_string()))
}

/// Lets the plugin of a model read tables.
#[track_caller]
pub fn grant(host: &Host, model: &str, tables: &[&str]) {
    let configuration = json!({ "prediction_tables": tables });
    host.send(&Request::put(format!("/v1/models/{model}/configuration"), &configuration)).expect(200);
}
