//! Makes constants of `preprocessing.json`, which the training script wrote: every request has a fresh instance
//! of the plugin, and none should begin with parsing.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use serde::Deserialize;

#[derive(Deserialize)]
struct Parameters {
    numeric: Vec<Numeric>,
    categorical: Vec<Categorical>,
    clip: f64,
    features: usize,
    labels: [String; 2],
    threshold: f32,
}

#[derive(Deserialize)]
struct Numeric {
    name: String,
    median: f64,
    log1p: bool,
    mean: f64,
    std: f64,
}

#[derive(Deserialize)]
struct Categorical {
    name: String,
    most_frequent: String,
    categories: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=preprocessing.json");
    let parameters: Parameters = serde_json::from_str(&fs::read_to_string("preprocessing.json")?)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("parameters.rs"), constants(&parameters)?)?;
    Ok(())
}

fn constants(parameters: &Parameters) -> Result<String, std::fmt::Error> {
    let Parameters { numeric, categorical, clip, features, labels, threshold } = parameters;
    let mut code = String::new();
    writeln!(code, "pub(crate) const NUMERIC: &[Numeric] = &[")?;
    for Numeric { name, median, log1p, mean, std } in numeric {
        writeln!(
            code,
            "    Numeric {{ name: {name:?}, median: {median:?}, log1p: {log1p}, mean: {mean:?}, std: {std:?} }},"
        )?;
    }
    writeln!(code, "];\npub(crate) const CATEGORICAL: &[Categorical] = &[")?;
    for Categorical { name, most_frequent, categories } in categorical {
        writeln!(
            code,
            "    Categorical {{ name: {name:?}, most_frequent: {most_frequent:?}, categories: &{categories:?} }},"
        )?;
    }
    writeln!(code, "];")?;
    writeln!(code, "pub(crate) const CLIP: f64 = {clip:?};")?;
    writeln!(code, "pub(crate) const FEATURES: usize = {features};")?;
    writeln!(code, "pub(crate) const LABELS: [&str; 2] = {labels:?};")?;
    writeln!(code, "pub(crate) const THRESHOLD: f32 = {threshold:?};")?;
    Ok(code)
}
