//! The hybrid of batch and online, from end to end: what a nightly job recommended to each customer, re-ranked by what
//! they click now, and the network alone where there is no list.

use modelhost_tests::artifacts;
use modelhost_tests::host::{Host, wait_until};
use modelhost_tests::http::Request;
use modelhost_tests::inference::{output, to};
use serde_json::{Value, json};

use super::{grant, put_lines, put_table};

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

/// The nightly job, over some of the customers, into the table; answers what the recommender says of each online.
fn publish_lists(host: &Host) -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(artifacts::checkout("examples/customers.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().take(20).collect();
    put_lines(host, "customers", &lines.join("\n"));
    put_table(host, "top-items", &json!({ "key": "user", "dataset": "top-items" }));
    run_nightly_job(host);
    let list = |line: &&str| {
        let customer: Value = serde_json::from_str(line).unwrap();
        let items: Vec<String> = serde_json::from_value(customer["items"].clone()).unwrap();
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        (customer["user"].as_str().unwrap().to_owned(), recommended(host, &items, LISTED))
    };
    lines.iter().map(list).collect()
}

fn run_nightly_job(host: &Host) {
    let specification = std::fs::read_to_string(artifacts::checkout("examples/top-items.json")).unwrap();
    let started = host.send(&Request::post("/v1/jobs", specification)).expect(201);
    let address = format!("/v1/jobs/{}", started["id"]);
    wait_until("the nightly job has ended", || {
        let job = host.get(&address).expect(200);
        assert_ne!(job["state"], "failed", "{job}");
        job["state"] == "succeeded"
    });
    let table = host.get("/v1/predictions/top-items").expect(200);
    assert_eq!(table["current"], 1);
    // Predictions age from when predicting began, however long it took and whenever it was published.
    assert_eq!(table["versions"][0]["predicted"], host.get(&address).expect(200)["started"]);
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
        let of_list = expected.clone();
        expected.sort_by(|one, other| (other.1 * other.2).total_cmp(&(one.1 * one.2)));
        assert_eq!(output(&answer, "list_version"), &json!([1]));
        let items = names(&answer, "items");
        let (list_scores, click_scores) = (numbers(&answer, "list_scores"), numbers(&answer, "click_scores"));
        assert_eq!((items.len(), list_scores.len(), click_scores.len()), (10, 10, 10));
        for (place, expected) in expected.iter().take(10).enumerate() {
            let (item, list_score, click_score) = (&items[place], list_scores[place], click_scores[place]);
            let is_close = |one: f64, other: f64| (one - other).abs() < 1e-6;
            assert!(is_close(list_score * click_score, expected.1 * expected.2), "{item}: {answer}");
            // Equal scores may come in either order: by its name the item has just these.
            let by_name = of_list.iter().find(|(name, ..)| name == item).unwrap_or_else(|| panic!("{item}"));
            assert!(is_close(list_score, by_name.1) && is_close(click_score, by_name.2), "{item}: {answer}");
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
    // With one that is older than it may be.
    let settings =
        |max_age: Value| json!({ "key": "user", "dataset": "top-items", "max_age_seconds": max_age });
    put_table(&host, "top-items", &settings(json!(1)));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let answer = reranked(&host, &[user, "nobody"], &[CLICKED, CLICKED], 5);
    assert_eq!(
        (names(&answer, "source"), output(&answer, "list_version")),
        (vec!["stale".to_owned(), "live".to_owned()], &json!([1, 0]))
    );
    put_table(&host, "top-items", &settings(Value::Null));
    // Without a grant.
    grant(&host, "reranker", &[]);
    assert_live(&reranked(&host, &[user], &[CLICKED], 5));
    assert!(host.log().contains("is not granted to this model"));
    // After the table was deleted.
    grant(&host, "reranker", &["top-items"]);
    assert_eq!(names(&reranked(&host, &[user], &[CLICKED], 5), "source"), ["table"]);
    assert_eq!(host.send(&Request::delete("/v1/predictions/top-items")).status, 204);
    assert_live(&reranked(&host, &[user], &[CLICKED], 5));
}

#[test]
fn any_number_of_users_may_be_asked_for_at_once() {
    let host = host_with_models();
    let lists = publish_lists(&host);
    grant(&host, "reranker", &["top-items"]);
    let users: Vec<&str> = (0..2_500).map(|index| lists[index % lists.len()].0.as_str()).collect();
    let answer = reranked(&host, &users, &vec![CLICKED; users.len()], 3);
    assert_eq!(names(&answer, "source"), vec!["table"; users.len()]);
    let (first, items) = (reranked(&host, &users[..20], &[CLICKED; 20], 3), names(&answer, "items"));
    assert_eq!(items.len(), 3 * users.len());
    for some in items.chunks_exact(60) {
        assert_eq!(some, names(&first, "items"));
    }
}
