//! JSON objects on one line that end in a checksum of themselves, so that a torn or rotten line is recognised.
//!
//! A line is the object with one more member at its end, `"checksum":"<16 hexadecimal digits>"`: the first 64 bits of
//! the SHA-256 of every byte before that member. Any JSON reader can read it.

use modelhost_core::Digest;
use serde::Serialize;

const MEMBER: &[u8] = b",\"checksum\":\"";
const DIGITS: usize = 16;
const END: &[u8] = b"\"}";

/// The value, which must serialize as an object with at least one member, as one line with its line feed.
pub(crate) fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = to_json(value);
    let closing_brace = line.pop();
    debug_assert_eq!(closing_brace, Some(b'}'));
    let checksum = checksum(&line);
    line.extend_from_slice(MEMBER);
    line.extend_from_slice(checksum.as_bytes());
    line.extend_from_slice(END);
    line.push(b'\n');
    line
}

/// Whether this line, without its line feed, is as it was written.
pub(crate) fn is_intact(line: &[u8]) -> bool {
    let parts = line.strip_suffix(END).and_then(|rest| {
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
        Some((rest.strip_suffix(MEMBER)?, digits))
    });
    parts.is_some_and(|(payload, digits)| checksum(payload).as_bytes() == digits)
}

/// The JSON of a record.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    // Serialization fails for maps with keys that are no strings or numbers; no record has one.
    serde_json::to_vec(value).expect("records serialize as JSON: bug")
}

fn checksum(payload: &[u8]) -> String {
    let mut hex = Digest::of(payload).hex();
    hex.truncate(DIGITS);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_sealed_line_is_json_and_intact() {
        let line = seal(&json!({"a": "line\nfeed", "b": 1}));
        let (last, text) = line.split_last().unwrap();
        assert_eq!(*last, b'\n');
        assert!(!text.contains(&b'\n'));
        assert!(is_intact(text));
        let value: Value = serde_json::from_slice(text).unwrap();
        assert_eq!(value["a"], "line\nfeed");
        assert_eq!(value["checksum"].as_str().unwrap().len(), 16);
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let line = seal(&json!({"model": "income", "generation": 7}));
        let text = &line[..line.len() - 1];
        for length in 0..text.len() {
            assert!(!is_intact(&text[..length]), "cut to {length}");
        }
        for bit in 0..text.len() * 8 {
            let mut changed = text.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_intact(&changed), "bit {bit}");
        }
    }
}
