//! Calls that wait for one graph: which run together, in which order, and that none of them can tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_core::Tensor;
use modelhost_inference::{
    BackgroundThreads, BatchingPolicy, ComputeError, ComputeOptions, Computed, Executor, Graph, Priority,
    RunError, RunLimits,
};
use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;

use crate::scripted::{Blocker, dependent_rows, rows, wait_for};
use crate::values::{floats, limits, to_floats};

/// The first values of the rows of each run, in the order of the runs.
type Runs = Arc<Mutex<Vec<Vec<f32>>>>;

fn first_values(tensor: &Tensor) -> Vec<f32> {
    let width = tensor.shape()[1].max(1) as usize;
    to_floats(tensor).chunks(width).map(|row| row[0]).collect()
}

/// A graph that gives back what it gets, and remembers its runs.
fn recording() -> (Arc<Graph>, Runs) {
    let runs = Runs::default();
    let seen = runs.clone();
    let graph = rows(move |inputs, _| {
        seen.lock().push(first_values(&inputs[0]));
        Ok(inputs)
    });
    (graph, runs)
}

fn batching(max_batch_size: u32) -> ComputeOptions {
    let policy =
        BatchingPolicy { max_batch_size, max_queue_delay: Duration::ZERO, max_queue_size: usize::MAX };
    ComputeOptions { batching: policy, ..ComputeOptions::alone(limits()) }
}

/// As many rows of these two values.
fn row(value: f32, count: u64) -> Tensor {
    let values: Vec<f32> = (0..count).flat_map(|index| [value + index as f32 / 8.0, -value]).collect();
    floats(&[count, 2], &values)
}

type Answer = Result<Computed, ComputeError>;

/// An executor with one thread for each lane, and calls on it from tasks of their own.
struct Calls {
    executor: Arc<Executor>,
}

impl Calls {
    fn new() -> Calls {
        Calls { executor: Arc::new(Executor::new(1, BackgroundThreads::of_share(100)).unwrap()) }
    }

    fn start(&self, graph: &Arc<Graph>, input: Tensor, options: ComputeOptions) -> JoinHandle<Answer> {
        let (executor, graph) = (self.executor.clone(), graph.clone());
        tokio::spawn(async move { executor.compute(&graph, vec![("x".into(), input)], options).await })
    }

    /// Takes the thread for graphs that were never run until the blocker is released.
    async fn block(&self) -> (Blocker, JoinHandle<Answer>) {
        let blocker = Blocker::new();
        let (executor, graph) = (self.executor.clone(), blocker.graph.clone());
        let blocked = tokio::spawn(async move {
            executor.compute(&graph, Vec::new(), ComputeOptions::alone(limits())).await
        });
        while blocker.graph.statistics().executions == 0 {
            tokio::task::yield_now().await;
        }
        (blocker, blocked)
    }
}

/// Lets the tasks that were started put their calls into the queue.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn run_async<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().build().unwrap().block_on(future)
}

fn values(answer: Answer) -> Vec<f32> {
    to_floats(&answer.unwrap().outputs[0].1)
}

#[test]
fn calls_that_wait_run_once_and_get_their_own_rows() {
    run_async(async {
        let calls = Calls::new();
        let (graph, runs) = recording();
        let (blocker, _blocked) = calls.block().await;
        let started: Vec<_> =
            (1..=4).map(|n| calls.start(&graph, row(n as f32 * 10.0, n), batching(32))).collect();
        settle().await;
        blocker.release();
        let mut executions = Vec::new();
        for (n, call) in (1..=4).zip(started) {
            let computed = call.await.unwrap().unwrap();
            assert_eq!(computed.outputs[0].0, "x");
            assert_eq!(computed.outputs[0].1, row(n as f32 * 10.0, n));
            assert!(computed.queued > Duration::ZERO);
            executions.push(computed.executions);
        }
        assert_eq!(executions, [1, 0, 0, 0]);
        assert_eq!(runs.lock().len(), 1);
        let counted = graph.statistics();
        assert_eq!((counted.requests, counted.executions, counted.rows), (4, 1, 10));
    });
}

