//! Whether the steps of an ensemble fit together, and what it takes and answers as a whole.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Ensemble, MAX_ENSEMBLE_STEPS, StepTitle};
use crate::{Signature, TensorDescription};

/// Tensors of an ensemble that are named as inputs, or as outputs.
const MAX_TENSORS: usize = 1_024;
const MAX_NAME_BYTES: usize = 256;

/// Why an ensemble cannot be: one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEnsemble(String);

fn invalid<T>(sentence: impl Into<String>) -> Result<T, InvalidEnsemble> {
    Err(InvalidEnsemble(sentence.into()))
}

impl Ensemble {
    /// What it takes and answers, where it fits together. `signatures` are those of the versions of its steps.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn signature(&self, signatures: &[&Signature]) -> Result<Signature, InvalidEnsemble> {
        self.check_size()?;
        self.check_names()?;
        for (index, signature) in signatures.iter().enumerate() {
            self.check_step(index, signature)?;
        }
        let wires = self.wires(signatures)?;
        self.check_sources(&wires)?;
        self.check_uses(&wires)?;
        self.check_order(&wires)?;
        self.describe(&wires)
    }

    fn check_size(&self) -> Result<(), InvalidEnsemble> {
        let steps = self.steps.len();
        if steps == 0 {
            return invalid("the ensemble has no steps: expected at least one");
        }
        if steps > MAX_ENSEMBLE_STEPS {
            return invalid(format!(
                "the ensemble has {steps} steps: at most {MAX_ENSEMBLE_STEPS} are supported"
            ));
        }
        if self.outputs.is_empty() {
            return invalid("the ensemble has no outputs: expected at least one");
        }
        for (role, names) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            if names.len() > MAX_TENSORS {
                return invalid(format!(
                    "the ensemble has {} {role}: at most {MAX_TENSORS} are supported",
                    names.len()
                ));
            }
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), InvalidEnsemble> {
        for (role, names) in [("input", &self.inputs), ("output", &self.outputs)] {
            let mut seen = BTreeSet::new();
            if let Some(repeated) = names.iter().find(|name| !seen.insert(*name)) {
                return invalid(format!("the ensemble has two {role}s named {:?}", shortened(repeated)));
            }
        }
        let of_steps = self.steps.iter().flat_map(|step| step.inputs.values().chain(step.outputs.values()));
        let unusable = |name: &&String| {
            name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control)
        };
        match self.inputs.iter().chain(&self.outputs).chain(of_steps).find(unusable) {
            Some(name) => invalid(format!(
                "{:?} is no name of a tensor: expected 1 to {MAX_NAME_BYTES} bytes without control characters",
                shortened(name)
            )),
            None => Ok(()),
        }
    }

    /// A step gives its version exactly what that takes, and asks for nothing that it does not answer.
    fn check_step(&self, index: usize, signature: &Signature) -> Result<(), InvalidEnsemble> {
        let Some(step) = self.steps.get(index) else { return Ok(()) };
        let title = self.title(index);
        for (role, names, described) in
            [("input", &step.inputs, &signature.inputs), ("output", &step.outputs, &signature.outputs)]
        {
            let unknown = names.keys().find(|name| described.iter().all(|tensor| tensor.name != **name));
            if let Some(name) = unknown {
                let known: Vec<&str> = described.iter().map(|tensor| tensor.name.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return invalid(format!("{title} has no {role} {:?}: expected {known}", shortened(name)));
            }
        }
        if let Some(missing) = signature.inputs.iter().find(|input| !step.inputs.contains_key(&input.name)) {
            return invalid(format!("{title} is not given its input {:?}", missing.name));
        }
        if step.outputs.is_empty() {
            return invalid(format!("{title} gives no output to the ensemble: leave it out, or map one"));
        }
        Ok(())
    }

    /// All tensors of the ensemble with who makes and who takes them.
    fn wires<'a>(
        &'a self,
        signatures: &[&'a Signature],
    ) -> Result<BTreeMap<&'a str, Wire<'a>>, InvalidEnsemble> {
        let mut wires: BTreeMap<&str, Wire<'_>> = BTreeMap::new();
        for name in &self.inputs {
            wires.insert(name, Wire { source: Some(Source::Request), takers: Vec::new() });
        }
        for (index, (step, signature)) in self.steps.iter().zip(signatures).enumerate() {
            for (output, name) in &step.outputs {
                let Some(description) = signature.outputs.iter().find(|tensor| tensor.name == *output) else {
                    continue;
                };
                let end = End { step: index, title: self.title(index), role: "output", description };
                match wires.entry(name) {
                    Entry::Vacant(free) => {
                        free.insert(Wire { source: Some(Source::Step(end)), takers: Vec::new() });
                    }
                    Entry::Occupied(taken) => {
                        return match &taken.get().source {
                            Some(Source::Step(first)) => {
                                invalid(format!("tensor {name:?} is produced twice: as {first} and as {end}"))
                            }
                            _ => invalid(format!(
                                "tensor {name:?} is produced as {end}, and is an input of the ensemble"
                            )),
                        };
                    }
                }
            }
        }
        for (index, (step, signature)) in self.steps.iter().zip(signatures).enumerate() {
            for (input, name) in &step.inputs {
                let Some(description) = signature.inputs.iter().find(|tensor| tensor.name == *input) else {
                    continue;
                };
                let end = End { step: index, title: self.title(index), role: "input", description };
                wires.entry(name).or_default().takers.push(end);
            }
        }
        Ok(wires)
    }

    fn check_sources(&self, wires: &BTreeMap<&str, Wire<'_>>) -> Result<(), InvalidEnsemble> {
        for (name, wire) in wires {
            if let (None, Some(taker)) = (&wire.source, wire.takers.first()) {
                return invalid(format!(
                    "tensor {name:?}, which is {taker}, is never produced: no step has it among its outputs, and it is no input of the ensemble"
                ));
            }
        }
        for name in &self.outputs {
            match wires.get(name.as_str()).and_then(|wire| wire.source.as_ref()) {
                Some(Source::Step(_)) => {}
                Some(Source::Request) => {
                    return invalid(format!(
                        "output {name:?} of the ensemble is one of its inputs: expected a tensor that a step produces"
                    ));
                }
                None => {
                    return invalid(format!("output {name:?} of the ensemble is never produced by any step"));
                }
            }
        }
        Ok(())
    }

    fn check_uses(&self, wires: &BTreeMap<&str, Wire<'_>>) -> Result<(), InvalidEnsemble> {
        let outputs: BTreeSet<&str> = self.outputs.iter().map(String::as_str).collect();
        for (name, wire) in wires.iter().filter(|(_, wire)| wire.takers.is_empty()) {
            match &wire.source {
                Some(Source::Request) => {
                    return invalid(format!("input {name:?} of the ensemble is used by no step"));
                }
                Some(Source::Step(end)) if !outputs.contains(name) => {
                    return invalid(format!(
                        "tensor {name:?}, which is {end}, is unused: no step takes it, and it is no output of the ensemble"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses steps that wait for each other.
    fn check_order(&self, wires: &BTreeMap<&str, Wire<'_>>) -> Result<(), InvalidEnsemble> {
        let mut waits_for = vec![BTreeSet::new(); self.steps.len()];
        for wire in wires.values() {
            let Some(Source::Step(source)) = &wire.source else { continue };
            for taker in &wire.takers {
                if let Some(sources) = waits_for.get_mut(taker.step) {
                    sources.insert(source.step);
                }
            }
        }
        let Some(circle) = circle(&waits_for) else { return Ok(()) };
        let titles: Vec<String> = circle.iter().map(|index| self.title(*index).to_string()).collect();
        match titles.as_slice() {
            [alone] => invalid(format!("{alone} takes what it produces itself: steps must not form a cycle")),
            titles => {
                invalid(format!("steps form a cycle, each waiting for the next: {}", titles.join(", ")))
            }
        }
    }

    fn describe(&self, wires: &BTreeMap<&str, Wire<'_>>) -> Result<Signature, InvalidEnsemble> {
        let mut described = BTreeMap::new();
        for (name, wire) in wires {
            described.insert(*name, wire.describe(name)?);
        }
        let of = |names: &[String]| {
            names.iter().filter_map(|name| described.get(name.as_str()).cloned()).collect()
        };
        Ok(Signature { inputs: of(&self.inputs), outputs: of(&self.outputs) })
    }
}

/// A tensor of an ensemble.
#[derive(Default)]
struct Wire<'a> {
    source: Option<Source<'a>>,
    takers: Vec<End<'a>>,
}

enum Source<'a> {
    Request,
    Step(End<'a>),
}

/// Where a tensor is an input or an output of a step.
struct End<'a> {
    step: usize,
    title: StepTitle<'a>,
    role: &'static str,
    description: &'a TensorDescription,
}

impl fmt::Display for End<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let End { title, role, description, .. } = self;
        write!(formatter, "{role} {:?} of {title}", description.name)
    }
}

impl Wire<'_> {
    /// What fits everywhere that the tensor goes.
    fn describe(&self, name: &str) -> Result<TensorDescription, InvalidEnsemble> {
        let source = match &self.source {
            Some(Source::Step(end)) => Some(end),
            _ => None,
        };
        let mut ends: Vec<&End<'_>> = Vec::with_capacity(1 + self.takers.len());
        let mut shape: Vec<i64> = Vec::new();
        for end in source.into_iter().chain(&self.takers) {
            if let Some(first) =
                ends.first().filter(|first| first.description.datatype != end.description.datatype)
            {
                return invalid(format!(
                    "tensor {name:?} is {} as {first}, but {} as {end}",
                    first.description.datatype, end.description.datatype
                ));
            }
            let own = &end.description.shape;
            match ends.iter().find(|other| !fit(&other.description.shape, own)) {
                Some(other) => {
                    return invalid(format!(
                        "no tensor {name:?} can have both shape {:?} as {other} and {own:?} as {end}",
                        other.description.shape
                    ));
                }
                None if ends.is_empty() => shape.clone_from(own),
                None => narrow(&mut shape, own),
            }
            ends.push(end);
        }
        let Some(first) = ends.first() else { return invalid(format!("tensor {name:?} is used by no step")) };
        Ok(TensorDescription { name: name.to_owned(), datatype: first.description.datatype, shape })
    }
}

/// Whether any tensor has both shapes.
fn fit(one: &[i64], other: &[i64]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a == b || *a < 0 || *b < 0)
}

