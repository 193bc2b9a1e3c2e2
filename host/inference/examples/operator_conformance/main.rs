//! Runs the engine over folders of test cases and prints, for each operator, how many answers were right.
//!
//! ```text
//! cargo run --release --example operator_conformance -- FOLDER... > table.md
//! ```
//! A case is a folder with `model.onnx` and `test_data_set_0/{input,output}_N.pb`, as the Python package `onnx`
//! generates them. Each case runs in several forms, see [`case::FORMS`]. The list of operators in
//! `src/tract/operators.rs` was made from this table; `OPERATORS.md` says how.

mod case;
mod compare;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::{Case, Outcome};
use modelhost_inference::TractEngine;

#[derive(Default)]
struct Counts {
    right: usize,
    wrong: usize,
    failed: usize,
    refused: usize,
}

fn main() -> ExitCode {
    let listed_only = std::env::args().any(|argument| argument == "--listed");
    let folders: Vec<PathBuf> =
        std::env::args_os().skip(1).filter(|argument| argument != "--listed").map(PathBuf::from).collect();
    if folders.is_empty() {
        eprintln!("usage: operator_conformance [--listed] FOLDER...");
        return ExitCode::FAILURE;
    }
    // A panic is one failed case; its text would only hide the table.
    std::panic::set_hook(Box::new(|_| {}));
    let engine = match listed_only {
        true => TractEngine::new(),
        false => TractEngine::new().with_any_operator(),
    };
    let mut table: BTreeMap<String, Counts> = BTreeMap::new();
    for folder in folders.iter().flat_map(|folder| case_folders(folder)) {
        run_case(&engine, &folder, &mut table);
    }
    print_table(&table);
    ExitCode::SUCCESS
}

fn run_case(engine: &TractEngine, folder: &Path, table: &mut BTreeMap<String, Counts>) {
    let case = match Case::read(folder) {
        Ok(case) => case,
        Err(reason) => {
            eprintln!("skipped {}: {reason}", folder.display());
            return;
        }
    };
    let counts = table.entry(case.operators()).or_default();
    for form in case::FORMS {
        let Some(outcome) = case.run(engine, form) else { continue };
        match &outcome {
            Outcome::Right => counts.right += 1,
            Outcome::Wrong(_) => counts.wrong += 1,
            Outcome::Failed(_) => counts.failed += 1,
            Outcome::Refused(_) => counts.refused += 1,
        }
        if let Outcome::Wrong(reason) | Outcome::Failed(reason) | Outcome::Refused(reason) = &outcome {
            let kind = match outcome {
                Outcome::Wrong(_) => "wrong",
                Outcome::Failed(_) => "failed",
                _ => "refused",
            };
            eprintln!("{kind}\t{}\t{}\t{form:?}\t{reason}", case.operators(), case.name);
        }
    }
}

/// Every folder at or below this one that holds a model, in the order of their names.
fn case_folders(folder: &Path) -> Vec<PathBuf> {
    if folder.join("model.onnx").is_file() {
        return vec![folder.to_owned()];
    }
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| {
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect()
        })
        .unwrap_or_default();
    folders.sort();
    folders.iter().flat_map(|folder| case_folders(folder)).collect()
}

fn print_table(table: &BTreeMap<String, Counts>) {
    println!("| operator | right | wrong | failed | refused |");
    println!("| --- | --- | --- | --- | --- |");
    for (operator, Counts { right, wrong, failed, refused }) in table {
        println!("| {operator} | {right} | {wrong} | {failed} | {refused} |");
    }
}
