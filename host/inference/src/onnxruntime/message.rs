//! The library's messages as one sentence: without the paths of its own sources, without line breaks, not too long.

/// More than this says nothing to whoever reads it.
const MAX_CHARACTERS: usize = 300;

/// The sentence in a message of the library.
pub(super) fn sentence(message: &str) -> String {
    let words = message.split_whitespace().filter(|word| !is_location(word));
    let text = words.collect::<Vec<_>>().join(" ");
    let text = text.trim_end_matches(['.', ' ', '\n']);
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None if text.is_empty() => "it does not say why".to_owned(),
        None => text.to_owned(),
    }
}

/// Such as `/onnxruntime_src/onnxruntime/core/graph/graph.cc:1234`.
fn is_location(word: &str) -> bool {
    let is_source = [".cc", ".h", ".cpp", ".hpp"].iter().any(|end| word.contains(&format!("{end}:")));
    is_source || (word.starts_with('/') && word.matches('/').count() > 1)
}

/// The operator that the library says it does not have, as `Name` or `domain.Name`.
pub(super) fn missing_operator(message: &str) -> Option<String> {
    let after = |start: &str| message.split_once(start).map(|(_, rest)| rest);
    // "Could not find an implementation for Name(13) node with name …"
    if let Some(rest) = after("Could not find an implementation for ") {
        return Some(rest.split('(').next()?.trim().to_owned());
    }
    // "Fatal error: domain:Name(-1) is not a registered function/op" and "No Op registered for Name with …"
    if let Some((before, _)) = message.split_once(" is not a registered function/op") {
        let word = before.rsplit(' ').next()?.split('(').next()?;
        return Some(word.trim_start_matches(':').replace(':', "."));
    }
    let rest = after("No Op registered for ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// The operator at which a run ended, where the message says it.
pub(super) fn operator_of_run(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("while running ")?;
    rest.split_once(" node").map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_one_sentence() {
        let message =
            "/onnxruntime_src/onnxruntime/core/graph/graph.cc:12 void onnxruntime::Graph() Bad\n\n shape.\n";
        assert_eq!(sentence(message), "void onnxruntime::Graph() Bad shape");
        assert_eq!(sentence(""), "it does not say why");
        assert!(sentence(&"ä ".repeat(1000)).chars().count() < 310);
    }

    #[test]
    fn missing_operators_are_named() {
        let named = |message: &str| missing_operator(message);
        let unimplemented = "Could not find an implementation for Det(11) node with name 'd'";
        assert_eq!(named(unimplemented).as_deref(), Some("Det"));
        assert_eq!(
            named("Fatal error: com.x:Foo(-1) is not a registered function/op").as_deref(),
            Some("com.x.Foo")
        );
        assert_eq!(named("No Op registered for Foo with domain_version of 17").as_deref(), Some("Foo"));
        assert_eq!(named("something else"), None);
    }

    #[test]
    fn the_operator_of_a_run_is_named() {
        let message = "Non-zero status code returned while running Expand node. Name:'e' Status Message: bad";
        assert_eq!(operator_of_run(message), Some("Expand"));
        assert_eq!(operator_of_run("no"), None);
    }
}
