//! Who calls a graph: what an executor has to know of the threads that its callers run on, in order to run something there.

use std::fmt;

/// Calls that take turns on threads of their own, which are not for waiting: what a caller runs there keeps the others from
/// their turns.
pub trait CallerThreads: Send + Sync {
    /// Who else is under way beside the caller.
    fn company(&self) -> Company;

    /// Does this on the same threads, after the turns of those of the caller's model who are ready now.
    fn after_those_ready(&self, work: Box<dyn FnOnce() + Send>);
}

impl fmt::Debug for dyn CallerThreads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CallerThreads")
    }
}

/// Who else is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Nobody whom a run could keep waiting.
    Nobody,
    /// Calls of other models.
    Others,
    /// Calls of the same model, which will most likely call the same graph soon.
    SameModel,
}
