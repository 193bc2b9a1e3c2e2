//! Any interleaving of calls gives each the result that it has alone: real networks, whose rows can be told apart, random
//! sizes, priorities and policies, inputs that fail, callers that give up.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use modelhost_core::{Datatype, Digest, EngineName, Tensor, TensorDescription};
use modelhost_inference::{
    BackgroundThreads, BatchingPolicy, CallerThreads, Company, ComputeError, ComputeOptions, ExecutableGraph,
    Executor, Graph, Priority, RunError, RunLimits,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::runtime::Builder;
use tract_onnx::pb::tensor_proto::DataType;

use crate::onnx::{Fixed, GraphBuilder, Named, linear};
use crate::scripted::Blocker;
use crate::values::{floats, limits, load};

/// Looks each index up in a table of seven rows: any other index fails.
fn embedding() -> Vec<u8> {
    let table: Vec<f32> = (0..28).map(|value| value as f32 * 1.5).collect();
    GraphBuilder::new()
        .input("ids", DataType::Int64, &[Named("n"), Named("s")])
        .floats("table", &[7, 4], &table)
        .node("Gather", &["table", "ids"], &["y"])
        .output("y", DataType::Float, &[Named("n"), Named("s"), Fixed(4)])
        .build()
}

/// A network that takes a little longer than it does: long enough for a shared run to be worth it.
struct Slowed(Arc<dyn ExecutableGraph>);

impl ExecutableGraph for Slowed {
    fn inputs(&self) -> &[TensorDescription] {
        self.0.inputs()
    }

    fn outputs(&self) -> &[TensorDescription] {
        self.0.outputs()
    }

    fn resident_bytes(&self) -> u64 {
        self.0.resident_bytes()
    }

    fn rows_are_independent(&self) -> bool {
        self.0.rows_are_independent()
    }

    fn time_follows_from_extents(&self) -> bool {
        self.0.time_follows_from_extents()
    }

    fn run(&self, inputs: Vec<Tensor>, limits: &RunLimits) -> Result<Vec<Tensor>, RunError> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(25) {}
        self.0.run(inputs, limits)
    }
}

/// The thread of a test, on which all its calls take turns.
struct OneThread(Company);

impl CallerThreads for OneThread {
    fn company(&self) -> Company {
        self.0
    }

    fn after_those_ready(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::spawn(async move { work() });
    }
}

/// The same for the same company: calls share a run only with those of the same threads.
fn one_thread(company: Company) -> Arc<dyn CallerThreads> {
    thread_local!(static THREADS: [Arc<OneThread>; 3] =
        [Company::Nobody, Company::Others, Company::SameModel].map(|company| Arc::new(OneThread(company))));
    THREADS.with(|threads| threads[company as usize].clone())
}

fn graph(onnx: &[u8]) -> Arc<Graph> {
    let graph = Graph::new(Digest::of(onnx), EngineName::Tract, Arc::new(Slowed(load(onnx).unwrap())));
    assert!(graph.is_batchable());
    Arc::new(graph)
}

#[derive(Clone, Debug)]
struct Case {
    rows: u64,
    length: u64,
    seed: u64,
    is_bad: bool,
    priority: u32,
    gives_up: bool,
    max_batch_size: u32,
    company: Option<Company>,
}

impl Case {
    fn input(&self) -> Tensor {
        let count = self.rows * self.length;
        let id = |index: u64| match self.is_bad && index == count - 1 {
            true => 99,
            false => ((index + self.seed) % 7) as i64,
        };
        let data: Vec<u8> = (0..count).flat_map(|index| id(index).to_le_bytes()).collect();
        Tensor::new(Datatype::Int64, vec![self.rows, self.length], data.into()).unwrap()
    }

    fn fails(&self) -> bool {
        self.is_bad && self.rows > 0
    }

    fn options(&self) -> ComputeOptions {
        // A delay keeps calls, which are quick, from running on the thread that makes them.
        let delay = if self.company.is_some() { 0 } else { self.seed % 3 * 50 + 1 };
        let batching = BatchingPolicy {
            max_batch_size: self.max_batch_size,
            max_queue_delay: Duration::from_micros(delay),
            max_queue_size: usize::MAX,
        };
        let threads = self.company.map(one_thread);
        let priority = Priority(self.priority);
        ComputeOptions { batching, priority, threads, ..ComputeOptions::alone(limits()) }
    }
}

fn case() -> impl Strategy<Value = Case> {
    let company = prop_oneof![
        1 => Just(None),
        1 => Just(Some(Company::Nobody)),
        1 => Just(Some(Company::Others)),
        3 => Just(Some(Company::SameModel)),
    ];
    (0_u64..5, 1_u64..3, 0_u64..100, 0_u32..8, 1_u32..4, 0_u32..8, 1_u32..12, company).prop_map(
        |(rows, length, seed, bad, priority, gives_up, max_batch_size, company)| Case {
            rows,
            length,
            seed,
            is_bad: bad == 0,
            priority,
            gives_up: gives_up == 0,
            max_batch_size,
            company,
        },
    )
}

