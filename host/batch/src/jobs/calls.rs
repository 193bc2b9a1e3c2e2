//! Calls of the model for rows: when one is tried again and how long it may take, how many rows one has, and what it
//! means where it fails. Knows neither columns nor which rows they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use modelhost_core::{ErrorCode, Parameter};
use modelhost_serving::{BackgroundError, CallError, Error, LimitExceeded, NamedTensors, Servable};
use parking_lot::Mutex;

use super::core_share::CoreShare;
use super::fault::Fault;

/// How often a call is tried again that the plugin cannot answer now.
const ATTEMPTS: u32 = 5;
/// How often a call of one row is tried again for which the host has no memory.
const MEMORY_ATTEMPTS: u32 = 60;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What rows are looked for by that kept a call from answering in time: no less than this.
const SHORTEST_TIME: Duration = Duration::from_millis(250);
/// And so many times what they usually take.
const USUAL_TIMES: u32 = 16;
/// What calls in vain may take of one job, all together.
const MAX_LOST: Duration = Duration::from_secs(3_600);

/// Calls that have to succeed before one has more rows again, at first.
const FIRST_PATIENCE: u32 = 32;
const LONGEST_PATIENCE: u32 = 4_096;

/// What calls the model.
pub(super) struct Caller {
    servable: Arc<Servable>,
    parameters: Vec<(String, Parameter)>,
    timeout: Duration,
    pub(super) cores: CoreShare,
    pub(super) size: CallSize,
    usual: Usual,
    /// Milliseconds of calls in vain.
    lost: AtomicU64,
}

/// Why a call has no answer, which may be its rows' fault.
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) cause: Cause,
}

/// What about a call is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// What is in its rows.
    Rows,
    /// How many rows they are: there was not enough memory.
    Size,
    /// The time that it took, which is this.
    Time(Duration),
}

/// How hard it is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// None: all the time that a call may take.
    time: Option<Duration>,
    attempts: u32,
}

impl Effort {
    /// That of a call whose rows have not been tried.
    pub(super) const WHOLE: Effort = Effort { time: None, attempts: ATTEMPTS };
    /// That of a call with some of the rows of one that failed.
    pub(super) const PART: Effort = Effort { time: None, attempts: 1 };

    fn within(self, time: Duration) -> Effort {
        Effort { time: Some(time), ..self }
    }
}

impl Caller {
    pub(super) fn new(
        servable: Arc<Servable>,
        parameters: Vec<(String, Parameter)>,
        timeout: Duration,
        cores: CoreShare,
        size: usize,
    ) -> Caller {
        let (size, usual, lost) = (CallSize::new(size), Usual::default(), AtomicU64::new(0));
        Caller { servable, parameters, timeout, cores, size, usual, lost }
    }

    /// The effort for some of the rows of a call that took this long in vain and had so many rows: no more time than they
    /// usually take, several times over. What is slow only now and then is given all its time when it is alone.
    pub(super) fn effort_after(&self, lost: Duration, whole: usize, rows: usize) -> Effort {
        let proportional = lost.mul_f64(4.0 * rows as f64 / whole.max(1) as f64);
        let usual = self.usual.of(rows).map_or(proportional, |usual| usual.saturating_mul(USUAL_TIMES));
        Effort::PART.within(usual.min(proportional).max(SHORTEST_TIME))
    }

