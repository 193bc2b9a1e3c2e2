//! `docs/configuration.md` and the code say the same.

use std::collections::BTreeMap;
use std::fs;

use toml::{Table, Value};

use super::Config;
use super::environment::leaves;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");

/// The rows of the document's tables: a key, its default as in TOML, its unit, its meaning.
fn documented() -> BTreeMap<String, [String; 3]> {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [key, default, unit, meaning] = cells[..] else { panic!("{row}: expected four cells") };
        let code = |cell: &str| cell.trim_matches('`').to_owned();
        (code(key), [code(default), unit.to_owned(), meaning.to_owned()])
    })
    .collect()
}

#[test]
fn documented_defaults_are_the_real_ones() {
    let real = leaves(&Table::try_from(Config::default()).unwrap());
    let real: BTreeMap<String, String> =
        real.into_iter().map(|(path, value)| (path.join("."), value.to_string())).collect();
    let defaults: BTreeMap<String, String> =
        documented().into_iter().map(|(key, [default, ..])| (key, default)).collect();
    assert_eq!(defaults, real);
}

#[test]
fn every_setting_has_a_unit_and_a_meaning() {
    for (key, [_, unit, meaning]) in documented() {
        assert!(!unit.is_empty() && meaning.len() > 10, "{key}");
        let units = [
            ("_bytes", "bytes"),
            ("_ms", "milliseconds"),
            ("_microseconds", "microseconds"),
            ("_seconds", "seconds"),
            (".seconds", "seconds"),
        ];
        for (suffix, expected) in units {
            assert!(!key.ends_with(suffix) || unit.starts_with(expected), "{key}: {unit}");
        }
    }
}

#[test]
fn the_documented_example_is_a_configuration() {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config: Config = toml::from_str(example).unwrap();
    assert_ne!(config, Config::default());
    // Every key of the example is shown with another value than its default.
    let defaults: BTreeMap<Vec<String>, Value> =
        leaves(&Table::try_from(Config::default()).unwrap()).into_iter().collect();
    for (path, value) in leaves(&toml::from_str::<Table>(example).unwrap()) {
        assert_ne!(defaults.get(&path), Some(&value), "{path:?}");
    }
}
