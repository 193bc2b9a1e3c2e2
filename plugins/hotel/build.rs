//! Makes constants of `preprocessing.json`, which the training script wrote: every request has a fresh instance
//! of the plugin, and none should begin with parsing.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use serde::Deserialize;

#[derive(Deserialize)]
struct Parameters {
    numeric: Vec<String>,
    date: String,
    categorical: Vec<Categorical>,
    features: usize,
}

#[derive(Deserialize)]
struct Categorical {
    name: String,
    categories: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=preprocessing.json");
    let parameters: Parameters = serde_json::from_str(&fs::read_to_string("preprocessing.json")?)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("parameters.rs"), constants(&parameters)?)?;
    Ok(())
}

fn constants(parameters: &Parameters) -> Result<String, std::fmt::Error> {
    let Parameters { numeric, date, categorical, features } = parameters;
    let mut code = String::new();
    writeln!(code, "pub(crate) const NUMERIC: &[&str] = &{numeric:?};")?;
    writeln!(code, "pub(crate) const DATE: &str = {date:?};")?;
    writeln!(code, "pub(crate) const CATEGORICAL: &[Categorical] = &[")?;
    for Categorical { name, categories } in categorical {
        writeln!(code, "    Categorical {{ name: {name:?}, categories: &{categories:?} }},")?;
    }
    writeln!(code, "];\npub(crate) const FEATURES: usize = {features};")?;
    Ok(code)
}
