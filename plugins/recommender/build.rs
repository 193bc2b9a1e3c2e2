//! Makes constants of `preprocessing.json`, which the training script wrote: every request has a fresh instance
//! of the plugin, and none should begin with parsing. The reranker is built with this script too: its items are these.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use serde::Deserialize;

#[derive(Deserialize)]
struct Parameters {
    items: Vec<String>,
    default_k: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    const FILE: &str = "../recommender/preprocessing.json";
    println!("cargo::rerun-if-changed={FILE}");
    let parameters: Parameters = serde_json::from_str(&fs::read_to_string(FILE)?)?;
    let Parameters { items, default_k } = parameters;
    let constants = format!(
        "pub(crate) const ITEMS: [&str; {}] = {items:?};\npub(crate) const DEFAULT_K: usize = {default_k};\n",
        items.len()
    );
    fs::write(Path::new(&env::var("OUT_DIR")?).join("parameters.rs"), constants)?;
    Ok(())
}
