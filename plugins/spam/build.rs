//! Makes constants of `preprocessing.json`, which the training script wrote: every request has a fresh instance
//! of the plugin, and none should begin with parsing.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use serde::Deserialize;

#[derive(Deserialize)]
struct Parameters {
    buckets: u32,
    max_features: usize,
    max_token_chars: usize,
    labels: [String; 2],
    threshold: f32,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=preprocessing.json");
    let parameters: Parameters = serde_json::from_str(&fs::read_to_string("preprocessing.json")?)?;
    let Parameters { buckets, max_features, max_token_chars, labels, threshold } = parameters;
    let constants = format!(
        "pub(crate) const BUCKETS: u32 = {buckets};
pub(crate) const MAX_FEATURES: usize = {max_features};
pub(crate) const MAX_TOKEN_CHARS: usize = {max_token_chars};
pub(crate) const LABELS: [&str; 2] = {labels:?};
pub(crate) const THRESHOLD: f32 = {threshold:?};
"
    );
    fs::write(Path::new(&env::var("OUT_DIR")?).join("parameters.rs"), constants)?;
    Ok(())
}
