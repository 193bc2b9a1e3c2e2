//! Many responses to one request: they come as they are made, a slow client is waited for and not for ever, one that
//! hangs up ends the call, and a plugin that streams badly fails its own request.

use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::artifacts;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::{Connection, Request, Response};
use modelhost_tests::inference::to;
use serde_json::{Value, json};

const STREAM: &str = "/v2/models/words/generate_stream";

fn host() -> Host {
    serving(&Setup::new())
}

fn serving(setup: &Setup) -> Host {
    let host = setup.start();
    host.deploy_new("words", &artifacts::test_plugin("streaming"));
    host
}

fn request(text: &str, behaviour: &str, amount: u64) -> Request {
    let parameters = json!({ "behaviour": behaviour, "amount": amount });
    to(STREAM, &json!({ "text_input": text, "parameters": parameters }))
}

/// The data of each event.
#[track_caller]
fn events(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    let text = response.text();
    let data = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn texts(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["text_output"].as_str().unwrap_or("-")).collect()
}

/// Requests of the model that wait or run.
fn pending(host: &Host) -> String {
    let metrics = host.get("/metrics").text();
    let line = metrics
        .lines()
        .find(|line| line.starts_with("nv_inference_pending_request_count") && line.contains("\"words\""));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
}

#[test]
fn a_stream_is_one_event_for_each_response() {
    let host = host();
    let version = host.get("/v1/models/words/versions/1").expect(200);
    assert_eq!(version["capabilities"], json!({"streaming": true, "tasks": ["chat", "text-generation"]}));
    let events = events(&host.send(&request("to be or", "words", 0)));
    assert_eq!(texts(&events), ["to ", "be ", "or"]);
    assert_eq!(events[0]["model_name"], "words");
    assert_eq!(events[0]["model_version"], "1");
    let one = host.send(&to("/v2/models/words/generate", &json!({"id": "7", "text_input": "to be"})));
    let one = one.expect(200);
    assert_eq!((&one["text_output"], &one["id"]), (&json!("to be"), &json!("7")));
    assert!(self::events(&host.send(&request("", "nothing", 0))).is_empty());
    let stats = host.get("/v2/models/words/stats").expect(200);
    assert_eq!(stats["model_stats"][0]["inference_stats"]["success"]["count"], 3);
}

#[test]
fn responses_come_as_they_are_made() {
    let host = host();
    let began = Instant::now();
    let mut connection = host.connect();
    let body =
        json!({"text_input": "a b c d", "parameters": {"behaviour": "pace", "amount": 400}}).to_string();
    connection.write(post(STREAM, &body).as_bytes()).unwrap();
    let mut seen = String::new();
    while !seen.contains("\"a \"") {
        seen.push_str(&String::from_utf8_lossy(&connection.read_exactly(1).unwrap()));
    }
    assert!(began.elapsed() < Duration::from_millis(1_200), "{:?}", began.elapsed());
    assert!(!seen.contains("\"c \""), "{seen}");
}

fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: modelhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn failures_before_the_first_response_have_a_status_and_later_ones_are_the_last_event() {
    let host = host();
    let sentence = host.send(&request("x", "invalid", 0)).error(400);
    assert!(sentence.contains("the plugin does not like it"), "{sentence}");
    host.send(&to(STREAM, &json!({"other": "x"}))).error(400);
    host.send(&to("/v2/models/nobody/generate_stream", &json!({"text_input": "x"}))).error(404);
    host.send(&Request::post(STREAM, "[]")).error(400);
    for (behaviour, said) in
        [("error-halfway", "lost its thread"), ("trap-halfway", "trapped"), ("wrong-output", "signature")]
    {
        let events = events(&host.send(&request("x", behaviour, 0)));
        assert_eq!(texts(&events), ["half", "-"], "{behaviour}: {events:?}");
        let sentence = events[1]["error"].as_str().unwrap();
        assert!(sentence.contains(said), "{behaviour}: {sentence}");
    }
}

