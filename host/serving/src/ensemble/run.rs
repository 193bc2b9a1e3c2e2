//! One request on its way through a pipeline: each step is called as soon as its inputs are there, and gets the very tensors
//! that earlier steps gave. It knows nothing of what a step is.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use modelhost_core::{EnsemblePlan, ReadyStep, Tensor, UnexpectedTensors};
use modelhost_runtime::{MemoryBudget, MemoryShare, NamedTensors};

/// A tensor between steps, with the memory that is counted for it.
#[derive(Clone)]
pub(super) struct Held {
    tensor: Tensor,
    /// None for what the request brought, which is counted elsewhere.
    share: Option<Arc<MemoryShare>>,
}

/// Why a pipeline gave no answer.
#[derive(Debug)]
pub(super) enum Failed<E> {
    Step {
        step: usize,
        error: E,
    },
    /// What this step answered is more than may be held now.
    Memory {
        step: usize,
    },
    Missing(UnexpectedTensors),
}

impl<E> From<UnexpectedTensors> for Failed<E> {
    fn from(missing: UnexpectedTensors) -> Failed<E> {
        Failed::Missing(missing)
    }
}

/// Answers the outputs of the pipeline, in their order.
///
/// # Errors
/// The first step that fails, whereupon the others that run are dropped.
pub(super) async fn run<E, F: Future<Output = Result<NamedTensors, E>>>(
    plan: &EnsemblePlan,
    memory: &Arc<MemoryBudget>,
    inputs: NamedTensors,
    call: impl Fn(usize, NamedTensors) -> F,
) -> Result<NamedTensors, Failed<E>> {
    let of_request = inputs.into_iter().map(|(name, tensor)| (name, Held { tensor, share: None }));
    let mut flow = plan.start(of_request.collect());
    let mut running = FuturesUnordered::new();
    loop {
        while let Some(ReadyStep { step, inputs }) = flow.next_ready()? {
            let (shares, inputs) = apart(inputs);
            let answer = call(step, inputs);
            running.push(async move {
                let answer = answer.await;
                drop(shares);
                (step, answer)
            });
        }
        let Some((step, answer)) = running.next().await else { break };
        let outputs = answer.map_err(|error| Failed::Step { step, error })?;
        let outputs: Option<Vec<(String, Held)>> =
            outputs.into_iter().map(|(name, tensor)| Some((name, hold(memory, tensor)?))).collect();
        flow.finish(step, outputs.ok_or(Failed::Memory { step })?);
    }
    let (_, outputs) = apart(flow.into_outputs()?);
    Ok(outputs)
}

fn hold(memory: &Arc<MemoryBudget>, tensor: Tensor) -> Option<Held> {
    let mut share = MemoryShare::new(memory.clone());
    share.grow_to(tensor.data().len()).then(|| Held { tensor, share: Some(Arc::new(share)) })
}

fn apart(held: Vec<(String, Held)>) -> (Vec<Option<Arc<MemoryShare>>>, NamedTensors) {
    held.into_iter().map(|(name, Held { tensor, share })| (share, (name, tensor))).unzip()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use modelhost_core::{Datatype, Digest, Ensemble, EnsembleStep, VersionNumber};
    use tokio::sync::Barrier;

    use super::*;

    /// `in` → first → `t` → left and right → last → `out`.
    fn diamond() -> EnsemblePlan {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let step = |inputs, output| EnsembleStep {
            model: "m".parse().unwrap(),
            version: VersionNumber(1),
            digest: Digest::of(b""),
            inputs: map(inputs),
            outputs: map(&[("y", output)]),
        };
        EnsemblePlan::new(&Ensemble {
            inputs: vec!["in".to_owned()],
            outputs: vec!["out".to_owned()],
            steps: vec![
                step(&[("x", "in")], "t"),
                step(&[("x", "t")], "l"),
                step(&[("x", "t")], "r"),
                step(&[("a", "l"), ("b", "r")], "out"),
            ],
        })
    }

    fn bytes(length: usize) -> NamedTensors {
        let tensor = Tensor::new(Datatype::Uint8, vec![length as u64], vec![0; length].into()).unwrap();
        vec![("in".to_owned(), tensor)]
    }

    fn answer(inputs: NamedTensors) -> Result<NamedTensors, String> {
        let (_, tensor) = inputs.into_iter().next().unwrap();
        Ok(vec![("y".to_owned(), tensor)])
    }

    #[tokio::test]
    async fn branches_run_at_once_and_nothing_is_copied() {
        let (plan, memory) = (diamond(), MemoryBudget::of_host(1_000));
        let both = Barrier::new(2);
        let inputs = bytes(100);
        let address = inputs[0].1.data().as_ptr();
        let call = |step: usize, inputs: NamedTensors| {
            let both = &both;
            async move {
                assert!(inputs.iter().all(|(_, tensor)| tensor.data().as_ptr() == address));
                if step == 1 || step == 2 {
                    // Each waits for the other.
                    both.wait().await;
                }
                answer(inputs)
            }
        };
        let outputs = run(&plan, &memory, inputs, call);
        let outputs = tokio::time::timeout(Duration::from_secs(30), outputs).await.unwrap().unwrap();
        assert_eq!((outputs[0].0.as_str(), outputs[0].1.data().as_ptr()), ("out", address));
        // What one branch gave beside what the other still has, and then what both gave.
        assert_eq!((memory.used(), memory.peak()), (0, 200));
    }

    #[tokio::test]
    async fn what_waits_between_steps_is_counted_and_limited() {
        let (plan, memory) = (diamond(), MemoryBudget::of_host(150));
        let run = run(&plan, &memory, bytes(100), |_, inputs| async move { answer(inputs) });
        match run.await {
            Err(Failed::Memory { step }) => assert!(step == 1 || step == 2),
            other => panic!("{:?}", other.map(|outputs| outputs.len())),
        }
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn one_failure_and_one_hang_up_end_all_steps() {
        struct Ended<'a>(&'a std::sync::atomic::AtomicUsize);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let (plan, memory) = (diamond(), MemoryBudget::of_host(1_000));
        for fails in [true, false] {
            let ended = std::sync::atomic::AtomicUsize::new(0);
            let call = |step: usize, inputs: NamedTensors| {
                let ended = &ended;
                async move {
                    let _ended = Ended(ended);
                    match step {
                        0 => answer(inputs),
                        1 if fails => Err("no".to_owned()),
                        _ => std::future::pending().await,
                    }
                }
            };
            let mut running = Box::pin(run(&plan, &memory, bytes(10), call));
            match (&mut running).now_or_never() {
                Some(outcome) => {
                    assert!(
                        fails && matches!(outcome, Err(Failed::Step { step: 1, error }) if error == "no")
                    );
                }
                None => assert!(!fails),
            }
            drop(running);
            assert_eq!(ended.into_inner(), 3);
            assert_eq!(memory.used(), 0);
        }
    }
}
