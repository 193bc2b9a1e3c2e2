//! Quick calls: which run at once where they are, and which are gathered to run together after the turns of others.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use modelhost_core::Tensor;
use modelhost_inference::{
    BackgroundThreads, BatchingPolicy, CallerThreads, Company, ComputeError, ComputeOptions, Computed,
    Executor, Graph, RunError, RunLimits,
};
use parking_lot::Mutex;
use tokio::runtime::Builder;

use crate::scripted::{by_values, rows};
use crate::values::{floats, limits, to_floats};

/// The turns of callers, which come when the test says so.
struct ScriptedTurns {
    company: Company,
    waiting: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl ScriptedTurns {
    fn with(company: Company) -> Arc<ScriptedTurns> {
        Arc::new(ScriptedTurns { company, waiting: Mutex::default() })
    }

    /// Does what waits, in turn, with what comes meanwhile.
    fn take_all(&self) -> usize {
        let mut taken = 0;
        loop {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            if waiting.is_empty() {
                return taken;
            }
            taken += waiting.len();
            waiting.into_iter().for_each(|work| work());
        }
    }
}

impl CallerThreads for ScriptedTurns {
    fn company(&self) -> Company {
        self.company
    }

    fn after_those_ready(&self, work: Box<dyn FnOnce() + Send>) {
        self.waiting.lock().push(work);
    }
}

/// The thread of a run, and the first values of its rows.
type Run = (ThreadId, Vec<f32>);

struct Quick {
    executor: Executor,
    graph: Arc<Graph>,
    runs: Arc<Mutex<Vec<Run>>>,
}

impl Quick {
    /// A graph that takes about this long, has been run, and gives back what it gets.
    fn taking(duration: Duration) -> Quick {
        Quick::failing(duration, |_| false)
    }

    /// The same, which fails where any row begins with such a value.
    fn failing(duration: Duration, fails: impl Fn(f32) -> bool + Send + Sync + 'static) -> Quick {
        let runs = Arc::<Mutex<Vec<_>>>::default();
        let seen = runs.clone();
        let graph = rows(move |inputs, _| {
            let began = Instant::now();
            while began.elapsed() < duration {}
            let firsts: Vec<f32> = to_floats(&inputs[0]).chunks(2).map(|row| row[0]).collect();
            let has_failed = firsts.iter().any(|first| fails(*first));
            seen.lock().push((thread::current().id(), firsts));
            if has_failed { Err(RunError::Failed { reason: "a bad row".into() }) } else { Ok(inputs) }
        });
        let quick =
            Quick { executor: Executor::new(1, BackgroundThreads::of_share(100)).unwrap(), graph, runs };
        quick.run_often();
        quick
    }

    /// It has to be known to be quick, for which a busy machine may need several runs.
    fn run_often(&self) {
        for _ in 0..50 {
            let mut call = pin!(self.call(1.0, 8, None));
            Builder::new_current_thread().build().unwrap().block_on(&mut call).unwrap();
        }
        self.runs.lock().clear();
    }

    async fn call(
        &self,
        value: f32,
        max_batch_size: u32,
        threads: Option<Arc<dyn CallerThreads>>,
    ) -> Result<Computed, ComputeError> {
        let batching =
            BatchingPolicy { max_batch_size, max_queue_delay: Duration::ZERO, max_queue_size: usize::MAX };
        let options = ComputeOptions { batching, threads, ..ComputeOptions::alone(limits()) };
        self.executor.compute(&self.graph, vec![("x".into(), floats(&[1, 2], &[value, 0.0]))], options).await
    }

