//! What an engine is to the rest of the host: it turns a file into something that can be run, many times and from many
//! threads. Knows nothing about how a particular engine works, nor on which thread it is called.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use modelhost_core::{EngineName, ErrorCode, Tensor, TensorDescription};

/// A library that runs networks.
pub trait Engine: Send + Sync {
    /// Which engine this is.
    fn name(&self) -> EngineName;

    /// The version of the library.
    fn version(&self) -> String;

    /// The file of the library, where it is not built in.
    fn library(&self) -> Option<&Path> {
        None
    }

    /// Checks and optimises the network of an ONNX file. Blocks for as long as that takes: milliseconds to seconds.
    ///
    /// # Errors
    /// [`LoadError`], never a panic, whatever the bytes are.
    fn load(&self, onnx: &[u8]) -> Result<Arc<dyn ExecutableGraph>, LoadError>;
}

/// A loaded network. Any number of threads run it at the same time.
pub trait ExecutableGraph: Send + Sync {
    /// The inputs, in the order of the file; -1 for each extent that is free.
    fn inputs(&self) -> &[TensorDescription];

    /// The outputs, in the order of the file; -1 for each extent that is not known before a run.
    fn outputs(&self) -> &[TensorDescription];

    /// Bytes that the loaded network keeps in memory while nothing runs: above all its weights.
    fn resident_bytes(&self) -> u64;

    /// Whether it is proven that each row of the outputs (an index of the first dimension) depends on the row of the
    /// same index of every input and on nothing else, so that the rows of several requests may share a run.
    fn rows_are_independent(&self) -> bool;

    /// Whether it is proven that the time of a run follows from the extents of its inputs and the bytes of its texts,
    /// whatever the values: nothing in the network branches or loops on a value, or has a shape that depends on one.
    fn time_follows_from_extents(&self) -> bool;

    /// Runs the network on the calling thread.
    ///
    /// `inputs` are in the order of [`inputs`](Self::inputs) and each fits its description; extents that must agree
    /// between inputs are checked here. The outputs are in the order of [`outputs`](Self::outputs).
    ///
    /// # Errors
    /// [`RunError`]. A panic of the engine passes through: the caller has to catch it.
    fn run(&self, inputs: Vec<Tensor>, limits: &RunLimits) -> Result<Vec<Tensor>, RunError>;
}

/// When a run has to end, and how much memory it may take.
#[derive(Clone, Debug)]
pub struct RunLimits {
    /// The run stops at the first operator that would begin after this moment.
    pub deadline: Instant,
    /// Set when nobody waits for the result any more: the run stops at the next operator.
    pub cancelled: Arc<AtomicBool>,
    /// The most bytes that the tensors between operators may take at one moment, outputs included.
    pub max_tensor_bytes: u64,
}

impl RunLimits {
    /// Limits with a flag of their own.
    pub fn new(deadline: Instant, max_tensor_bytes: u64) -> RunLimits {
        RunLimits { deadline, cancelled: Arc::new(AtomicBool::new(false)), max_tensor_bytes }
    }

    /// Until the deadline.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether a run may go on.
    ///
    /// # Errors
    /// [`RunError::Cancelled`] or [`RunError::DeadlineExceeded`].
    pub fn check(&self) -> Result<(), RunError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(RunError::Cancelled);
        }
        if Instant::now() >= self.deadline {
            return Err(RunError::DeadlineExceeded);
        }
        Ok(())
    }
}

/// Why a graph cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("graph cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The bytes are not a usable ONNX file.
    #[error("graph is not a valid ONNX model: {reason}")]
    Invalid {
        /// What is wrong with them.
        reason: String,
    },
    /// Operators whose results with this engine are not known to be right.
    #[error("graph has operators that the engine is not known to run correctly: {}", .operators.join(", "))]
    Operators {
        /// Each operator as `Name` or `domain.Name`, with the attribute where only that is the reason; sorted.
        operators: Vec<String>,
    },
    /// A well-formed network that the engine cannot run.
    #[error("graph is not supported: {reason}")]
    Unsupported {
        /// What cannot be run.
        reason: String,
    },
    /// The engine itself is not there.
    #[error("engine {engine} is not available: {reason}")]
    Engine {
        /// The engine that was asked for.
        engine: EngineName,
        /// Why it is not there.
        reason: String,
    },
    /// A network that would take more memory to load than a graph may take.
    #[error("graph is too large: {reason}")]
    TooLarge {
        /// Which part is too large.
        reason: String,
    },
}

impl LoadError {
    /// The kind of failure.
    pub fn code(&self) -> ErrorCode {
        match self {
            LoadError::Read(_) => ErrorCode::Internal,
            LoadError::Invalid { .. } | LoadError::Operators { .. } | LoadError::Unsupported { .. } => {
                ErrorCode::Unprocessable
            }
            LoadError::TooLarge { .. } => ErrorCode::TooLarge,
            LoadError::Engine { .. } => ErrorCode::Unavailable,
        }
    }
}

/// Why a run ended without outputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Inputs that do not fit together.
    #[error("{reason}")]
    InvalidInput {
        /// What does not fit.
        reason: String,
    },
    /// The deadline passed.
    #[error("inference did not end before its deadline")]
    DeadlineExceeded,
    /// Nobody waits for the result.
    #[error("inference was cancelled")]
    Cancelled,
    /// The tensors of this run would take too much memory.
    #[error(
        "operator {operator} would bring the tensors of this run to {bytes} bytes: at most {limit} are allowed"
    )]
    TooLarge {
        /// The operator at which the limit is passed.
        operator: String,
        /// Bytes that would be needed.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The engine reported an error, for example a division by zero or an index out of range.
    #[error("inference failed: {reason}")]
    Failed {
        /// The engine's words.
        reason: String,
    },
}
