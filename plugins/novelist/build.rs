//! Makes constants of `tokens.json`, which the training script wrote: every request has a fresh instance of the
//! plugin, and none should begin with parsing.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use serde::Deserialize;

#[derive(Deserialize)]
struct Tokens {
    context: usize,
    merges: Vec<(usize, usize)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=tokens.json");
    let Tokens { context, merges } = serde_json::from_str(&fs::read_to_string("tokens.json")?)?;
    // Token 0 ends a chapter; then come the bytes, and then what merges make of them.
    let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
    texts.extend((0..=u8::MAX).map(|byte| vec![byte]));
    let mut ranks = Vec::with_capacity(merges.len());
    for (left, right) in merges {
        let token = texts.len();
        texts.push([&texts[left][..], &texts[right]].concat());
        ranks.push(((left, right), token));
    }
    ranks.sort_unstable();
    let (vocabulary, merges) = (texts.len(), ranks.len());
    let constants = format!(
        "pub(crate) const CONTEXT: usize = {context};
/// What each token stands for.
pub(crate) static TEXTS: [&[u8]; {vocabulary}] = {};
/// Pairs of tokens, in order, and what each becomes.
pub(crate) static MERGES: [((u16, u16), u16); {merges}] = {ranks:?};
",
        slices(&texts)
    );
    fs::write(Path::new(&env::var("OUT_DIR")?).join("vocabulary.rs"), constants)?;
    Ok(())
}

fn slices(texts: &[Vec<u8>]) -> String {
    let slices: Vec<String> = texts.iter().map(|text| format!("&{text:?}")).collect();
    format!("[{}]", slices.join(", "))
}
