//! Talks HTTP with a host. Knows statuses, headers and time-outs; not what the answers mean.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FROM, IF_MATCH};
use ureq::http::{HeaderValue, Method, Request, request};
use ureq::{Agent, SendBody};

use crate::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A host may have to load a version first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);
/// Uploads are compiled one after the other, each within two minutes by default.
const UPLOAD_ANSWER_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The address of a host, such as `http://127.0.0.1:8080`, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostUrl(String);

impl FromStr for HostUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<HostUrl, String> {
        if text.starts_with("https://") {
            return Err(
                "https is not supported: name the host itself, or a proxy that ends TLS on the way".into()
            );
        }
        let uri: Option<ureq::http::Uri> = text.parse().ok();
        match uri.as_ref().map(|uri| (uri.scheme_str(), uri.host(), uri.query())) {
            Some((Some("http"), Some(_), None)) => Ok(HostUrl(text.trim_end_matches('/').to_owned())),
            _ => Err("expected http://HOST:PORT".into()),
        }
    }
}

impl fmt::Display for HostUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a host answered to a request that it fulfilled.
#[derive(Debug)]
pub struct Answer {
    /// Whether something was made by it that was not there before: status 201.
    pub is_created: bool,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as a value.
    ///
    /// # Errors
    /// Where the host answers in a form that this client does not know.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let what = "the host's answer is not what this modelhost expects: are their versions different?";
        Ok(serde_json::from_str(&self.text).context(what)?)
    }
}

/// What is sent when many bytes are.
#[derive(Clone, Debug)]
pub struct Upload<'a> {
    /// How.
    pub method: Method,
    /// Where to.
    pub path: &'a str,
    /// What they are.
    pub content_type: &'a str,
    /// How many they are.
    pub length: u64,
    /// The setting of the host that says how many they may be.
    pub limit: &'static str,
}

/// A connection to one host, on behalf of one person.
pub struct Client {
    agent: Agent,
    url: HostUrl,
    from: Option<HeaderValue>,
}

impl Client {
    /// A client of the host at `url`. Does not connect yet.
    ///
    /// # Errors
    /// [`Failure::Usage`] where `by` cannot be written in a header.
    pub fn new(url: HostUrl, by: Option<&str>) -> Result<Client, Failure> {
        let from =
            by.filter(|by| !by.is_empty()).map(|by| HeaderValue::from_bytes(by.as_bytes())).transpose();
        let from = from.map_err(|_| Failure::Usage("--by takes no control characters".to_owned()))?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("modelhost/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .build();
        Ok(Client { agent: config.into(), url, from })
    }

    /// Where the host is.
    pub fn url(&self) -> &HostUrl {
        &self.url
    }

    /// Asks for what is at `path`.
    ///
    /// # Errors
    /// [`Failure::Refused`] or [`Failure::Unreachable`], as for all requests.
    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.exchange(self.request(Method::GET, path), SendBody::none())
    }

    /// Sends a body of JSON. `expected` is the generation that the caller has read, where it insists on one.
    ///
    /// # Errors
    /// As for all requests.
    pub fn send(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        expected: Option<u64>,
    ) -> Result<Answer, Failure> {
        let json = serde_json::to_string(body).context("cannot write the request")?;
        self.send_text(if_match(self.request(method, path), expected), &json)
    }

    /// Sends a body of JSON as it is.
    ///
    /// # Errors
    /// As for all requests.
    pub fn post_text(&self, path: &str, json: &str) -> Result<Answer, Failure> {
        self.send_text(self.request(Method::POST, path), json)
    }

    fn send_text(&self, request: request::Builder, json: &str) -> Result<Answer, Failure> {
        let request = request.header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, json.len());
        self.exchange(request, SendBody::from_reader(&mut json.as_bytes()))
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// As for all requests.
    pub fn delete(&self, path: &str, expected: Option<u64>) -> Result<Answer, Failure> {
        self.exchange(if_match(self.request(Method::DELETE, path), expected), SendBody::none())
    }

    /// Sends many bytes as they come.
    ///
    /// # Errors
    /// As for all requests.
    pub fn upload(&self, upload: &Upload<'_>, bytes: &mut dyn Read) -> Result<Answer, Failure> {
        let request = self
            .request(upload.method.clone(), upload.path)
            .header(CONTENT_TYPE, upload.content_type)
            .header(CONTENT_LENGTH, upload.length)
            // A host that takes no such upload says so before the bytes travel.
            .header(EXPECT, "100-continue");
        match self.exchange_within(request, SendBody::from_reader(bytes), UPLOAD_ANSWER_TIMEOUT) {
            Err(Failure::Unreachable { is_broken_off: true, .. }) => Err(Failure::Local(anyhow!(
                "the host broke off the upload: it is larger than {}, or the host has ended",
                upload.limit
            ))),
            outcome => outcome,
        }
    }