/// So that it is known how quick they are.
async fn run_each_size(executor: &Executor, graph: &Arc<Graph>) {
    for (rows, length) in (0..5).flat_map(|rows| (1..3).map(move |length| (rows, length))) {
        let ids =
            Tensor::new(Datatype::Int64, vec![rows, length], vec![0; (8 * rows * length) as usize].into())
                .unwrap();
        executor.compute(graph, vec![("ids".into(), ids)], ComputeOptions::alone(limits())).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_call_gets_the_result_that_it_has_alone(
        cases in vec(case(), 1..40),
        threads in 1_usize..4,
        is_blocked in any::<bool>(),
    ) {
        let graph = graph(&embedding());
        let alone = load(&embedding()).unwrap();
        let executor = Arc::new(Executor::new(threads, BackgroundThreads::of_share(100)).unwrap());
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(run_each_size(&executor, &graph));
        let known = graph.statistics().executions;
        let answers = runtime.block_on(async {
            let blocker = Blocker::new();
            let blocked: Vec<_> = (0..threads).map(|_| {
                let (executor, graph) = (executor.clone(), blocker.graph.clone());
                tokio::spawn(async move { executor.compute(&graph, Vec::new(), ComputeOptions::alone(limits())).await })
            }).collect();
            if !is_blocked {
                blocker.release();
            }
            tokio::task::yield_now().await;
            let started: Vec<_> = cases.iter().map(|case| {
                let (executor, graph) = (executor.clone(), graph.clone());
                let (input, options) = (case.input(), case.options());
                tokio::spawn(async move { executor.compute(&graph, vec![("ids".into(), input)], options).await })
            }).collect();
            tokio::task::yield_now().await;
            for (case, call) in cases.iter().zip(&started) {
                if case.gives_up {
                    call.abort();
                }
            }
            blocker.release();
            let mut answers = Vec::new();
            for call in started {
                answers.push(call.await.ok());
            }
            for call in blocked {
                call.await.unwrap().unwrap();
            }
            answers
        });
        let mut executions = 0;
        for (case, answer) in cases.iter().zip(answers) {
            let Some(answer) = answer else {
                prop_assert!(case.gives_up);
                continue;
            };
            match answer {
                Ok(computed) => {
                    executions += u64::from(computed.executions);
                    let expected = alone.run(vec![case.input()], &limits()).unwrap();
                    prop_assert_eq!(&computed.outputs[0].1, &expected[0]);
                }
                Err(error) => {
                    prop_assert!(case.fails(), "{error}");
                    prop_assert!(matches!(error, ComputeError::Failed { .. }), "{error}");
                }
            }
        }
        prop_assert!(executions <= graph.statistics().executions - known);
    }
}

/// Many threads at once, each with rows of its own: `y` of linear is exact in any order of addition.
#[test]
fn many_threads_never_see_each_others_rows() {
    let graph = graph(&linear().build());
    let executor = Executor::new(2, BackgroundThreads::of_share(100)).unwrap();
    let call = |thread: u64, round: u64| {
        let rows = round % 5 + 1;
        let value = |row: u64| (thread * 1_000 + round * 5 + row) as f32;
        let inputs: Vec<f32> = (0..rows).flat_map(|row| [value(row), 1.0, 0.0]).collect();
        let expected: Vec<f32> =
            (0..rows).flat_map(|row| [value(row) + 13.0, 2.0 * value(row) + 24.0]).collect();
        let batching = BatchingPolicy {
            max_batch_size: 16,
            max_queue_delay: Duration::from_micros(1),
            max_queue_size: usize::MAX,
        };
        let options = ComputeOptions { batching, ..ComputeOptions::alone(limits()) };
        (floats(&[rows, 3], &inputs), floats(&[rows, 2], &expected), options)
    };
    thread::scope(|scope| {
        for number in 0..8 {
            let (graph, executor, call) = (&graph, &executor, &call);
            scope.spawn(move || {
                let runtime = Builder::new_current_thread().build().unwrap();
                for round in 0..300 {
                    let (input, expected, options) = call(number, round);
                    let computed =
                        runtime.block_on(executor.compute(graph, vec![("x".into(), input)], options));
                    assert_eq!(computed.unwrap().outputs[0].1, expected);
                }
            });
        }
    });
    let counted = graph.statistics();
    assert_eq!((counted.requests, counted.rows), (2_400, 7_200));
    assert!(counted.executions < counted.requests, "{counted:?}");
}
