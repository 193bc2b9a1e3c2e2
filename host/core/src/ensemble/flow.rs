//! Which step of a running ensemble is next, and which tensors are still needed. It knows tensors as values that can be
//! cloned, and neither clock nor thread: whoever owns it runs the steps, as many at once as there are.

use std::collections::{BTreeMap, BTreeSet};

use super::Ensemble;

/// Who gives what to whom, by index: made once of an ensemble that fits together.
#[derive(Clone, Debug)]
pub struct EnsemblePlan {
    /// The index of each tensor of a request.
    inputs: BTreeMap<String, usize>,
    outputs: Vec<(String, usize)>,
    steps: Vec<PlannedStep>,
    /// How many steps, and the answer, need each tensor.
    uses: Vec<usize>,
}

#[derive(Clone, Debug)]
struct PlannedStep {
    inputs: Vec<(String, usize)>,
    outputs: BTreeMap<String, usize>,
    /// Tensors, each counted once, that it waits for.
    needs: usize,
    has_request_input: bool,
}

/// One request on its way through a plan.
#[derive(Debug)]
pub struct EnsembleFlow<'a, T> {
    plan: &'a EnsemblePlan,
    /// Those that are there and still needed.
    tensors: Vec<Option<T>>,
    /// By whom each will be taken yet.
    uses: Vec<usize>,
    /// Tensors that each step waits for.
    missing: Vec<usize>,
    ready: Vec<usize>,
}

/// A step that can run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyStep<T> {
    /// Which one.
    pub step: usize,
    /// What its version takes.
    pub inputs: Vec<(String, T)>,
}

/// Tensors that are not those that were to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tensors of an ensemble are missing")]
pub struct UnexpectedTensors;

impl EnsemblePlan {
    /// The plan of an ensemble whose steps were found to fit together.
    pub fn new(ensemble: &Ensemble) -> EnsemblePlan {
        let mut indices: BTreeMap<&str, usize> = BTreeMap::new();
        let mut uses = Vec::new();
        let mut index_of = |name| {
            *indices.entry(name).or_insert_with(|| {
                uses.push(0_usize);
                uses.len() - 1
            })
        };
        let inputs: BTreeMap<String, usize> =
            ensemble.inputs.iter().map(|name| (name.clone(), index_of(name))).collect();
        let of_request: BTreeSet<usize> = inputs.values().copied().collect();
        let mut steps = Vec::with_capacity(ensemble.steps.len());
        for step in &ensemble.steps {
            let inputs: Vec<(String, usize)> =
                step.inputs.iter().map(|(input, name)| (input.clone(), index_of(name))).collect();
            let needed: BTreeSet<usize> = inputs.iter().map(|(_, index)| *index).collect();
            steps.push(PlannedStep {
                needs: needed.len(),
                has_request_input: !needed.is_disjoint(&of_request),
                inputs,
                outputs: step.outputs.iter().map(|(output, name)| (output.clone(), index_of(name))).collect(),
            });
        }
        let outputs: Vec<(String, usize)> =
            ensemble.outputs.iter().map(|name| (name.clone(), index_of(name))).collect();
        let takers = steps.iter().flat_map(|step| &step.inputs).chain(&outputs);
        takers.for_each(|(_, index)| {
            if let Some(uses) = uses.get_mut(*index) {
                *uses += 1;
            }
        });
        EnsemblePlan { inputs, outputs, steps, uses }
    }

    /// Whether something that a request brings goes into this step as it is.
    pub fn has_request_input(&self, step: usize) -> bool {
        self.steps.get(step).is_some_and(|step| step.has_request_input)
    }

    /// Begins a request.
    pub fn start<T: Clone>(&self, inputs: Vec<(String, T)>) -> EnsembleFlow<'_, T> {
        let missing: Vec<usize> = self.steps.iter().map(|step| step.needs).collect();
        let waits_for_nothing = |index: &usize| missing.get(*index) == Some(&0);
        let ready = (0..missing.len()).filter(waits_for_nothing).collect();
        let tensors = self.uses.iter().map(|_| None).collect();
        let mut flow = EnsembleFlow { plan: self, tensors, uses: self.uses.clone(), missing, ready };
        for (name, tensor) in inputs {
            if let Some(index) = self.inputs.get(&name) {
                flow.arrive(*index, tensor);
            }
        }
        flow
    }
}

