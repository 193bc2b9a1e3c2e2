//! Bodies of `multipart/form-data`, byte by byte.

use crate::http::Request;

const BOUNDARY: &str = "a-boundary-that-is-in-no-test-data";

/// A form that is being put together.
#[derive(Clone, Debug, Default)]
pub struct Form {
    body: Vec<u8>,
}

impl Form {
    /// A form without parts.
    pub fn new() -> Form {
        Form::default()
    }

    /// The same with one more part that is text.
    pub fn text(self, name: &str, text: &str) -> Form {
        self.part(&format!("name=\"{name}\""), text.as_bytes())
    }

    /// The same with one more part that is a file.
    pub fn file(self, name: &str, bytes: &[u8]) -> Form {
        self.part(&format!("name=\"file\"; filename=\"{name}\""), bytes)
    }

    fn part(mut self, disposition: &str, bytes: &[u8]) -> Form {
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(bytes);
        self.body.extend_from_slice(b"\r\n");
        self
    }

    /// The whole body.
    pub fn body(&self) -> Vec<u8> {
        [&self.body, format!("--{BOUNDARY}--\r\n").as_bytes()].concat()
    }

    /// A request that puts it there.
    pub fn put(&self, target: &str) -> Request {
        Request::new("PUT", target, self.body()).header("Content-Type", Form::content_type())
    }

    /// The header that goes with it.
    pub fn content_type() -> String {
        format!("multipart/form-data; boundary={BOUNDARY}")
    }
}
