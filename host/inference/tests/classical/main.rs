//! Exports of scikit-learn, XGBoost and LightGBM on the engine tract, against the answers of ONNX Runtime.
//!
//! `generate.py` made the cases and says what they are. Each is run with all its rows at once and row by row: labels
//! must be the same, numbers nearly so.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod case;
mod compare;
mod known;

use std::collections::BTreeMap;
use std::path::Path;

use case::Case;
use modelhost_inference::{Engine, LoadError, TractEngine};

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/classical/cases");

#[test]
fn every_case_is_right_or_refused_by_name() {
    let folder = std::env::var("CLASSICAL_CASES").unwrap_or_else(|_| CASES.into());
    let mut names = case::names(Path::new(&folder));
    names.sort();
    assert!(names.len() > 10, "there are no cases in {folder}");
    let engine = TractEngine::new();
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for name in &names {
        let case = Case::read(Path::new(&folder), name);
        let graph = match engine.load(&case.onnx) {
            Ok(graph) => graph,
            Err(error @ LoadError::Operators { .. }) => {
                refused.insert(name.clone(), error.to_string());
                continue;
            }
            Err(error) => {
                wrong.push(format!("{name}: not loaded: {error}"));
                continue;
            }
        };
        if let Err(difference) = case.check(&*graph) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    println!("{} cases: {} refused, {} wrong", names.len(), refused.len(), wrong.len());
    refused.iter().for_each(|(name, reason)| println!("refused: {name}: {reason}"));
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), names.len(), wrong.join("\n"));
    let refused: Vec<&str> = refused.keys().map(String::as_str).collect();
    if folder == CASES {
        assert_eq!(refused, known::REFUSED, "the list of cases that are refused is not up to date");
    }
}
