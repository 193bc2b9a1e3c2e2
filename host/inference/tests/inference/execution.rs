//! Where graphs run, and how a run ends that does not end by itself.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_core::{Datatype, Digest, EngineName, Tensor};
use modelhost_inference::{
    BackgroundThreads, ComputeError, ComputeOptions, Executor, Graph, RunError, RunLimits,
};
use tokio::runtime::Builder;

use crate::onnx::{linear, slow};
use crate::scripted::{scripted, wait_for};
use crate::values::{floats, limits, load, to_floats, zeros};

fn graph(onnx: &[u8]) -> Arc<Graph> {
    Arc::new(Graph::new(Digest::of(onnx), EngineName::Tract, load(onnx).unwrap()))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().build().unwrap().block_on(future)
}

fn named(tensor: Tensor) -> Vec<(String, Tensor)> {
    vec![("x".into(), tensor)]
}

#[test]
fn outputs_have_their_names() {
    let executor = Executor::new(2, BackgroundThreads::of_share(100)).unwrap();
    let graph = graph(&linear().build());
    for _ in 0..100 {
        let inputs = named(floats(&[1, 3], &[1.0, 1.0, 1.0]));
        let computed = block_on(executor.compute(&graph, inputs, ComputeOptions::alone(limits()))).unwrap();
        assert_eq!(computed.outputs[0].0, "y");
        assert_eq!(to_floats(&computed.outputs[0].1), [19.0, 32.0]);
    }
}