#[test]
fn runs_have_at_most_as_many_rows_as_each_call_allows() {
    run_async(async {
        let calls = Calls::new();
        let (graph, runs) = recording();
        let (blocker, _blocked) = calls.block().await;
        let sizes = [(1.0, 2, 4), (2.0, 1, 4), (3.0, 2, 4), (4.0, 9, 4), (5.0, 1, 1), (6.0, 1, 4)];
        let started: Vec<_> = sizes
            .iter()
            .map(|(value, count, max)| calls.start(&graph, row(*value, *count), batching(*max)))
            .collect();
        settle().await;
        blocker.release();
        for call in started {
            call.await.unwrap().unwrap();
        }
        let leaders: Vec<(f32, usize)> = runs.lock().iter().map(|run| (run[0], run.len())).collect();
        // The first takes the second and the last, which still fit; what is too large or wants to be alone is.
        assert_eq!(leaders, [(1.0, 4), (3.0, 2), (4.0, 9), (5.0, 1)]);
    });
}

#[test]
fn only_calls_of_one_kind_run_together() {
    run_async(async {
        let calls = Calls::new();
        let (graph, runs) = recording();
        let (blocker, _blocked) = calls.block().await;
        let inputs = [
            floats(&[1, 2], &[1.0, 0.0]),
            floats(&[1, 3], &[2.0, 0.0, 0.0]),
            floats(&[0, 2], &[]),
            floats(&[1, 2], &[4.0, 0.0]),
            floats(&[1, 3], &[5.0, 0.0, 0.0]),
            floats(&[0, 2], &[]),
        ];
        let started: Vec<_> =
            inputs.iter().map(|input| calls.start(&graph, input.clone(), batching(8))).collect();
        settle().await;
        blocker.release();
        for (call, input) in started.into_iter().zip(&inputs) {
            assert_eq!(&call.await.unwrap().unwrap().outputs[0].1, input);
        }
        assert_eq!(*runs.lock(), [vec![1.0, 4.0], vec![2.0, 5.0], vec![], vec![]]);
    });
}

#[test]
fn rows_that_may_depend_on_each_other_never_run_together() {
    run_async(async {
        let calls = Calls::new();
        let graph = dependent_rows(|inputs, _| Ok(inputs));
        let (blocker, _blocked) = calls.block().await;
        let started: Vec<_> = (0..5).map(|n| calls.start(&graph, row(n as f32, 1), batching(32))).collect();
        settle().await;
        blocker.release();
        for call in started {
            assert_eq!(call.await.unwrap().unwrap().executions, 1);
        }
        assert_eq!(graph.statistics().executions, 5);
    });
}

#[test]
fn the_higher_priority_goes_first_and_then_the_earlier_arrival() {
    run_async(async {
        let calls = Calls::new();
        let (graph, runs) = recording();
        let (blocker, _blocked) = calls.block().await;
        let arrivals = [(1.0, 3), (2.0, 2), (3.0, 1), (4.0, 2), (5.0, 1), (6.0, 3)];
        let started: Vec<_> = arrivals
            .iter()
            .map(|(value, priority)| {
                let options = ComputeOptions { priority: Priority(*priority), ..batching(2) };
                calls.start(&graph, row(*value, 1), options)
            })
            .collect();
        settle().await;
        blocker.release();
        for call in started {
            call.await.unwrap().unwrap();
        }
        assert_eq!(*runs.lock(), [[3.0, 5.0], [2.0, 4.0], [1.0, 6.0]]);
    });
}

/// A graph that cannot stand a value below zero, and says so in different ways.
fn touchy(panics: bool) -> Arc<Graph> {
    rows(move |inputs, _| match first_values(&inputs[0]).iter().any(|value| *value < 0.0) {
        true if panics => panic!("a value below zero"),
        true => Err(RunError::Failed { reason: "a value below zero".into() }),
        false => Ok(inputs),
    })
}

