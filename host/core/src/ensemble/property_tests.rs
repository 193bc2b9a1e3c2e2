//! Any pipeline that fits together runs to its end, in whatever order steps end, and gives what running its steps one by one
//! gives; any pipeline that does not is refused.

use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use proptest::sample::Index;

use super::examples::{ensemble, signature};
use super::{Ensemble, EnsemblePlan, EnsembleStep, ReadyStep};
use crate::{Digest, Signature, VersionNumber};

/// Inputs of the ensemble, and for each step what it takes of the tensors before it and how many it produces.
type Drawn = (usize, Vec<(Vec<Index>, usize)>, Vec<Index>);

fn drawn() -> impl Strategy<Value = Drawn> {
    let step = (prop::collection::vec(any::<Index>(), 0..4), 1..4_usize);
    (1..4_usize, prop::collection::vec(step, 1..20), prop::collection::vec(any::<Index>(), 20))
}

/// The steps in some order, with all tensors named and described; what is left over is the answer.
fn build((inputs, steps, order): &Drawn) -> (Ensemble, Vec<Signature>) {
    let mut tensors: Vec<String> = (0..*inputs).map(|index| format!("in{index}")).collect();
    let mut used = BTreeMap::new();
    let mut built: Vec<(EnsembleStep, Signature)> = Vec::new();
    for (number, (takes, gives)) in steps.iter().enumerate() {
        // The first step takes all inputs, so that none is unused.
        let takes: Vec<String> = match number {
            0 => tensors.clone(),
            _ => takes.iter().map(|index| index.get(&tensors).clone()).collect(),
        };
        takes.iter().for_each(|name| *used.entry(name.clone()).or_insert(0) += 1);
        let given: Vec<String> = (0..*gives).map(|output| format!("t{number}-{output}")).collect();
        let named = |prefix: &str, names: &[String]| -> BTreeMap<String, String> {
            names.iter().enumerate().map(|(index, name)| (format!("{prefix}{index}"), name.clone())).collect()
        };
        let (inputs, outputs) = (named("x", &takes), named("y", &given));
        let described = |map: &BTreeMap<String, String>| -> Vec<(String, &str)> {
            map.keys().map(|name| (name.clone(), "FP32 -1")).collect()
        };
        let (described_inputs, described_outputs) = (described(&inputs), described(&outputs));
        fn borrowed<'a>(described: &'a [(String, &'a str)]) -> Vec<(&'a str, &'a str)> {
            described.iter().map(|(name, described)| (name.as_str(), *described)).collect()
        }
        let signature = signature(&borrowed(&described_inputs), &borrowed(&described_outputs));
        let model = format!("m{number}");
        let digest = Digest::of(model.as_bytes());
        let step = EnsembleStep {
            model: model.parse().unwrap(),
            version: VersionNumber(1),
            digest,
            inputs,
            outputs,
        };
        built.insert(order[number].index(built.len() + 1), (step, signature));
        tensors.extend(given);
    }
    let answered: Vec<&str> =
        tensors[*inputs..].iter().filter(|name| !used.contains_key(*name)).map(String::as_str).collect();
    let names: Vec<&str> = tensors[..*inputs].iter().map(String::as_str).collect();
    let (steps, signatures): (Vec<_>, Vec<_>) = built.into_iter().unzip();
    (ensemble(&names, &answered, steps), signatures)
}

/// What a version makes of its inputs: a text that tells them all.
fn call(step: &EnsembleStep, inputs: &BTreeMap<&str, &str>) -> Vec<(String, String)> {
    let said: Vec<String> = inputs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    // The texts would double with each step.
    let digest = Digest::of(said.join(",").as_bytes());
    step.outputs.keys().map(|output| (output.clone(), format!("{}.{output}({digest})", step.model))).collect()
}

/// One by one, again and again, each that can run.
fn by_hand(ensemble: &Ensemble) -> BTreeMap<String, String> {
    let mut known: BTreeMap<String, String> =
        ensemble.inputs.iter().map(|name| (name.clone(), name.clone())).collect();
    for _ in 0..ensemble.steps.len() {
        for step in &ensemble.steps {
            let inputs: Option<BTreeMap<&str, &str>> = step
                .inputs
                .iter()
                .map(|(input, name)| Some((input.as_str(), known.get(name)?.as_str())))
                .collect();
            let Some(inputs) = inputs else { continue };
            let answered = call(step, &inputs);
            known.extend(answered.into_iter().map(|(output, value)| (step.outputs[&output].clone(), value)));
        }
    }
    known
}

proptest! {
    #[test]
    fn every_pipeline_that_fits_gives_what_its_steps_give(drawn in drawn(), ends in prop::collection::vec(any::<Index>(), 20)) {
        let (ensemble, signatures) = build(&drawn);
        let signatures: Vec<&Signature> = signatures.iter().collect();
        let whole = ensemble.signature(&signatures).unwrap();
        prop_assert_eq!(whole.inputs.len(), ensemble.inputs.len());
        prop_assert_eq!(whole.outputs.len(), ensemble.outputs.len());
        let plan = EnsemblePlan::new(&ensemble);
        let inputs: Vec<(String, Rc<String>)> =
            ensemble.inputs.iter().map(|name| (name.clone(), Rc::new(name.clone()))).collect();
        let everything: Vec<std::rc::Weak<String>> = inputs.iter().map(|(_, value)| Rc::downgrade(value)).collect();
        let mut flow = plan.start(inputs);
        let (mut running, mut ran): (Vec<ReadyStep<Rc<String>>>, usize) = (Vec::new(), 0);
        loop {
            while let Some(ready) = flow.next_ready().unwrap() {
                running.push(ready);
            }
            if running.is_empty() {
                break;
            }
            let ReadyStep { step, inputs } = running.swap_remove(ends[ran].index(running.len()));
            ran += 1;
            let named = inputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let answered = call(&ensemble.steps[step], &named);
            flow.finish(step, answered.into_iter().map(|(name, value)| (name, Rc::new(value))).collect());
        }
        prop_assert_eq!(ran, ensemble.steps.len());
        // No input is an output, so that all of them are gone by now.
        prop_assert!(everything.iter().all(|value| value.upgrade().is_none()));
        let expected = by_hand(&ensemble);
        for (name, value) in flow.into_outputs().unwrap() {
            prop_assert_eq!(&*value, &expected[&name]);
        }
    }

    #[test]
    fn a_way_back_is_refused(drawn in drawn(), from in any::<Index>(), to in any::<Index>()) {
        let (mut ensemble, mut signatures) = build(&drawn);
        // An input more for some step: a tensor of any step, itself among them.
        let (from, to) = (from.index(ensemble.steps.len()), to.index(ensemble.steps.len()));
        let tensor = ensemble.steps[from].outputs.values().next().unwrap().clone();
        let mut reached = vec![false; ensemble.steps.len()];
        let mut left = vec![to];
        while let Some(step) = left.pop() {
            if !std::mem::replace(&mut reached[step], true) {
                let given: Vec<&String> = ensemble.steps[step].outputs.values().collect();
                left.extend((0..ensemble.steps.len()).filter(|other| {
                    ensemble.steps[*other].inputs.values().any(|name| given.contains(&name))
                }));
            }
        }
        ensemble.steps[to].inputs.insert("more".to_owned(), tensor);
        signatures[to].inputs.extend(signature(&[("more", "FP32 -1")], &[]).inputs);
        let signatures: Vec<&Signature> = signatures.iter().collect();
        match ensemble.signature(&signatures) {
            Ok(_) => prop_assert!(!reached[from]),
            Err(error) => prop_assert!(reached[from] && (error.to_string().contains("cycle")), "{error}"),
        }
    }

    #[test]
    fn no_document_breaks_the_check(
        inputs in prop::collection::vec("[a-d]{0,1}", 0..4),
        outputs in prop::collection::vec("[a-d]{0,1}", 0..4),
        steps in prop::collection::vec((prop::collection::btree_map("[xy]", "[a-d]", 0..3), prop::collection::btree_map("[xy]", "[a-d]", 0..3)), 0..5),
    ) {
        let described = signature(&[("x", "FP32 -1"), ("y", "FP32 3")], &[("x", "FP32 -1"), ("y", "FP32 2")]);
        let make = |(inputs, outputs)| EnsembleStep {
            model: "m".parse().unwrap(), version: VersionNumber(1), digest: Digest::of(b""), inputs, outputs,
        };
        let ensemble = Ensemble { inputs, outputs, steps: steps.into_iter().map(make).collect() };
        let signatures = vec![&described; ensemble.steps.len()];
        // What is accepted runs to its end.
        if ensemble.signature(&signatures).is_ok() {
            let plan = EnsemblePlan::new(&ensemble);
            let mut flow = plan.start(ensemble.inputs.iter().map(|name| (name.clone(), ())).collect());
            while let Some(ready) = flow.next_ready().unwrap() {
                let outputs = ensemble.steps[ready.step].outputs.keys().map(|name| (name.clone(), ())).collect();
                flow.finish(ready.step, outputs);
            }
            prop_assert!(flow.into_outputs().is_ok());
        }
    }
}