impl<T: Clone> EnsembleFlow<'_, T> {
    /// A step whose inputs are all there, each of them the last one where nobody else needs it. None: wait for a step to
    /// end.
    ///
    /// # Errors
    /// [`UnexpectedTensors`] where a tensor is not there after all.
    pub fn next_ready(&mut self) -> Result<Option<ReadyStep<T>>, UnexpectedTensors> {
        let Some(step) = self.ready.pop() else { return Ok(None) };
        let plan = self.plan;
        let planned = plan.steps.get(step).ok_or(UnexpectedTensors)?;
        let inputs: Option<Vec<_>> =
            planned.inputs.iter().map(|(name, index)| Some((name.clone(), self.take(*index)?))).collect();
        Ok(Some(ReadyStep { step, inputs: inputs.ok_or(UnexpectedTensors)? }))
    }

    /// Takes what a step answered, and drops what nobody needs.
    pub fn finish(&mut self, step: usize, outputs: Vec<(String, T)>) {
        let Some(planned) = self.plan.steps.get(step) else { return };
        for (name, tensor) in outputs {
            if let Some(index) = planned.outputs.get(&name) {
                self.arrive(*index, tensor);
            }
        }
    }

    /// What the ensemble answers, when all steps have ended.
    ///
    /// # Errors
    /// [`UnexpectedTensors`] where a step has not ended or not answered what it was to.
    pub fn into_outputs(mut self) -> Result<Vec<(String, T)>, UnexpectedTensors> {
        let plan = self.plan;
        let take = |(name, index): &(String, usize)| Some((name.clone(), self.take(*index)?));
        let outputs: Option<Vec<_>> = plan.outputs.iter().map(take).collect();
        outputs.ok_or(UnexpectedTensors)
    }

    fn arrive(&mut self, index: usize, tensor: T) {
        let Some(place) = self.tensors.get_mut(index) else { return };
        if place.replace(tensor).is_some() {
            return;
        }
        for (step, planned) in self.plan.steps.iter().enumerate() {
            let Some(missing) = self.missing.get_mut(step) else { continue };
            if planned.inputs.iter().any(|(_, needed)| *needed == index) {
                *missing = missing.saturating_sub(1);
                if *missing == 0 {
                    self.ready.push(step);
                }
            }
        }
    }

    /// The last to need it gets it itself.
    fn take(&mut self, index: usize) -> Option<T> {
        let (uses, place) = (self.uses.get_mut(index)?, self.tensors.get_mut(index)?);
        *uses = uses.saturating_sub(1);
        if *uses == 0 { place.take() } else { place.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::examples::{ensemble, step};
    use super::*;
    use crate::{Datatype, Tensor};

    fn tensor(data: &Bytes, owner: &Arc<Vec<u8>>) -> Tensor {
        let tensor = Tensor::new(Datatype::Uint8, vec![data.len() as u64], data.clone()).unwrap();
        tensor.with_owner(owner.clone())
    }

    #[test]
    fn tensors_are_passed_on_and_never_copied() {
        let diamond = ensemble(
            &["in"],
            &["out"],
            [
                step("first", "x:in", "y:mid"),
                step("left", "x:mid", "y:l"),
                step("right", "x:mid", "y:r"),
                step("last", "a:l b:r", "y:out"),
            ],
        );
        let plan = EnsemblePlan::new(&diamond);
        let owner = Arc::new(vec![7_u8; 64]);
        let data = Bytes::from(owner.to_vec());
        let mut flow = plan.start(vec![("in".to_owned(), tensor(&data, &owner))]);
        let mut order = Vec::new();
        while let Some(ReadyStep { step, inputs }) = flow.next_ready().unwrap() {
            for (_, input) in &inputs {
                assert_eq!(input.data().as_ptr(), data.as_ptr());
                assert!(Arc::ptr_eq(&input.owner::<Vec<u8>>().unwrap(), &owner));
            }
            order.push(step);
            let (_, first) = inputs.into_iter().next().unwrap();
            flow.finish(step, vec![("y".to_owned(), first)]);
        }
        assert!(order == [0, 1, 2, 3] || order == [0, 2, 1, 3], "{order:?}");
        let outputs = flow.into_outputs().unwrap();
        assert_eq!(outputs[0].1.data().as_ptr(), data.as_ptr());
        assert_eq!((outputs.len(), Arc::strong_count(&owner)), (1, 2));
    }

    #[test]
    fn a_tensor_goes_when_the_last_that_needs_it_has_it() {
        let chain = ensemble(
            &["in"],
            &["out"],
            [step("a", "x:in", "y:t"), step("b", "x:t", "y:u"), step("c", "x:u z:in", "y:out")],
        );
        let plan = EnsemblePlan::new(&chain);
        let request = Arc::new(());
        let mut flow = plan.start(vec![("in".to_owned(), request.clone())]);
        let first = flow.next_ready().unwrap().unwrap();
        assert_eq!((first.step, Arc::strong_count(&request)), (0, 3));
        assert_eq!(flow.next_ready(), Ok(None));
        drop(first);
        let between = Arc::new(());
        // What the ensemble does not name is dropped at once.
        flow.finish(0, vec![("y".to_owned(), between.clone()), ("other".to_owned(), between.clone())]);
        assert_eq!(Arc::strong_count(&between), 2);
        let second = flow.next_ready().unwrap().unwrap();
        drop(second);
        assert_eq!((Arc::strong_count(&between), Arc::strong_count(&request)), (1, 2));
        flow.finish(1, vec![("y".to_owned(), Arc::new(()))]);
        assert_eq!(flow.next_ready().unwrap().map(|last| last.inputs.len()), Some(2));
        assert_eq!(Arc::strong_count(&request), 1);
        assert_eq!(flow.into_outputs(), Err(UnexpectedTensors));
    }

    #[test]
    fn blame_needs_to_know_what_comes_from_the_request() {
        let chain = ensemble(
            &["in"],
            &["out"],
            [step("a", "x:in", "y:t"), step("b", "x:t", "y:u"), step("c", "x:u z:in", "y:out")],
        );
        let plan = EnsemblePlan::new(&chain);
        assert_eq!([0, 1, 2].map(|step| plan.has_request_input(step)), [true, false, true]);
    }
}
