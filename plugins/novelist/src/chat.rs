//! A conversation as the beginning of a dialogue in a novel. The model knows no other kind: it was never taught to
//! follow instructions.

use modelhost_guest::Error;
use serde::Deserialize;

/// A reply ends with its quotation mark, or with its paragraph.
pub(crate) const STOPS: [&str; 2] = ["\"", "\n"];

#[derive(Deserialize)]
struct Message {
    role: String,
    content: String,
}

/// What the next thing that is said follows on: what the system says is told, what the others say is quoted.
///
/// # Errors
/// Invalid input where the text is no list of messages.
pub(crate) fn prompt(messages: &str) -> Result<String, Error> {
    let messages: Vec<Message> = serde_json::from_str(messages).map_err(|error| {
        Error::invalid_input(format!("input \"text_input\" is no list of messages: {error}"))
    })?;
    let told = |message: &Message| {
        let content = message.content.replace('"', "'");
        if message.role == "system" { format!("{content}\n") } else { format!("\"{content}\"\n") }
    };
    Ok(messages.iter().map(told).chain(["\"".to_owned()]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_a_dialogue() {
        let messages = r#"[{"role": "system", "content": "They met at a ball."},
            {"role": "user", "content": "Do you \"dance\"?"}]"#;
        assert_eq!(prompt(messages).unwrap(), "They met at a ball.\n\"Do you 'dance'?\"\n\"");
        assert!(matches!(prompt("Hello"), Err(Error::InvalidInput(_))));
    }
}
