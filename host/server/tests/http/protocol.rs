//! Routes, methods, headers, and both versions of HTTP.

use crate::client::{TestServer, settings};

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is() {
    let server = TestServer::start(settings()).await;
    let mut client = server.connect().await;
    let bodies = [
        ("/v2/health/live", r#"{"live":true}"#),
        ("/v2/health/ready", r#"{"ready":true}"#),
        ("/v1/models", r#"{"models":[],"object":"list","data":[]}"#),
    ];
    for (path, body) in bodies {
        client.send(&format!("GET {path} HTTP/1.1\nHost: x\n\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.header("date").is_some());
        assert_eq!(answer.header("x-request-id").unwrap().len(), 32);
    }
    client.send("GET /v2 HTTP/1.1\nHost: x\n\n").await;
    assert!(client.answer().await.body.starts_with(r#"{"name":"modelhost","version":""#));
    client.send("GET / HTTP/1.1\nHost: x\n\n").await;
    assert!(client.answer().await.body.contains("/v1/models"));
    client.send("GET /metrics HTTP/1.1\nHost: x\n\n").await;
    let metrics = client.answer().await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let line = r#"http_server_requests_total{method="GET",route="/v2/health/live",status="200"} 1"#;
    assert!(metrics.body.contains(line), "{}", metrics.body);
    assert!(metrics.body.contains("http_server_connections 1"), "{}", metrics.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not() {
    let server = TestServer::start(settings()).await;
    let cases = [
        ("GET", "/nowhere", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/none/ready", 404),
        ("GET", "/v2/models/none/versions/1", 404),
        ("GET", "/v2/models/..%2f..%2fetc", 404),
        ("GET", "/v1/models/none", 404),
        ("GET", "/v1/models/none/versions", 404),
        ("GET", "/v1/models/none/versions/champion", 404),
        ("GET", "/v1/models/none/revisions", 404),
        ("GET", "/v1/models/none/deployment", 404),
        ("DELETE", "/v1/models/none/versions/1", 404),
        ("DELETE", "/v1/models/none/versions/champion", 400),
        ("DELETE", "/v1/models/none/aliases/champion", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v2/models/none/infer", 405),
        ("PATCH", "/v1/models/none/deployment", 405),
        ("BREW", "/", 405),
    ];
    for (method, path, status) in cases {
        let answer = server.ask(&format!("{method} {path} HTTP/1.1\nHost: x\nContent-Length: 0\n\n")).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(answer.error().len() > 10, "{answer:?}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_check_headers_and_bodies_first() {
    let server = TestServer::start(settings()).await;
    let put = |path: &str, headers: &str, body: &str| {
        format!(
            "PUT /v1/models/m/{path} HTTP/1.1\nHost: x\n{headers}Content-Length: {}\n\n{body}",
            body.len()
        )
    };
    let good = r#"{"traffic":[{"version":1,"percent":100}]}"#;
    let cases = [
        (put("deployment", "If-Match: 7\n", good), 400, "If-Match"),
        (put("deployment", "If-Match: W/\"7\"\n", good), 400, "If-Match"),
        (put("deployment", "From: \n", good), 400, "From"),
        (put("deployment", "", ""), 400, "traffic"),
        (put("deployment", "", "[]"), 400, "traffic"),
        (put("deployment", "", r#"{"trafic":[]}"#), 400, "trafic"),
        (put("deployment", "", r#"{"traffic":[{"version":-1,"percent":100}]}"#), 400, "-1"),
        (put("deployment", "", good), 404, "m"),
        (put("aliases/champion", "", "{}"), 400, "version"),
        (put("aliases/7", "", r#"{"version":1}"#), 400, "digit"),
        (put("aliases/champion", "", r#"{"version":1}"#), 404, "m"),
    ];
    for (request, status, word) in cases {
        let answer = server.ask(&request).await;
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        assert!(answer.error().contains(word), "{request}: {answer:?}");
    }
    let bad_upload = "POST /v1/models/m/versions?depoly=true HTTP/1.1\nHost: x\nContent-Length: 0\n\n";
    assert_eq!(server.ask(bad_upload).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_the_body() {
    let server = TestServer::start(settings()).await;
    let mut client = server.connect().await;
    client.send("HEAD /v2/health/live HTTP/1.1\nHost: x\n\nGET /v2/health/live HTTP/1.1\nHost: x\n\n").await;
    let head = client.answer_to_head().await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("13")));
    assert_eq!(client.answer().await.body, r#"{"live":true}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_ids_are_echoed() {
    let server = TestServer::start(settings()).await;
    let answer = server.ask("GET /v2 HTTP/1.1\nHost: x\nX-Request-Id: order-66\n\n").await;
    assert_eq!(answer.header("x-request-id"), Some("order-66"));
    let answer = server.ask("GET /v2 HTTP/1.1\nHost: x\nX-Request-Id: a b\n\n").await;
    assert_ne!(answer.header("x-request-id"), Some("a b"));
}

/// A request in the frames of HTTP/2, without TLS and without an upgrade.
#[tokio::test(flavor = "multi_thread")]
async fn http2_by_prior_knowledge() {
    let server = TestServer::start(settings()).await;
    let mut client = server.connect().await;
    let path = b"/v2/health/live";
    // :method GET, :scheme http, :path and :authority as literals.
    let mut headers = vec![0x82, 0x86, 0x04, path.len() as u8];
    headers.extend_from_slice(path);
    headers.extend_from_slice(&[0x01, 1, b'x']);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[0, 0, headers.len() as u8, 1, 0x5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&headers);
    client.send_bytes(&bytes).await;
    let body = br#"{"live":true}"#;
    while !client.received().windows(body.len()).any(|window| window == body) {
        assert!(client.read_more().await > 0, "closed after {:?}", client.received());
    }
}
