//! How a command fails, with the exit code that a script sees.

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was typed cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// The host answered, and said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The host's own sentence.
        message: String,
    },
    /// No answer came.
    #[error("no answer from {url}: {reason}; is `modelhost serve` running there, or is another --url meant?")]
    Unreachable {
        /// Where the host was looked for.
        url: String,
        /// What happened instead.
        reason: String,
        /// Whether there was a connection, and it ended.
        is_broken_off: bool,
    },
    /// Something on this machine.
    #[error("{0:#}")]
    Local(#[from] anyhow::Error),
}

impl Failure {
    /// 1 for a failure, 2 for a wrong use, 3 for no answer.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused { .. } | Failure::Local(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable { .. } => 3,
        }
    }

    /// What is printed on standard error: a line for people, or an object for scripts.
    pub fn report(&self, is_json: bool) -> String {
        if !is_json {
            return format!("error: {self}");
        }
        let mut report = serde_json::json!({ "error": self.to_string() });
        if let Failure::Refused { status, .. } = self {
            report["status"] = (*status).into();
        }
        report.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_failures_apart() {
        let refused = Failure::Refused { status: 404, message: "model \"m\" does not exist".to_owned() };
        let unreachable = Failure::Unreachable {
            url: "http://h:1".to_owned(),
            reason: "refused".to_owned(),
            is_broken_off: false,
        };
        let failures =
            [refused, Failure::Local(anyhow::anyhow!("x")), Failure::Usage("x".to_owned()), unreachable];
        assert_eq!(failures.each_ref().map(Failure::exit_code), [1, 1, 2, 3]);
        assert_eq!(failures[0].report(false), "error: model \"m\" does not exist");
        assert_eq!(failures[0].report(true), r#"{"error":"model \"m\" does not exist","status":404}"#);
    }
}
