//! Why an upload is not accepted: one sentence per reason, for the author.

use modelhost_core::ErrorCode;
use serde::{Deserialize, Serialize};

/// Why the bytes of an upload cannot become a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No bytes.
    #[error("the upload is empty: expected a WebAssembly component")]
    Empty,
    /// Another kind of file.
    #[error("the upload is not WebAssembly: expected a component, which begins with the bytes 00 61 73 6d")]
    NotWebAssembly,
    /// A core module.
    #[error(
        "the upload is a core WebAssembly module: expected a component, such as `cargo build --target wasm32-wasip2` makes"
    )]
    CoreModule,
    /// The end is missing.
    #[error("the component is truncated: it ends at byte {offset} in the middle of a section")]
    Truncated {
        /// Where it ends.
        offset: usize,
    },
    /// Not well-formed or not valid.
    #[error("the component is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// Imports outside of what may be granted.
    #[error("the component imports {}, which is not granted to plugins", .imports.join(" and "))]
    ImportsRefused {
        /// The imports.
        imports: Vec<String>,
    },
    /// Another world.
    #[error("the component does not export {expected}: it exports [{}]", .exports.join(", "))]
    NoPredictor {
        /// What every plugin exports.
        expected: &'static str,
        /// What this one exports.
        exports: Vec<String>,
    },
    /// Types that do not fit the contract.
    #[error("the component does not fit the contract modelhost:plugin@0.1.0: {reason}")]
    WrongWorld {
        /// What does not fit.
        reason: String,
    },
    /// A graph or sample without a usable name.
    #[error(
        "a {noun} section needs a name of 1 to {limit} bytes without control characters after its prefix"
    )]
    SectionName {
        /// What it carries: "graph" or "sample".
        noun: &'static str,
        /// Bytes.
        limit: usize,
    },
    /// A name used twice.
    #[error("the component carries two {noun}s named {name:?}: each needs its own name")]
    SectionTwice {
        /// What it carries: "graph" or "sample".
        noun: &'static str,
        /// The name.
        name: String,
    },
    /// Too many graphs or samples.
    #[error("the component carries more than {limit} {noun}s")]
    TooManySections {
        /// What it carries: "graph" or "sample".
        noun: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// A sample that is too large.
    #[error("{noun} {name:?} has {bytes} bytes: at most {limit} are allowed")]
    SectionTooLarge {
        /// What it carries: "sample".
        noun: &'static str,
        /// The name.
        name: String,
        /// Its bytes.
        bytes: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// A graph that no engine takes.
    #[error("graph {name:?}: {reason}")]
    Graph {
        /// The graph.
        name: String,
        /// Why not.
        reason: String,
    },
    /// More memory, tables or instances than a sandbox has.
    #[error("the component does not fit into a sandbox: {reason}")]
    TooLargeForSandbox {
        /// What it needs, and what a sandbox has.
        reason: String,
    },
    /// Compilation took too much.
    #[error("the component is too expensive to compile: it took more than {limit}")]
    TooExpensive {
        /// Such as "120 seconds".
        limit: String,
    },
    /// The plugin does not start, or does not tell its signature.
    #[error("the component does not start: {reason}")]
    DoesNotStart {
        /// What happened.
        reason: String,
    },
    /// A signature that breaks the rules.
    #[error("the signature of the component is not valid: {reason}")]
    InvalidSignature {
        /// Which rule.
        reason: String,
    },
}

impl Refusal {
    /// The kind of failure.
    pub fn code(&self) -> ErrorCode {
        match self {
            Refusal::Empty
            | Refusal::NotWebAssembly
            | Refusal::CoreModule
            | Refusal::Truncated { .. }
            | Refusal::Malformed { .. } => ErrorCode::InvalidArgument,
            _ => ErrorCode::Unprocessable,
        }
    }
}

/// A refusal on its way from the compiling process to the host.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RefusalReport {
    /// Whether the bytes are no component at all (400), or one that is not accepted (422).
    pub malformed: bool,
    /// The sentence.
    pub message: String,
}

impl From<&Refusal> for RefusalReport {
    fn from(refusal: &Refusal) -> RefusalReport {
        RefusalReport {
            malformed: refusal.code() == ErrorCode::InvalidArgument,
            message: refusal.to_string(),
        }
    }
}

impl RefusalReport {
    /// The kind of failure.
    pub fn code(&self) -> ErrorCode {
        if self.malformed { ErrorCode::InvalidArgument } else { ErrorCode::Unprocessable }
    }
}
