//! Connections that are slow, wrong, many or of another version of HTTP.

use std::io;
use std::time::{Duration, Instant};

use modelhost_tests::host::{Host, Setup};
use modelhost_tests::http::{Connection, Request};

#[test]
fn slow_heads_are_cut_off() {
    let host = Setup::new().set("server.header_timeout_ms", 300).start();
    let began = Instant::now();
    let mut silent = host.connect();
    let mut slow = host.connect();
    let mut patient = host.connect();
    patient.send(&Request::get("/v2")).unwrap().expect(200);
    // A byte now and then does not help.
    let dribbled = (0..100).take_while(|_| {
        std::thread::sleep(Duration::from_millis(20));
        slow.write(b"G").is_ok()
    });
    assert!(dribbled.count() < 100, "a slow head was listened to for two seconds");
    assert_eq!(silent.read_to_end().unwrap(), b"");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // A connection that is idle between requests is something else.
    patient.send(&Request::get("/v2")).unwrap().expect(200);
}

#[test]
fn idle_connections_are_closed() {
    let host = Setup::new().set("server.keep_alive_ms", 300).start();
    let mut connection = host.connect();
    connection.send(&Request::get("/v2")).unwrap().expect(200);
    let began = Instant::now();
    assert_eq!(connection.read_to_end().unwrap(), b"");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn heads_end_at_their_limit() {
    let host = Setup::new().set("server.max_header_bytes", 8192).start();
    host.send(&Request::get("/v2").header("X-Long", "x".repeat(4000))).expect(200);
    let refused = host.connect().send(&Request::get("/v2").header("X-Long", "x".repeat(20_000))).unwrap();
    assert_eq!(refused.status, 431);
}

#[test]
fn what_is_no_http_is_refused() {
    let host = Host::start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET /v2\r\n\r\n",
        b"GET / HTTP/1.1\r\nA B: c\r\n\r\n",
    ] {
        let mut connection = host.connect();
        connection.write(bytes).unwrap();
        let answer = connection.read_to_end().unwrap();
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    host.get("/v2").expect(200);
}

#[test]
fn requests_may_come_one_after_the_other_without_waiting() {
    let host = Host::start();
    let mut connection = host.connect();
    let head = "GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n";
    connection.write(head.repeat(50).as_bytes()).unwrap();
    for _ in 0..50 {
        connection.read_response().unwrap().expect(200);
    }
}

#[test]
fn connections_end_at_their_limit() {
    let host = Setup::new().set("server.max_connections", 3).start();
    let mut taken: Vec<Connection> = (0..3).map(|_| host.connect()).collect();
    for connection in &mut taken {
        connection.send(&Request::get("/v2")).unwrap().expect(200);
    }
    // The fourth waits in the kernel's queue for one of them to end.
    let mut waiting = host.connect();
    waiting.write(b"GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    for connection in &mut taken {
        connection.send(&Request::get("/v2")).unwrap().expect(200);
    }
    drop(taken.pop());
    waiting.read_response().unwrap().expect(200);
}

/// HTTP/2 without TLS, by prior knowledge: a request for `GET /v2/health/live` in its shortest form.
#[test]
fn http2_is_spoken_by_prior_knowledge() {
    let host = Host::start();
    let mut connection = host.connect();
    let path = b"/v2/health/live";
    // HPACK: GET, http and 200 are in the static table, as 2, 6 and 8; the path's name is its fourth entry.
    let head = [&[0x82, 0x86, 0x04, path.len() as u8][..], path, &[0x01, 1, b'h']].concat();
    let settings = frame(4, 0, 0, b"");
    let headers = frame(1, 0x5, 1, &head);
    connection.write(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings, headers].concat()).unwrap();
    let (mut status, mut body) = (0, Vec::new());
    loop {
        let (kind, flags, stream, payload) = read_frame(&mut connection).unwrap();
        match (kind, stream) {
            (1, 1) => status = payload[0],
            (0, 1) => body.extend(payload),
            _ => continue,
        }
        if flags & 1 == 1 {
            break;
        }
    }
    assert_eq!((status, String::from_utf8_lossy(&body).as_ref()), (0x88, r#"{"live":true}"#));
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn read_frame(connection: &mut Connection) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let head = connection.read_exactly(9)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok((head[3], head[4], stream, connection.read_exactly(length as usize)?))
}