#[test]
fn wrong_inputs_are_the_callers_fault() {
    let executor = Executor::new(1, BackgroundThreads::of_share(100)).unwrap();
    let graph = graph(&linear().build());
    let cases = [
        (vec![], "input \"x\" is missing"),
        (vec![("z".to_owned(), zeros(Datatype::Fp32, &[1, 3]))], "input \"z\" is not known"),
        (named(zeros(Datatype::Fp64, &[1, 3])), "has datatype FP64: expected FP32"),
        (named(zeros(Datatype::Fp32, &[1, 4])), "has shape [1, 4]: expected [-1, 3]"),
        (named(zeros(Datatype::Fp32, &[3])), "has shape [3]"),
    ];
    for (inputs, sentence) in cases {
        match block_on(executor.compute(&graph, inputs, ComputeOptions::alone(limits()))) {
            Err(ComputeError::InvalidInput { reason }) => assert!(reason.contains(sentence), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_run_stops_at_its_deadline() {
    let executor = Executor::new(1, BackgroundThreads::of_share(100)).unwrap();
    let onnx = slow(400).build();
    let graph = graph(&onnx);
    let inputs = vec![("x0".into(), zeros(Datatype::Fp32, &[512, 512]))];
    let started = Instant::now();
    let limits = RunLimits::new(started + Duration::from_millis(60), 1 << 30);
    let result = block_on(executor.compute(&graph, inputs, ComputeOptions::alone(limits)));
    assert_eq!(result.unwrap_err(), ComputeError::DeadlineExceeded);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn a_panic_is_one_failed_run() {
    let executor = Executor::new(1, BackgroundThreads::of_share(100)).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let graph = scripted(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => panic!("as text"),
        1 => panic_any(7),
        _ => Ok(Vec::new()),
    });
    for _ in 0..2 {
        let result = block_on(executor.compute(&graph, Vec::new(), ComputeOptions::alone(limits())));
        assert!(matches!(result, Err(ComputeError::Failed { .. })), "{result:?}");
    }
    assert!(block_on(executor.compute(&graph, Vec::new(), ComputeOptions::alone(limits()))).is_ok());
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[test]
fn a_caller_that_gave_up_stops_its_run() {
    let executor = Executor::new(1, BackgroundThreads::of_share(100)).unwrap();
    let (started, stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (has_started, has_stopped) = (started.clone(), stopped.clone());
    let graph = scripted(move |limits| {
        has_started.store(true, Ordering::SeqCst);
        loop {
            if let Err(error) = limits.check() {
                has_stopped.store(error == RunError::Cancelled, Ordering::SeqCst);
                return Err(error);
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    block_on(async {
        let mut compute = Box::pin(executor.compute(&graph, Vec::new(), ComputeOptions::alone(limits())));
        while !started.load(Ordering::SeqCst) {
            assert!(poll_once(&mut compute).await.is_none());
        }
        drop(compute);
    });
    wait_for(|| stopped.load(Ordering::SeqCst));
}

#[test]
fn a_queued_job_is_not_started_when_its_caller_gave_up_or_its_deadline_passed() {
    let executor = Executor::new(1, BackgroundThreads::of_share(100)).unwrap();
    let release = Arc::new(AtomicBool::new(false));
    let released = release.clone();
    let blocker = scripted(move |_| {
        while !released.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Vec::new())
    });
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let counting = scripted(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    });
    block_on(async {
        let mut blocking = Box::pin(executor.compute(&blocker, Vec::new(), ComputeOptions::alone(limits())));
        assert!(poll_once(&mut blocking).await.is_none());
        let mut given_up = Box::pin(executor.compute(&counting, Vec::new(), ComputeOptions::alone(limits())));
        assert!(poll_once(&mut given_up).await.is_none());
        drop(given_up);
        let soon = RunLimits::new(Instant::now() + Duration::from_millis(20), 1 << 20);
        let mut late = Box::pin(executor.compute(&counting, Vec::new(), ComputeOptions::alone(soon)));
        assert!(poll_once(&mut late).await.is_none());
        thread::sleep(Duration::from_millis(40));
        release.store(true, Ordering::SeqCst);
        assert_eq!(late.await.unwrap_err(), ComputeError::DeadlineExceeded);
        assert!(blocking.await.is_ok());
    });
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

/// Polls once.
pub async fn poll_once<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    let result = std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    });
    result.await
}

#[test]
fn slow_graphs_leave_the_calling_thread_and_quick_ones_stay() {
    let executor = Executor::new(1, BackgroundThreads::of_share(100)).unwrap();
    let caller = thread::current().id();
    for (pause, stays) in [(Duration::ZERO, true), (Duration::from_millis(2), false)] {
        let last = Arc::new(parking_lot::Mutex::new(None));
        let seen = last.clone();
        let graph = scripted(move |_| {
            thread::sleep(pause);
            *seen.lock() = Some(thread::current().id());
            Ok(Vec::new())
        });
        block_on(executor.compute(&graph, Vec::new(), ComputeOptions::alone(limits()))).unwrap();
        assert_ne!(*last.lock(), Some(caller), "the first run is not known to be quick");
        for _ in 0..50 {
            block_on(executor.compute(&graph, Vec::new(), ComputeOptions::alone(limits()))).unwrap();
        }
        assert_eq!(*last.lock() == Some(caller), stays, "{pause:?}");
    }
}

/// Prints what a hop to another thread costs: `cargo test --release -p modelhost-inference -- --ignored --nocapture cost_of`.
#[test]
#[ignore = "prints times and demands nothing of them"]
fn cost_of_inline_and_of_a_hop() {
    let executor = Executor::new(1, BackgroundThreads::of_share(100)).unwrap();
    let onnx = linear().build();
    let engine = load(&onnx).unwrap();
    let graph = graph(&onnx);
    let input = floats(&[1, 3], &[1.0, 1.0, 1.0]);
    let direct = median(2_000, || {
        engine.run(vec![input.clone()], &limits()).unwrap();
    });
    let inline = median(2_000, || {
        block_in_place(executor.compute(&graph, named(input.clone()), ComputeOptions::alone(limits())))
            .unwrap();
    });
    let hop = median(500, || {
        // A graph that nobody ran before goes to the executor's thread.
        let fresh = scripted(|_| Ok(Vec::new()));
        block_in_place(executor.compute(&fresh, Vec::new(), ComputeOptions::alone(limits()))).unwrap();
    });
    println!(
        "linear 3→2: engine {direct:?}, compute on the calling thread {inline:?}; empty run on a worker {hop:?}"
    );
}

/// Without a runtime: its start would be measured too.
fn block_in_place<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => thread::park(),
        }
    }
}

fn median(runs: usize, mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}