    /// Asks for what is at `path` and reads it as it comes, for as long as it lasts.
    ///
    /// # Errors
    /// As for all requests.
    pub fn open(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        let request =
            self.request(Method::GET, path).body(SendBody::none()).context("cannot write the request")?;
        let mut response = self.agent.run(request).map_err(|error| self.no_answer(&error))?;
        if response.status().is_success() {
            return Ok(response.into_body().into_reader());
        }
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|error| self.no_answer(&error))?;
        Err(Failure::Refused { status, message: refusal(status, &text) })
    }

    fn request(&self, method: Method, path: &str) -> request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        match &self.from {
            Some(from) => request.header(FROM, from),
            None => request,
        }
    }

    fn exchange(&self, request: request::Builder, body: SendBody<'_>) -> Result<Answer, Failure> {
        self.exchange_within(request, body, ANSWER_TIMEOUT)
    }

    fn exchange_within(
        &self,
        request: request::Builder,
        body: SendBody<'_>,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let request = request.body(body).context("cannot write the request")?;
        let request = self.agent.configure_request(request).timeout_recv_response(Some(timeout)).build();
        let mut response = self.agent.run(request).map_err(|error| self.no_answer(&error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(u64::MAX).lossy_utf8(true).read_to_string();
        let text = body.map_err(|error| self.no_answer(&error))?;
        if response.status().is_success() {
            Ok(Answer { is_created: status == 201, text })
        } else {
            Err(Failure::Refused { status, message: refusal(status, &text) })
        }
    }

    fn no_answer(&self, error: &ureq::Error) -> Failure {
        let (reason, is_broken_off) = match error {
            // Without the library's own "io: " in front.
            ureq::Error::Io(error) => (error.to_string(), is_end_of_connection(error.kind())),
            error => (error.to_string(), false),
        };
        Failure::Unreachable { url: self.url.to_string(), reason, is_broken_off }
    }
}

fn is_end_of_connection(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

fn if_match(request: request::Builder, expected: Option<u64>) -> request::Builder {
    match expected {
        Some(generation) => request.header(IF_MATCH, format!("\"{generation}\"")),
        None => request,
    }
}

/// The host's own sentence, or what there is of an answer that holds none.
fn refusal(status: u16, body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_str(body) {
        Ok(Refusal { error }) => error,
        Err(_) => {
            let start: String = body.trim().chars().take(200).collect();
            format!("the host answered {status} {start}").trim_end().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// Takes one connection, answers this, and gives back the head of the request.
    fn answering(answer: &'static str) -> (Client, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let host = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            stream.write_all(answer.as_bytes()).unwrap();
            head.join("\n").to_lowercase()
        });
        (Client::new(url, Some("ädä")).unwrap(), host)
    }

    #[test]
    fn urls_are_checked() {
        let parse = |text: &str| text.parse::<HostUrl>();
        assert_eq!(parse("http://h:1/").unwrap().to_string(), "http://h:1");
        assert!(parse("https://h").unwrap_err().contains("https is not supported"));
        for wrong in ["h:1", "http://", "ftp://h", "", "http://h?x=1", "http://h /"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_change_says_who_makes_it_and_what_they_saw() {
        let (client, host) = answering("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}");
        let answer = client.send(Method::PUT, "/v1/x", &[1], Some(7)).unwrap();
        assert!(answer.is_created && answer.text == "{}");
        let head = host.join().unwrap();
        for line in [
            "put /v1/x http/1.1",
            "from: ädä",
            "if-match: \"7\"",
            "content-type: application/json",
            "content-length: 3",
        ] {
            assert!(head.lines().any(|sent| sent == line), "{line}: {head}");
        }
    }

    #[test]
    fn an_upload_that_is_refused_is_not_sent() {
        struct Unread;
        impl Read for Unread {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                panic!("the body was read")
            }
        }
        let (client, host) = answering(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 21\r\nConnection: close\r\n\r\n{\"error\":\"too large\"}",
        );
        let upload = Upload {
            method: Method::POST,
            path: "/v1/x",
            content_type: "application/wasm",
            length: 1 << 40,
            limit: "serving.max_upload_bytes",
        };
        let failure = client.upload(&upload, &mut Unread).unwrap_err();
        assert!(
            matches!(failure, Failure::Refused { status: 413, ref message } if message == "too large"),
            "{failure}"
        );
        assert!(host.join().unwrap().contains("expect: 100-continue"));
    }

    #[test]
    fn answers_that_are_no_json_are_still_shown() {
        assert_eq!(refusal(404, "{\"error\":\"model m is not known\"}"), "model m is not known");
        assert_eq!(refusal(502, "<h1>Bad Gateway</h1>\n"), "the host answered 502 <h1>Bad Gateway</h1>");
        assert_eq!(refusal(503, ""), "the host answered 503");
    }

    #[test]
    fn nobody_there_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let failure = Client::new(url, None).unwrap().get("/v2").unwrap_err();
        assert_eq!(failure.exit_code(), 3, "{failure}");
    }
}