#[test]
fn a_stream_has_limits() {
    let setup = Setup::new()
        .set("runtime.limits.stream_responses", "100")
        .set("runtime.limits.output_bytes", "65536")
        .set("runtime.limits.wall_time_ms", "1500");
    let host = serving(&setup);
    let last = |behaviour, amount| {
        let events = events(&host.send(&request("x", behaviour, amount)));
        (events.len(), events.last().unwrap()["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(events(&host.send(&request("x", "numbers", 100))).len(), 100);
    let (count, sentence) = last("endless", 0);
    assert_eq!(count, 101);
    assert!(sentence.contains("limit of 100 responses"), "{sentence}");
    let sentence = host.send(&request("x", "huge", 70_000)).error(502);
    assert!(sentence.contains("output limit of 65536 bytes"), "{sentence}");
    let sentence = host.send(&request("x", "silent", 0)).error(504);
    assert!(sentence.contains("did not answer within"), "{sentence}");
    assert_eq!(events(&host.send(&request("still here", "words", 0))).len(), 2);
}

#[test]
fn a_client_that_hangs_up_ends_the_call() {
    let host = host();
    let mut connection = host.connect();
    let body = json!({"text_input": "x", "parameters": {"behaviour": "endless"}}).to_string();
    connection.write(post(STREAM, &body).as_bytes()).unwrap();
    connection.read_exactly(200).unwrap();
    assert_eq!(pending(&host), "1");
    drop(connection);
    wait_until("the call ends", || pending(&host) == "0");
    // One that is quiet is ended as well.
    let mut connection = host.connect();
    let body = json!({"text_input": "x", "parameters": {"behaviour": "silent"}}).to_string();
    connection.write(post(STREAM, &body).as_bytes()).unwrap();
    wait_until("the call begins", || pending(&host) == "1");
    drop(connection);
    wait_until("the quiet call ends", || pending(&host) == "0");
}

#[test]
fn a_slow_client_is_waited_for_and_keeps_nobody_else_waiting() {
    let setup = Setup::new().set("runtime.limits.stream_wait_ms", "2000");
    let host = serving(&setup);
    let body = json!({"text_input": "x".repeat(10_000), "parameters": {"behaviour": "endless"}}).to_string();
    let stalled: Vec<Connection> = (0..20)
        .map(|_| {
            let mut connection = host.connect();
            connection.write(post(STREAM, &body).as_bytes()).unwrap();
            connection
        })
        .collect();
    wait_until("all run", || pending(&host) == "20");
    thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    assert_eq!(events(&host.send(&request("still here", "words", 0))).len(), 2);
    assert!(began.elapsed() < Duration::from_millis(1_000), "{:?}", began.elapsed());
    wait_until("those that read nothing are ended", || pending(&host) == "0");
    drop(stalled);
    assert!(host.log().contains("the client took no response for 2000 ms"), "{}", host.log());
}

#[test]
fn a_plugin_that_does_not_stream_answers_with_one_event() {
    let host = Host::start();
    host.deploy_new("spam", &artifacts::plugin("spam"));
    let version = host.get("/v1/models/spam/versions/1").expect(200);
    assert!(version.get("capabilities").is_none(), "{version}");
    let body = json!({"text": "Lose weight fast\n\nLose 20 pounds in 30 days. 100% money back guarantee!"});
    let events = events(&host.send(&to("/v2/models/spam/generate_stream", &body)));
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["label"], "spam");
    assert!(events[0]["probability"].as_f64().unwrap() > 0.9, "{}", events[0]);
    let two = json!({"text": ["Lunch on Friday?", "Free prize, click here"]});
    let answer = host.send(&to("/v2/models/spam/versions/1/generate", &two)).expect(200);
    assert_eq!(answer["label"].as_array().unwrap().len(), 2);
}

#[test]
fn models_go_on_with_texts_as_openais_api_does() {
    let host = host();
    let complete = |fields: Value| {
        let mut body = json!({"model": "words", "prompt": "to be"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        host.send(&to("/v1/completions", &body))
    };
    let whole = complete(json!({})).expect(200);
    assert_eq!(whole["object"], "text_completion");
    assert_eq!(whole["choices"][0]["text"], "to be");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let many = complete(json!({"prompt": ["a", "b"], "model": "words@1"})).expect(200);
    assert_eq!((&many["choices"][1]["text"], &many["choices"][1]["index"]), (&json!("b"), &json!(1)));
    let streamed = complete(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let text = streamed.text();
    assert!(text.ends_with("\n\ndata: [DONE]\n\n"), "{text}");
    let chunks: Vec<Value> = text
        .split_terminator("\n\n")
        .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok())
        .collect();
    let pieces: Vec<&str> = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(pieces, ["to ", "be", ""]);
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], "stop");
    assert_eq!((&chunks[3]["choices"], &chunks[3]["usage"]["total_tokens"]), (&json!([]), &json!(0)));
    for (fields, status, said) in [
        (json!({"model": "nobody"}), 404, "nobody"),
        (json!({"model": "words@7"}), 404, "7"),
        (json!({"model": 5}), 400, "name of a model"),
        (json!({"prompt": [1, 2]}), 400, "holds tokens"),
        (json!({"n": 2}), 400, "\"n\" is not supported"),
        (json!({"max_tokens": 0}), 400, "max_tokens"),
        (json!({"prompt": ["a", "b"], "stream": true}), 400, "single text"),
    ] {
        let refused = complete(fields.clone());
        assert_eq!(refused.status, status, "{fields}: {}", refused.text());
        let error = &refused.json()["error"];
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(said), "{fields}: {message}");
        assert_eq!(error["type"], "invalid_request_error");
    }
}

#[test]
fn conversations_are_answered_in_pieces() {
    let host = host();
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let body = json!({"model": "words", "messages": messages});
    let whole = host.send(&to("/v1/chat/completions", &body)).expect(200);
    assert_eq!(whole["object"], "chat.completion");
    // The plugin of this test says what it was given.
    let given: Value =
        serde_json::from_str(whole["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert_eq!(given, messages);
    let streamed = json!({"model": "words", "messages": messages, "stream": true});
    let text = host.send(&to("/v1/chat/completions", &streamed)).text();
    let chunks: Vec<Value> = text
        .split_terminator("\n\n")
        .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok())
        .collect();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()), "{text}");
    let refused = host.send(&to("/v1/embeddings", &json!({"model": "words", "input": "x"})));
    assert!(refused.text().contains("does not declare the task"), "{}", refused.text());
    let listed = host.get("/v1/models").expect(200);
    assert_eq!((&listed["object"], &listed["data"][0]["id"]), (&json!("list"), &json!("words")));
    assert_eq!(host.get("/v1/models/words").expect(200)["object"], "model");
}
