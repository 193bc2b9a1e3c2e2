//! Ensembles and signatures in a few letters, for tests.

use std::collections::BTreeMap;

use super::{Ensemble, EnsembleStep};
use crate::{Datatype, Digest, Signature, TensorDescription, VersionNumber};

/// From pairs such as `x:in y:other`.
pub(crate) fn step(model: &str, inputs: &str, outputs: &str) -> EnsembleStep {
    let map = |pairs: &str| -> BTreeMap<String, String> {
        let split = |pair: &str| pair.split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        pairs.split_whitespace().map(split).collect()
    };
    EnsembleStep {
        model: model.parse().unwrap(),
        version: VersionNumber(1),
        digest: Digest::of(model.as_bytes()),
        inputs: map(inputs),
        outputs: map(outputs),
    }
}

pub(crate) fn ensemble(
    inputs: &[&str],
    outputs: &[&str],
    steps: impl IntoIterator<Item = EnsembleStep>,
) -> Ensemble {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Ensemble { inputs: names(inputs), outputs: names(outputs), steps: steps.into_iter().collect() }
}

/// From types such as `FP32 -1 3`.
pub(crate) fn signature(inputs: &[(&str, &str)], outputs: &[(&str, &str)]) -> Signature {
    let describe = |(name, described): &(&str, &str)| {
        let mut words = described.split_whitespace();
        let datatype = words.next().unwrap();
        TensorDescription {
            name: (*name).to_owned(),
            datatype: Datatype::ALL.into_iter().find(|known| known.to_string() == datatype).unwrap(),
            shape: words.map(|extent| extent.parse().unwrap()).collect(),
        }
    };
    Signature {
        inputs: inputs.iter().map(describe).collect(),
        outputs: outputs.iter().map(describe).collect(),
    }
}