#[test]
fn a_bad_input_fails_alone() {
    for panics in [false, true] {
        run_async(async {
            let calls = Calls::new();
            let graph = touchy(panics);
            let (blocker, _blocked) = calls.block().await;
            let inputs = [1.0, 2.0, -3.0, 4.0, 5.0, -6.0, 7.0];
            let started: Vec<_> =
                inputs.iter().map(|value| calls.start(&graph, row(*value, 2), batching(32))).collect();
            settle().await;
            blocker.release();
            let mut counted = 0;
            for (value, call) in inputs.into_iter().zip(started) {
                match call.await.unwrap() {
                    Ok(computed) => {
                        assert!(value > 0.0);
                        assert_eq!(computed.outputs[0].1, row(value, 2));
                        counted += u64::from(computed.executions);
                    }
                    Err(ComputeError::Failed { .. }) => assert!(value < 0.0),
                    Err(error) => panic!("{error}"),
                }
            }
            let executions = graph.statistics().executions;
            assert!(executions > 2 && counted <= executions, "{counted} of {executions}");
        });
    }
}

#[test]
fn a_run_that_would_be_too_large_is_split() {
    run_async(async {
        let calls = Calls::new();
        let graph = rows(|inputs, limits| match inputs[0].shape()[0] * 100 > limits.max_tensor_bytes {
            true => Err(RunError::TooLarge {
                operator: "MatMul".into(),
                bytes: 0,
                limit: limits.max_tensor_bytes,
            }),
            false => Ok(inputs),
        });
        let (blocker, _blocked) = calls.block().await;
        let options =
            ComputeOptions { limits: RunLimits { max_tensor_bytes: 200, ..limits() }, ..batching(32) };
        let started: Vec<_> =
            (0..8).map(|n| calls.start(&graph, row(n as f32, 1), options.clone())).collect();
        let too_large = calls.start(&graph, row(9.0, 3), options.clone());
        settle().await;
        blocker.release();
        for (n, call) in started.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap().outputs[0].1, row(n as f32, 1));
        }
        assert!(matches!(too_large.await.unwrap(), Err(ComputeError::TooLarge { .. })));
    });
}

#[test]
fn outputs_with_another_number_of_rows_are_nobodys() {
    run_async(async {
        let calls = Calls::new();
        let graph = rows(|inputs, _| match inputs[0].shape()[0] {
            1 => Ok(inputs),
            _ => Ok(vec![row(99.0, 1)]),
        });
        let (blocker, _blocked) = calls.block().await;
        let started: Vec<_> = (0..3).map(|n| calls.start(&graph, row(n as f32, 1), batching(32))).collect();
        settle().await;
        blocker.release();
        for (n, call) in started.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap().outputs[0].1, row(n as f32, 1));
        }
    });
}

#[test]
fn who_gives_up_leaves_the_queue_and_makes_room() {
    run_async(async {
        let calls = Calls::new();
        let (graph, runs) = recording();
        let (blocker, _blocked) = calls.block().await;
        let mut options = batching(8);
        options.batching.max_queue_size = 2;
        // Each call has limits, and the flag in them, of its own.
        let options = || ComputeOptions { limits: limits(), ..options.clone() };
        let given_up = calls.start(&graph, row(1.0, 1), options());
        let stays = calls.start(&graph, row(2.0, 1), options());
        settle().await;
        let refused = calls.start(&graph, row(3.0, 1), options()).await.unwrap();
        assert_eq!(refused.unwrap_err(), ComputeError::Overloaded { waiting: 2 });
        given_up.abort();
        settle().await;
        let late = calls.start(&graph, row(4.0, 1), options());
        settle().await;
        blocker.release();
        assert_eq!(values(stays.await.unwrap())[0], 2.0);
        assert_eq!(values(late.await.unwrap())[0], 4.0);
        assert_eq!(*runs.lock(), [[2.0, 4.0]]);
        assert_eq!(graph.statistics().rejected, 1);
    });
}