    fn rows_of_runs(&self) -> Vec<Vec<f32>> {
        self.runs.lock().iter().map(|(_, rows)| rows.clone()).collect()
    }
}

fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn first(answer: Poll<Result<Computed, ComputeError>>) -> f32 {
    let Poll::Ready(answer) = answer else { panic!("no answer yet") };
    to_floats(&answer.unwrap().outputs[0].1)[0]
}

const WORTH_SHARING: Duration = Duration::from_micros(40);

#[test]
fn who_is_alone_runs_at_once_even_what_is_not_that_quick() {
    let quick = Quick::taking(Duration::from_micros(300));
    let turns = ScriptedTurns::with(Company::Nobody);
    let mut call = pin!(quick.call(7.0, 8, Some(turns)));
    assert_eq!(first(poll(call.as_mut())), 7.0);
    assert_eq!(quick.runs.lock()[0].0, thread::current().id());
}

#[test]
fn what_is_not_that_quick_leaves_the_thread_to_the_others() {
    let quick = Quick::taking(Duration::from_micros(300));
    for company in [Company::Others, Company::SameModel] {
        let turns = ScriptedTurns::with(company);
        let call = quick.call(7.0, 8, Some(turns.clone()));
        let answer = Builder::new_current_thread().build().unwrap().block_on(call);
        assert_eq!(first(Poll::Ready(answer)), 7.0);
        assert_eq!(turns.take_all(), 0);
    }
    assert!(quick.runs.lock().iter().all(|(thread, _)| *thread != thread::current().id()));
}

#[test]
fn quick_calls_of_one_model_run_together_after_those_who_are_ready() {
    let quick = Quick::taking(WORTH_SHARING);
    let turns = ScriptedTurns::with(Company::SameModel);
    let mut calls: Vec<_> = (1..=3).map(|n| Box::pin(quick.call(n as f32, 8, Some(turns.clone())))).collect();
    assert!(calls.iter_mut().all(|call| poll(call.as_mut()).is_pending()));
    assert_eq!(turns.take_all(), 1, "one run for all");
    let answers: Vec<f32> = calls.iter_mut().map(|call| first(poll(call.as_mut()))).collect();
    assert_eq!(answers, [1.0, 2.0, 3.0]);
    assert_eq!(quick.rows_of_runs(), [[1.0, 2.0, 3.0]]);
    assert_eq!(quick.runs.lock()[0].0, thread::current().id());
}

#[test]
fn what_no_run_holds_gets_another() {
    let quick = Quick::taking(WORTH_SHARING);
    let turns = ScriptedTurns::with(Company::SameModel);
    let mut calls: Vec<_> = (1..=5).map(|n| Box::pin(quick.call(n as f32, 2, Some(turns.clone())))).collect();
    assert!(calls.iter_mut().all(|call| poll(call.as_mut()).is_pending()));
    assert_eq!(turns.take_all(), 3);
    assert_eq!(calls.iter_mut().map(|call| first(poll(call.as_mut()))).sum::<f32>(), 15.0);
    assert_eq!(quick.rows_of_runs(), [vec![1.0, 2.0], vec![3.0, 4.0], vec![5.0]]);
}

#[test]
fn who_gives_up_is_not_run() {
    let quick = Quick::taking(WORTH_SHARING);
    let turns = ScriptedTurns::with(Company::SameModel);
    let mut calls: Vec<_> = (1..=3).map(|n| Box::pin(quick.call(n as f32, 8, Some(turns.clone())))).collect();
    assert!(calls.iter_mut().all(|call| poll(call.as_mut()).is_pending()));
    drop(calls.remove(0));
    turns.take_all();
    assert_eq!(calls.iter_mut().map(|call| first(poll(call.as_mut()))).sum::<f32>(), 5.0);
    assert_eq!(quick.rows_of_runs(), [[2.0, 3.0]]);

    let mut alone = Box::pin(quick.call(9.0, 8, Some(turns.clone())));
    assert!(poll(alone.as_mut()).is_pending());
    drop(alone);
    assert_eq!(turns.take_all(), 1, "a turn with nothing to do");
    assert_eq!(quick.rows_of_runs().len(), 1);
}

#[test]
fn a_bad_row_fails_alone() {
    let quick = Quick::failing(WORTH_SHARING, |value| value == 2.0);
    let turns = ScriptedTurns::with(Company::SameModel);
    let mut calls: Vec<_> = (1..=3).map(|n| Box::pin(quick.call(n as f32, 8, Some(turns.clone())))).collect();
    assert!(calls.iter_mut().all(|call| poll(call.as_mut()).is_pending()));
    turns.take_all();
    let Poll::Ready(Err(error)) = poll(calls.remove(1).as_mut()) else { panic!("no error") };
    assert!(error.to_string().contains("a bad row"), "{error}");
    assert_eq!(calls.iter_mut().map(|call| first(poll(call.as_mut()))).sum::<f32>(), 4.0);
}

#[test]
fn a_call_whose_time_is_over_is_not_run() {
    let quick = Quick::taking(WORTH_SHARING);
    let turns = ScriptedTurns::with(Company::SameModel);
    let late = ComputeOptions {
        limits: RunLimits::new(Instant::now() + Duration::from_millis(20), u64::MAX),
        threads: Some(turns.clone()),
        ..ComputeOptions::alone(limits())
    };
    let late = ComputeOptions { batching: BatchingPolicy { max_batch_size: 8, ..late.batching }, ..late };
    let input: Vec<(String, Tensor)> = vec![("x".into(), floats(&[1, 2], &[1.0, 0.0]))];
    let mut late = pin!(quick.executor.compute(&quick.graph, input, late));
    assert!(poll(late.as_mut()).is_pending());
    thread::sleep(Duration::from_millis(40));
    turns.take_all();
    assert!(matches!(poll(late.as_mut()), Poll::Ready(Err(ComputeError::DeadlineExceeded))));
    assert!(quick.runs.lock().is_empty());
}

#[test]
fn what_looks_alike_by_its_bytes_is_not_taken_for_quick() {
    let quick = Quick::taking(WORTH_SHARING);
    for (columns, company) in (3..).zip([Company::Nobody, Company::Others, Company::SameModel]) {
        let turns = ScriptedTurns::with(company);
        let options = ComputeOptions { threads: Some(turns.clone()), ..ComputeOptions::alone(limits()) };
        // Known are rows of so many columns; these are as many rows of one.
        let known = vec![("x".to_owned(), floats(&[1, columns], &vec![1.0; columns as usize]))];
        let alone = ComputeOptions::alone(limits());
        Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(quick.executor.compute(&quick.graph, known, alone))
            .unwrap();
        let input = vec![("x".to_owned(), floats(&[columns, 1], &vec![1.0; columns as usize]))];
        let call = quick.executor.compute(&quick.graph, input, options);
        Builder::new_current_thread().build().unwrap().block_on(call).unwrap();
        assert_eq!(turns.take_all(), 0);
        let (thread, _) = quick.runs.lock().pop().unwrap();
        assert_ne!(thread, thread::current().id(), "{company:?}");
    }
}

#[test]
fn a_graph_whose_time_depends_on_values_never_runs_where_it_is_called() {
    let thread_of_run = Arc::<Mutex<Option<ThreadId>>>::default();
    let seen = thread_of_run.clone();
    let graph = by_values(move |inputs, _| {
        *seen.lock() = Some(thread::current().id());
        Ok(inputs)
    });
    let executor = Executor::new(1, BackgroundThreads::of_share(100)).unwrap();
    for _ in 0..20 {
        let turns = ScriptedTurns::with(Company::Nobody);
        let options = ComputeOptions { threads: Some(turns), ..ComputeOptions::alone(limits()) };
        let call = executor.compute(&graph, vec![("x".into(), floats(&[1, 2], &[1.0, 2.0]))], options);
        Builder::new_current_thread().build().unwrap().block_on(call).unwrap();
        assert_ne!(thread_of_run.lock().take(), Some(thread::current().id()));
    }
}
