//! What a row of a prediction table is found by.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A key. All keys of a table are of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a whole number of 64 bits or a string")]
pub enum TableKey {
    /// A whole number.
    Integer(i64),
    /// A string.
    Text(String),
}

impl TableKey {
    /// The kind, as the start of a sentence about it.
    pub const fn kind(&self) -> &'static str {
        match self {
            TableKey::Integer(_) => "a whole number",
            TableKey::Text(_) => "a string",
        }
    }
}

/// As it is typed in an address; a very long one is cut, for messages only.
impl fmt::Display for TableKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHARACTERS: usize = 64;
        match self {
            TableKey::Integer(key) => fmt::Display::fmt(key, formatter),
            TableKey::Text(key) => match key.char_indices().nth(CHARACTERS) {
                Some((end, _)) => write!(formatter, "{:?}…", &key[..end]),
                None => write!(formatter, "{key:?}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbers_or_strings() {
        let keys: Vec<TableKey> = serde_json::from_str(r#"[-7, "-7"]"#).unwrap();
        assert_eq!(keys, [TableKey::Integer(-7), TableKey::Text("-7".into())]);
        assert_eq!(serde_json::to_string(&keys).unwrap(), r#"[-7,"-7"]"#);
        for wrong in ["1.5", "true", "null", "[1]", "9223372036854775808"] {
            assert!(serde_json::from_str::<TableKey>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(TableKey::Text("é".repeat(100)).to_string(), format!("\"{}\"…", "é".repeat(64)));
    }
}