#[test]
fn a_shared_run_stops_when_the_last_of_its_callers_gives_up() {
    run_async(async {
        let calls = Calls::new();
        let (running, stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (is_running, has_stopped) = (running.clone(), stopped.clone());
        let graph = rows(move |_, limits| {
            is_running.store(true, Ordering::SeqCst);
            loop {
                if let Err(error) = limits.check() {
                    has_stopped.store(error == RunError::Cancelled, Ordering::SeqCst);
                    return Err(error);
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let (blocker, _blocked) = calls.block().await;
        let options = || ComputeOptions { limits: limits(), ..batching(8) };
        let started: Vec<_> = (0..3).map(|n| calls.start(&graph, row(n as f32, 1), options())).collect();
        settle().await;
        blocker.release();
        wait_for(|| running.load(Ordering::SeqCst));
        let mut started = started.into_iter();
        for call in started.by_ref().take(2) {
            call.abort();
            settle().await;
        }
        thread::sleep(Duration::from_millis(20));
        assert!(!stopped.load(Ordering::SeqCst), "one caller still waits");
        started.for_each(|call| call.abort());
        settle().await;
        wait_for(|| stopped.load(Ordering::SeqCst));
    });
}

#[test]
fn who_is_late_is_late_alone() {
    run_async(async {
        let calls = Calls::new();
        let graph = rows(|inputs, _| {
            thread::sleep(Duration::from_millis(80));
            Ok(inputs)
        });
        let (blocker, _blocked) = calls.block().await;
        let soon = RunLimits::new(Instant::now() + Duration::from_millis(60), 1 << 20);
        let late = calls.start(&graph, row(1.0, 1), ComputeOptions { limits: soon, ..batching(8) });
        let patient = calls.start(&graph, row(2.0, 1), batching(8));
        settle().await;
        blocker.release();
        assert_eq!(late.await.unwrap().unwrap_err(), ComputeError::DeadlineExceeded);
        assert_eq!(values(patient.await.unwrap())[0], 2.0);
        assert_eq!(graph.statistics().executions, 1);
    });
}

#[test]
fn a_call_that_cannot_make_it_is_not_started() {
    run_async(async {
        let calls = Calls::new();
        let graph = rows(|inputs, _| {
            thread::sleep(Duration::from_millis(100));
            Ok(inputs)
        });
        calls.start(&graph, row(1.0, 1), batching(8)).await.unwrap().unwrap();
        let began = Instant::now();
        let soon = RunLimits::new(began + Duration::from_millis(50), 1 << 20);
        let refused = calls.start(&graph, row(1.0, 1), ComputeOptions { limits: soon, ..batching(8) }).await;
        assert_eq!(refused.unwrap().unwrap_err(), ComputeError::DeadlineExceeded);
        assert!(began.elapsed() < Duration::from_millis(50));
        assert_eq!(graph.statistics().executions, 1);
    });
}

#[test]
fn an_estimate_that_was_wrong_does_not_refuse_for_ever() {
    run_async(async {
        let calls = Calls::new();
        let was_slow = AtomicBool::new(false);
        let graph = rows(move |inputs, _| {
            if !was_slow.swap(true, Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(200));
            }
            Ok(inputs)
        });
        calls.start(&graph, row(1.0, 1), batching(8)).await.unwrap().unwrap();
        let mut refused = 0;
        loop {
            let soon = RunLimits::new(Instant::now() + Duration::from_millis(100), 1 << 20);
            match calls
                .start(&graph, row(1.0, 1), ComputeOptions { limits: soon, ..batching(8) })
                .await
                .unwrap()
            {
                Ok(_) => break,
                Err(error) => assert_eq!(error, ComputeError::DeadlineExceeded),
            }
            refused += 1;
            assert!(refused < 100);
        }
        assert!(refused > 5, "{refused}");
    });
}

#[test]
fn calls_wait_for_others_as_long_as_they_want_and_not_longer() {
    run_async(async {
        let calls = Calls::new();
        let (graph, runs) = recording();
        let waiting = |delay: u64| {
            let mut options = ComputeOptions { limits: limits(), ..batching(3) };
            options.batching.max_queue_delay = Duration::from_millis(delay);
            options
        };
        let began = Instant::now();
        let alone = calls.start(&graph, row(1.0, 1), waiting(30)).await.unwrap();
        assert!(alone.unwrap().queued >= Duration::from_millis(30));
        assert!(began.elapsed() >= Duration::from_millis(30));
        // Three rows fill a run: nobody waits for the hour.
        let started: Vec<_> =
            (2..=4).map(|n| calls.start(&graph, row(n as f32, 1), waiting(3_600_000))).collect();
        for call in started {
            call.await.unwrap().unwrap();
        }
        // One that waits less than the others takes them along.
        let patient = calls.start(&graph, row(5.0, 1), waiting(3_600_000));
        settle().await;
        let hasty = calls.start(&graph, row(6.0, 1), waiting(10));
        hasty.await.unwrap().unwrap();
        patient.await.unwrap().unwrap();
        assert_eq!(*runs.lock(), [vec![1.0], vec![2.0, 3.0, 4.0], vec![5.0, 6.0]]);
    });
}

#[test]
fn calls_that_wait_are_done_when_the_executor_goes() {
    run_async(async {
        let executor = Executor::new(1, BackgroundThreads::of_share(100)).unwrap();
        let (graph, runs) = recording();
        let mut options = batching(3);
        options.batching.max_queue_delay = Duration::from_secs(3_600);
        let waiting = executor.compute(&graph, vec![("x".into(), row(1.0, 1))], options);
        let mut waiting = Box::pin(waiting);
        assert!(crate::execution::poll_once(&mut waiting).await.is_none());
        drop(waiting);
        drop(executor);
        assert!(runs.lock().is_empty());
    });
}

#[test]
fn a_long_run_does_not_hold_up_short_ones() {
    run_async(async {
        let calls = Calls::new();
        let short = dependent_rows(|inputs, _| {
            thread::sleep(Duration::from_micros(300));
            Ok(inputs)
        });
        // Until it is known how short it is, which on a busy machine may take some runs.
        for _ in 0..50 {
            calls.start(&short, row(0.0, 1), batching(1)).await.unwrap().unwrap();
        }
        let (blocker, blocked) = calls.block().await;
        for _ in 0..20 {
            calls.start(&short, row(0.0, 1), batching(1)).await.unwrap().unwrap();
        }
        assert!(!blocked.is_finished());
        blocker.release();
        blocked.await.unwrap().unwrap();
    });
}

/// Where a shared run takes longer than the calls one by one, they go one by one; now and then it is tried again.
#[test]
fn what_gains_nothing_from_sharing_is_not_shared() {
    run_async(async {
        let calls = Calls::new();
        let (graph, runs) = recording_slow_when_shared();
        calls.start(&graph, row(0.0, 1), batching(2)).await.unwrap().unwrap();
        for _ in 0..3 {
            let (blocker, _blocked) = calls.block().await;
            let started: Vec<_> =
                (0..2).map(|n| calls.start(&graph, row(n as f32, 1), batching(2))).collect();
            settle().await;
            blocker.release();
            for call in started {
                call.await.unwrap().unwrap();
            }
        }
        let sizes: Vec<usize> = runs.lock().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 2, 1, 1, 1, 1]);
    });
}

/// Two may gain nothing from each other where eight gain much.
#[test]
fn a_run_that_gains_nothing_yet_may_grow_to_one_that_does() {
    run_async(async {
        let calls = Calls::new();
        let (graph, runs) = recording_slow_when_shared();
        calls.start(&graph, row(0.0, 1), batching(8)).await.unwrap().unwrap();
        for together in [2, 8, 8] {
            let (blocker, _blocked) = calls.block().await;
            let started: Vec<_> =
                (0..together).map(|n| calls.start(&graph, row(n as f32, 1), batching(8))).collect();
            settle().await;
            blocker.release();
            for call in started {
                call.await.unwrap().unwrap();
            }
        }
        let sizes: Vec<usize> = runs.lock().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 2, 8, 8]);
    });
}

fn recording_slow_when_shared() -> (Arc<Graph>, Runs) {
    let runs = Runs::default();
    let seen = runs.clone();
    let graph = rows(move |inputs, _| {
        let values = first_values(&inputs[0]);
        thread::sleep(Duration::from_millis(if (2..8).contains(&values.len()) { 200 } else { 20 }));
        seen.lock().push(values);
        Ok(inputs)
    });
    (graph, runs)
}
