//! The hybrid of batch and online, from end to end: what a nightly job recommended to each customer, re-ranked by what
//! they click now, and the network alone where there is no list.

use modelhost_tests::artifacts;
use modelhost_tests::host::Host;
use modelhost_tests::inference::{output, to};
use serde_json::{Value, json};

use super::{grant, publish, put_dataset, put_table};

const CLICKED: &str = "hawaiian";
const LISTED: usize = 20;

fn recommended(host: &Host, items: &[&str], k: usize) -> Value {
    let inputs = json!([{ "name": "items", "datatype": "BYTES", "shape": [1, items.len()], "data": items }]);
    host.send(&to("/v2/models/recommender/infer", &json!({ "parameters": { "k": k }, "inputs": inputs })))
        .expect(200)
}

fn reranked(host: &Host, users: &[&str], clicked: &[&str], k: usize) -> Value {
    let inputs = json!([
        { "name": "user", "datatype": "BYTES", "shape": [users.len()], "data": users },
        { "name": "items", "datatype": "BYTES", "shape": [users.len(), 1], "data": clicked },
    ]);
    host.send(&to("/v2/models/reranker/infer", &json!({ "parameters": { "k": k }, "inputs": inputs })))
        .expect(200)
}

fn numbers(answer: &Value, name: &str) -> Vec<f64> {
    serde_json::from_value(output(answer, name).clone()).unwrap()
}

fn names(answer: &Value, name: &str) -> Vec<String> {
    serde_json::from_value(output(answer, name).clone()).unwrap()
}

fn host_with_models() -> Host {
    let host = Host::start();
    host.deploy_new("recommender", &artifacts::plugin("recommender"));
    host.deploy_new("reranker", &artifacts::plugin("reranker"));
    host
}

/// The table that the nightly job makes, of what the recommender says of each customer's earlier orders.
fn publish_lists(host: &Host) -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(artifacts::checkout("examples/customers.jsonl")).unwrap();
    let customers: Vec<Value> =
        text.lines().take(20).map(|line| serde_json::from_str(line).unwrap()).collect();
    let lists: Vec<(String, Value)> = customers
        .iter()
        .map(|customer| {
            let items: Vec<&str> =
                customer["items"].as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect();
            (customer["user"].as_str().unwrap().to_owned(), recommended(host, &items, LISTED))
        })
        .collect();
    let row = |(user, list): &(String, Value)| json!({ "user": user, "items": output(list, "items"), "scores": output(list, "scores") });
    put_dataset(host, "top-items", &lists.iter().map(row).collect::<Vec<_>>());
    put_table(host, "top-items", &json!({ "key": "user", "dataset": "top-items" }));
    publish(host, "top-items", "top-items");
    lists
}

#[test]
fn both_halves_are_in_the_answer() {
    let host = host_with_models();
    let lists = publish_lists(&host);
    grant(&host, "reranker", &["top-items"]);
    let live = recommended(&host, &[CLICKED], 31);
    let live: Vec<(String, f64)> = names(&live, "items").into_iter().zip(numbers(&live, "scores")).collect();
    for (user, list) in lists {
        let answer = reranked(&host, &[&user], &[CLICKED], 10);
        assert_eq!(names(&answer, "source"), ["table"]);
        let listed: Vec<(String, f64)> =
            names(&list, "items").into_iter().zip(numbers(&list, "scores")).collect();
        let mut expected: Vec<(String, f64, f64)> = listed
            .into_iter()
            .filter(|(item, _)| item != CLICKED)
            .map(|(item, score)| {
                let click = live.iter().find(|(name, _)| *name == item).unwrap().1;
                (item, score, click)
            })
            .collect();
        expected.sort_by(|one, other| (other.1 * other.2).total_cmp(&(one.1 * one.2)));
        let found = names(&answer, "items")
            .into_iter()
            .zip(numbers(&answer, "list_scores"))
            .zip(numbers(&answer, "click_scores"));
        for (((item, list_score), click_score), expected) in found.zip(expected) {
            let is_close = |one: f64, other: f64| (one - other).abs() < 1e-6;
            assert!(is_close(list_score * click_score, expected.1 * expected.2), "{item}: {answer}");
            assert!(item != CLICKED && list_score > 0.0 && click_score > 0.0, "{answer}");
        }
        let scores = numbers(&answer, "scores");
        assert!(scores.is_sorted_by(|one, other| one >= other), "{scores:?}");
    }
}

#[test]
fn without_a_list_the_network_answers_alone() {
    let host = host_with_models();
    let live = recommended(&host, &[CLICKED], 5);
    let assert_live = |answer: &Value| {
        assert_eq!(names(answer, "source"), ["live"]);
        assert_eq!(output(answer, "items"), output(&live, "items"));
        assert_eq!(output(answer, "scores"), output(&live, "scores"));
        assert_eq!(numbers(answer, "list_scores"), [0.0; 5]);
    };
    // Without a table.
    grant(&host, "reranker", &["top-items"]);
    assert_live(&reranked(&host, &["2015-018148"], &[CLICKED], 5));
    assert!(host.log().contains("no lists: table \"top-items\": prediction table top-items is not known"));
    let lists = publish_lists(&host);
    let user = lists[0].0.as_str();
    assert_eq!(names(&reranked(&host, &[user], &[CLICKED], 5), "source"), ["table"]);
    // Without a list of this user's, beside one who has one.
    let answer = reranked(&host, &[user, "nobody"], &[CLICKED, CLICKED], 5);
    assert_eq!(names(&answer, "source"), ["table", "live"]);
    assert_eq!(names(&answer, "items")[5..], names(&live, "items"));
    assert_live(&reranked(&host, &["nobody"], &[CLICKED], 5));
    // Without a grant.
    grant(&host, "reranker", &[]);
    assert_live(&reranked(&host, &[user], &[CLICKED], 5));
    assert!(host.log().contains("is not granted to this model"));
}