fn narrow(shape: &mut [i64], other: &[i64]) {
    for (extent, other) in shape.iter_mut().zip(other) {
        if *extent < 0 {
            *extent = *other;
        }
    }
}

/// Steps of which each waits for the next and the last for the first; none where all can run.
fn circle(waits_for: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    let mut left: BTreeSet<usize> = (0..waits_for.len()).collect();
    let blockers = |step: usize, left: &BTreeSet<usize>| {
        waits_for.get(step).into_iter().flatten().copied().find(|source| left.contains(source))
    };
    while let Some(free) = left.iter().copied().find(|step| blockers(*step, &left).is_none()) {
        left.remove(&free);
    }
    // Each that is left waits for one that is left, so that following them comes back to where it was.
    let mut path = vec![left.first().copied()?];
    loop {
        let next = blockers(*path.last()?, &left)?;
        if let Some(start) = path.iter().position(|step| *step == next) {
            return Some(path.split_off(start));
        }
        path.push(next);
    }
}

/// A name from outside may be of any length; the start is enough to recognise it.
fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::super::examples::{ensemble, signature, step};
    use super::*;

    /// The sentence for these steps of two versions: `a` from FP32 [-1, 3] to FP32 [-1, 4] and `b` the other way.
    fn sentence(inputs: &[&str], outputs: &[&str], steps: &[(&str, &str, &str)]) -> String {
        derived(inputs, outputs, steps).unwrap_err().to_string()
    }

    fn derived(
        inputs: &[&str],
        outputs: &[&str],
        steps: &[(&str, &str, &str)],
    ) -> Result<Signature, InvalidEnsemble> {
        let (wide, narrow) = (
            signature(&[("x", "FP32 -1 3")], &[("y", "FP32 -1 4"), ("z", "INT64 -1")]),
            signature(&[("x", "FP32 2 4")], &[("y", "FP32 -1 3")]),
        );
        let ensemble =
            ensemble(inputs, outputs, steps.iter().map(|(model, input, output)| step(model, input, output)));
        let signatures: Vec<&Signature> =
            steps.iter().map(|(model, _, _)| if *model == "a" { &wide } else { &narrow }).collect();
        ensemble.signature(&signatures)
    }

    #[test]
    fn shapes_are_as_narrow_as_what_they_pass_through() {
        let whole =
            derived(&["in"], &["out", "mid"], &[("b", "x:mid", "y:out"), ("a", "x:in", "y:mid")]).unwrap();
        assert_eq!(whole.inputs, signature(&[("in", "FP32 -1 3")], &[]).inputs);
        assert_eq!(whole.outputs, signature(&[], &[("out", "FP32 -1 3"), ("mid", "FP32 2 4")]).outputs);
        let names: Vec<&str> = whole.outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["out", "mid"]);
    }

    #[test]
    fn every_rule_has_its_sentence() {
        let a = ("a", "x:in", "y:out");
        for (expected, actual) in [
            ("no steps", sentence(&["in"], &["out"], &[])),
            ("has 65 steps: at most 64", sentence(&["in"], &["out"], &[a; 65])),
            ("has no outputs", sentence(&["in"], &[], &[a])),
            ("two inputs named \"in\"", sentence(&["in", "in"], &["out"], &[a])),
            ("two outputs named \"out\"", sentence(&["in"], &["out", "out"], &[a])),
            ("\"\" is no name", sentence(&["in", ""], &["out"], &[a])),
            (
                "step 1 (a version 1) has no input \"w\": expected x",
                sentence(&["in"], &["out"], &[("a", "w:in", "y:out")]),
            ),
            (
                "step 1 (a version 1) has no output \"w\": expected y, z",
                sentence(&["in"], &["out"], &[("a", "x:in", "w:out")]),
            ),
            (
                "step 1 (a version 1) is not given its input \"x\"",
                sentence(&["in"], &["out"], &[("a", "", "y:out")]),
            ),
            ("step 1 (a version 1) gives no output", sentence(&["in"], &["out"], &[("a", "x:in", "")])),
            (
                "\"out\" is produced twice: as output \"y\" of step 1 (a version 1) and as output \"y\" of step 2 (a version 1)",
                sentence(&["in"], &["out"], &[a, a]),
            ),
            (
                "is produced as output \"y\" of step 1 (a version 1), and is an input",
                sentence(&["in"], &["in"], &[("a", "x:in", "y:in")]),
            ),
            (
                "\"no\", which is input \"x\" of step 1 (a version 1), is never produced",
                sentence(&[], &["out"], &[("a", "x:no", "y:out")]),
            ),
            ("output \"no\" of the ensemble is never produced", sentence(&["in"], &["out", "no"], &[a])),
            ("output \"in\" of the ensemble is one of its inputs", sentence(&["in"], &["out", "in"], &[a])),
            ("input \"more\" of the ensemble is used by no step", sentence(&["in", "more"], &["out"], &[a])),
            (
                "\"rest\", which is output \"z\" of step 1 (a version 1), is unused",
                sentence(&["in"], &["out"], &[("a", "x:in", "y:out z:rest")]),
            ),
            (
                "step 1 (a version 1) takes what it produces itself",
                sentence(&[], &["out"], &[("a", "x:out", "y:out")]),
            ),
            (
                "cycle, each waiting for the next: step 2 (b version 1), step 3 (a version 1)",
                sentence(&[], &["end"], &[("a", "x:t", "y:end"), ("b", "x:u", "y:t"), ("a", "x:t", "y:u")]),
            ),
            (
                "\"t\" is INT64 as output \"z\" of step 1 (a version 1), but FP32 as input \"x\" of step 2",
                sentence(&["in"], &["out"], &[("a", "x:in", "z:t"), ("a", "x:t", "y:out")]),
            ),
            (
                "no tensor \"t\" can have both shape [-1, 4] as output \"y\" of step 1 (a version 1) and [-1, 3] as input",
                sentence(&["in"], &["out"], &[("a", "x:in", "y:t"), ("a", "x:t", "y:out")]),
            ),
            (
                "no tensor \"in\" can have both shape [-1, 3] as input \"x\" of step 1 (a version 1) and [2, 4]",
                sentence(&["in"], &["p", "q"], &[("a", "x:in", "y:p"), ("b", "x:in", "y:q")]),
            ),
        ] {
            assert!(actual.contains(expected), "{actual:?} does not say {expected:?}");
        }
    }
}