    /// Calls the model. The outer error is no row's fault.
    pub(super) async fn call(
        &self,
        inputs: NamedTensors,
        rows: usize,
        effort: Effort,
    ) -> Result<Result<NamedTensors, Failure>, Error> {
        let timeout = effort.time.map_or(self.timeout, |time| time.min(self.timeout));
        let mut attempts = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            let (error, took) = match self.attempt(inputs.clone(), rows, timeout).await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(failed) => failed,
            };
            match Outcome::of(error, took) {
                Outcome::Row(failure) => {
                    if let Cause::Time(took) = failure.cause {
                        self.lose(took, &failure.fault)?;
                    }
                    return Ok(Err(failure));
                }
                Outcome::Host(error) => return Err(error),
                // Others have the room now; they will not have it for ever.
                Outcome::Full => {}
                Outcome::NoMemory(fault) => {
                    let most = if rows > 1 { effort.attempts } else { MEMORY_ATTEMPTS };
                    if attempts >= most {
                        return memory_is_short(fault, rows);
                    }
                    attempts += 1;
                }
                Outcome::NotNow(fault) => {
                    if attempts >= effort.attempts {
                        return Ok(Err(Failure { fault, cause: Cause::Rows }));
                    }
                    self.lose(took + pause, &fault)?;
                    attempts += 1;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// One call, or why it has no answer and how long it took.
    async fn attempt(
        &self,
        inputs: NamedTensors,
        rows: usize,
        timeout: Duration,
    ) -> Result<NamedTensors, (BackgroundError, Duration)> {
        let call = async {
            let began = Instant::now();
            let answer = self.servable.infer_in_background(inputs, self.parameters.clone(), timeout).await;
            (answer, began.elapsed())
        };
        let (answer, took) = self.cores.call(call).await;
        let answer = answer.map_err(|error| (error, took))?;
        self.usual.note(took, rows);
        Ok(answer)
    }

    /// Ends a job that would otherwise only wait.
    fn lose(&self, took: Duration, fault: &Fault) -> Result<(), Error> {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let before = self.lost.fetch_add(took, Ordering::Relaxed);
        if before.saturating_add(took) <= MAX_LOST.as_secs() * 1_000 {
            return Ok(());
        }
        let message = format!(
            "calls in vain took {} minutes, the last of which ended so: {}; a shorter call_timeout_ms lets more rows fail in that time",
            MAX_LOST.as_secs() / 60,
            fault.reason
        );
        Err(Error::new(ErrorCode::Unprocessable, message))
    }
}

/// Fewer rows need less; one row that has to wait for ever is not to blame.
fn memory_is_short<T>(fault: Fault, rows: usize) -> Result<Result<T, Failure>, Error> {
    if rows > 1 {
        return Ok(Err(Failure { fault, cause: Cause::Size }));
    }
    Err(Error::new(
        ErrorCode::Unavailable,
        format!("there is no memory for a call of one row: {}", fault.reason),
    ))
}

/// What a call that failed means.
enum Outcome {
    /// The rows are to blame, or one of them, or how many they are.
    Row(Failure),
    /// To be tried again, as often as it takes.
    Full,
    /// To be tried again: the sandboxes of all hold what they may.
    NoMemory(Fault),
    /// To be tried again: the plugin says so.
    NotNow(Fault),
    /// The job cannot go on.
    Host(Error),
}

impl Outcome {
    fn of(error: BackgroundError, took: Duration) -> Outcome {
        match error {
            BackgroundError::Inputs(reason) => {
                Outcome::Row(Failure { fault: Fault::new(Fault::SHAPE, reason), cause: Cause::Rows })
            }
            BackgroundError::Version(error) if error.code == ErrorCode::Overloaded => Outcome::Full,
            BackgroundError::Version(error) => Outcome::Host(error),
            BackgroundError::Call(call) => Outcome::of_call(call, took),
            BackgroundError::Step { step, error } => Outcome::of(*error, took).in_step(&step),
        }
    }

    /// The same, of a step of an ensemble.
    fn in_step(mut self, step: &str) -> Outcome {
        match &mut self {
            Outcome::Row(Failure { fault, .. }) | Outcome::NoMemory(fault) | Outcome::NotNow(fault) => {
                fault.reason = format!("{step}: {}", fault.reason);
            }
            Outcome::Host(error) => error.message = format!("{step}: {}", error.message),
            Outcome::Full => {}
        }
        self
    }

    fn of_call(call: CallError, took: Duration) -> Outcome {
        let fault = Fault::new(call.reason(), call.to_string());
        let cause = match &call {
            CallError::Host { .. } => return Outcome::Host(call.into()),
            // Of streams, which nothing here reads.
            CallError::ClientTooSlow { .. } | CallError::ClientGone => return Outcome::NotNow(fault),
            CallError::Overloaded | CallError::GraphOverloaded => return Outcome::Full,
            CallError::Unavailable { .. } => return Outcome::NotNow(fault),
            CallError::LimitExceeded(LimitExceeded::HostMemory) => return Outcome::NoMemory(fault),
            CallError::LimitExceeded(_) => Cause::Size,
            CallError::DeadlineExceeded { .. } => Cause::Time(took),
            CallError::InvalidInput { .. }
            | CallError::Internal { .. }
            | CallError::Trapped { .. }
            | CallError::ContractViolation { .. } => Cause::Rows,
        };
        Outcome::Row(Failure { fault, cause })
    }
}

/// How long a row usually takes, of those that succeed.
#[derive(Default)]
struct Usual {
    /// Nanoseconds; 0 where none has succeeded.
    a_row: AtomicU64,
}

impl Usual {
    fn note(&self, took: Duration, rows: usize) {
        let now = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / rows.max(1) as u64;
        let before = self.a_row.load(Ordering::Relaxed);
        // Which of two calls at one moment is counted makes no difference.
        let mean = if before == 0 { now } else { before - before / 8 + now / 8 };
        self.a_row.store(mean.max(1), Ordering::Relaxed);
    }

    fn of(&self, rows: usize) -> Option<Duration> {
        match self.a_row.load(Ordering::Relaxed) {
            0 => None,
            a_row => Some(Duration::from_nanos(a_row.saturating_mul(rows as u64))),
        }
    }
}

/// How many rows a call has: fewer where so many were too many, and more again when that has gone well for a while.
pub(super) struct CallSize(Mutex<Size>);

struct Size {
    most: usize,
    now: usize,
    /// Calls of this size that have succeeded.
    successes: u32,
    /// Calls that have to.
    patience: u32,
}

impl CallSize {
    fn new(most: usize) -> CallSize {
        let most = most.max(1);
        CallSize(Mutex::new(Size { most, now: most, successes: 0, patience: FIRST_PATIENCE }))
    }

    pub(super) fn rows(&self) -> usize {
        self.0.lock().now
    }

    /// A call of so many rows has succeeded.
    pub(super) fn was_right(&self, rows: usize) {
        let mut size = self.0.lock();
        if size.now == size.most || rows < size.now {
            return;
        }
        size.successes += 1;
        if size.successes >= size.patience {
            size.successes = 0;
            size.now = (2 * size.now).min(size.most);
        }
    }

    /// A call of so many rows has failed, all of which succeed in smaller ones.
    pub(super) fn was_too_large(&self, rows: usize) {
        let mut size = self.0.lock();
        size.now = size.now.min(rows / 2).max(1);
        size.successes = 0;
        size.patience = (2 * size.patience).min(LONGEST_PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_smaller_for_a_while_where_they_were_too_large() {
        let size = CallSize::new(1_000);
        size.was_right(1_000);
        assert_eq!(size.rows(), 1_000);
        size.was_too_large(1_000);
        size.was_too_large(500);
        assert_eq!(size.rows(), 250);
        // Smaller ones say nothing about it.
        (0..10_000).for_each(|_| size.was_right(100));
        assert_eq!(size.rows(), 250);
        (0..4 * FIRST_PATIENCE).for_each(|_| size.was_right(250));
        assert_eq!(size.rows(), 500);
        (0..4 * FIRST_PATIENCE).for_each(|_| size.was_right(500));
        assert_eq!(size.rows(), 1_000);
        size.was_too_large(1);
        assert_eq!(size.rows(), 1);
    }

    #[test]
    fn only_rows_are_to_blame_for_what_is_in_them() {
        let second = Duration::from_secs(1);
        let outcome = |call: CallError| Outcome::of(call.into(), second);
        assert!(matches!(outcome(CallError::Overloaded), Outcome::Full));
        assert!(matches!(outcome(CallError::GraphOverloaded), Outcome::Full));
        let no_memory = CallError::LimitExceeded(LimitExceeded::HostMemory);
        assert!(matches!(outcome(no_memory), Outcome::NoMemory(_)));
        assert!(matches!(outcome(CallError::Host { reason: "x".into() }), Outcome::Host(_)));
        assert!(matches!(outcome(CallError::Unavailable { message: "x".into() }), Outcome::NotNow(_)));
        let cause = |call| match outcome(call) {
            Outcome::Row(failure) => Some(failure.cause),
            _ => None,
        };
        let memory = CallError::LimitExceeded(LimitExceeded::Memory { limit: 1 });
        assert_eq!(cause(memory), Some(Cause::Size));
        assert_eq!(cause(CallError::DeadlineExceeded { milliseconds: 5 }), Some(Cause::Time(second)));
        assert_eq!(cause(CallError::Trapped { reason: "x".into() }), Some(Cause::Rows));
        assert!(memory_is_short::<()>(Fault::new("limit_exceeded", "x"), 2).unwrap().is_err());
        assert!(memory_is_short::<()>(Fault::new("limit_exceeded", "x"), 1).is_err());
    }

    #[test]
    fn rows_are_known_by_what_they_usually_take() {
        let usual = Usual::default();
        assert_eq!(usual.of(10), None);
        (0..100).for_each(|_| usual.note(Duration::from_millis(100), 100));
        assert_eq!(usual.of(10), Some(Duration::from_millis(10)));
        (0..100).for_each(|_| usual.note(Duration::from_millis(800), 100));
        let millis = usual.of(1_000).map_or(0, |time| time.as_millis());
        assert!((7_900..=8_000).contains(&millis), "{millis}");
    }
}
