//! `engines`: which engines run networks on the host, and why others are not there.

use std::path::PathBuf;

use modelhost_core::EngineName;
use serde::Deserialize;

use super::Session;
use crate::client::Answer;
use crate::failure::Failure;
use crate::table;

#[derive(Deserialize)]
struct Listing {
    engines: Vec<Engine>,
}

#[derive(Deserialize)]
struct Engine {
    name: EngineName,
    available: bool,
    version: Option<String>,
    reason: Option<String>,
    library: Option<PathBuf>,
}

/// Shows every engine.
///
/// # Errors
/// As for all requests.
pub fn run(session: &Session) -> Result<(), Failure> {
    session.show(&session.client.get("/v1/engines")?, describe)
}

fn describe(answer: &Answer) -> Result<String, Failure> {
    let listing: Listing = answer.read()?;
    Ok(table::rows(
        ["engine", "available", "version", "library or reason"],
        listing.engines.into_iter().map(row),
    ))
}

fn row(engine: Engine) -> [String; 4] {
    let available = if engine.available { "yes" } else { "no" };
    let library = engine.library.map(|library| library.display().to_string());
    let last = engine.reason.or(library).unwrap_or_else(|| "built in".to_owned());
    [engine.name.to_string(), available.to_owned(), engine.version.unwrap_or_default(), last]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_why() {
        let text = r#"{"engines":[{"name":"tract","available":true,"version":"0.23.9"},
            {"name":"onnxruntime","available":false,"reason":"it is switched off"}]}"#;
        let shown = describe(&Answer { is_created: false, text: text.to_owned() }).unwrap();
        assert!(shown.contains("tract") && shown.contains("0.23.9") && shown.contains("built in"), "{shown}");
        assert!(shown.contains("no") && shown.contains("it is switched off"), "{shown}");
    }
}
