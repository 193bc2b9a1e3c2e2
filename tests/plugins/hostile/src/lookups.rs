//! Lookups that make no sense or ask for too much, against the raw bindings.

use std::mem::forget;

use modelhost_guest::Error;
use modelhost_guest::bindings::modelhost::plugin::predictions::{Error as Refused, Key, lookup};

/// Granted, with text keys; the row of `wide` is large.
const TABLE: &str = "wide";

fn text(key: &str) -> Key {
    Key::Text(key.to_owned())
}

/// Every one of these has to be refused in its own way.
pub fn nonsense() -> Result<(), Error> {
    let long = "x".repeat(1 << 20);
    for name in ["", ".", "..", "../wide", "wide ", "WIDE", "wide\0", "\u{1b}[2J", "other", &long] {
        match lookup(name, &[text("wide")]) {
            Err(Refused::NotGranted(sentence)) if sentence.len() < 1_000 => {}
            other => return Err(unexpected(name, &other.map(|rows| rows.found))),
        }
    }
    match lookup(TABLE, &vec![text("k"); 1_025]) {
        Err(Refused::TooLarge(_)) => {}
        other => return Err(unexpected("too many keys", &other.map(|rows| rows.found))),
    }
    match lookup(TABLE, &[text("k"), Key::Integer(i64::MIN)]) {
        Err(Refused::InvalidKey(_)) => {}
        other => return Err(unexpected("a number", &other.map(|rows| rows.found))),
    }
    match lookup(TABLE, &[]) {
        Ok(rows) if rows.found.is_empty() => {}
        other => return Err(unexpected("no keys", &other.map(|rows| rows.found))),
    }
    match lookup(TABLE, &[text(&long), text(""), text("\0")]) {
        Ok(rows) if rows.found == [false; 3] => Ok(()),
        other => Err(unexpected("odd keys", &other.map(|rows| rows.found))),
    }
}

/// More bytes than a call may hold, in one lookup: an error and no trap.
pub fn too_large() -> Result<(), Error> {
    match lookup(TABLE, &vec![text("wide"); 1_024]) {
        Err(Refused::TooLarge(_)) => Ok(()),
        other => Err(unexpected("too many bytes", &other.map(|rows| rows.found))),
    }
}

/// Rows that are never given back. An amount of 0 is without end.
pub fn collect(amount: usize) {
    let mut opened = 0;
    while amount == 0 || opened < amount {
        if let Ok(rows) = lookup(TABLE, &[text("small")]) {
            opened += rows.columns.len();
            forget(rows);
        }
    }
}

/// One after the other, of few keys and of many, until somebody puts an end to it.
pub fn forever() {
    loop {
        let _ = lookup(TABLE, &[text("small")]);
        let _ = lookup(TABLE, &vec![text("small"); 1_000]);
    }
}

/// The same text as a key, over and over, as many MiB as are asked for.
pub fn long_keys(amount: usize) {
    let key = "k".repeat(1 << 20);
    let _ = lookup(TABLE, &vec![text(&key); amount]);
}

fn unexpected(what: &str, answer: &dyn std::fmt::Debug) -> Error {
    let what: String = what.chars().take(20).collect();
    Error::internal(format!("{what:?} was answered with {answer:?}"))
}
