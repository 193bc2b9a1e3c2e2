//! Talks HTTP with a host. Knows statuses, headers and time-outs; not what the answers mean.

use std::fmt;
use std::io::Read;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
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

    /// Sends `length` bytes as they come.
    ///
    /// # Errors
    /// As for all requests.
    pub fn upload(&self, path: &str, length: u64, bytes: &mut dyn Read) -> Result<Answer, Failure> {
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, "application/wasm")
            .header(CONTENT_LENGTH, length)
            // A host that takes no such upload says so before the bytes travel.
            .header(EXPECT, "100-continue");
        self.exchange_within(request, SendBody::from_reader(bytes), UPLOAD_ANSWER_TIMEOUT)
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
            Ok(Answer { text })
        } else {
            Err(Failure::Refused { status, message: refusal(status, &text) })
        }
    }

    fn no_answer(&self, error: &ureq::Error) -> Failure {
        let reason = match error {
            // Without the library's own "io: " in front.
            ureq::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        };
        Failure::Unreachable { url: self.url.to_string(), reason }
    }
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
