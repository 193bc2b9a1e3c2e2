//! Settings from environment variables: each key of the file has one, `MODELHOST_<SECTION>_<KEY>`. The names
//! are made from the defaults, so that none has to be listed here.

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::{Context as _, anyhow};
use toml::{Table, Value};

use super::Config;

const PREFIX: &str = "MODELHOST_";

/// Changes the configuration by what the environment says. Answers what in it looks like a setting and is none:
/// a warning only, because others put variables there too (Kubernetes does for each service).
pub fn apply(
    config: &mut Config,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> anyhow::Result<Vec<String>> {
    let table = Table::try_from(&*config).context("the configuration cannot be written as TOML")?;
    let keys = variables(&table);
    let sections: Vec<String> =
        table.iter().filter(|(_, value)| value.is_table()).map(|(name, _)| variable(&[name])).collect();
    let mut warnings = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if let Some(path) = keys.get(name) {
            let value =
                value.to_str().with_context(|| format!("environment variable {name} is not UTF-8"))?;
            *config = with(config, path, value)
                .map_err(|reason| anyhow!("environment variable {name} is {value:?}: {reason}"))?;
        } else if sections.iter().any(|section| name.starts_with(&format!("{section}_"))) {
            warnings.push(format!("environment variable {name} is no setting: it is ignored"));
        }
    }
    Ok(warnings)
}

/// Every key with the name of its variable.
fn variables(table: &Table) -> BTreeMap<String, Vec<String>> {
    let paths = leaves(table).into_iter().map(|(path, _)| path);
    paths.map(|path| (variable(&path), path)).collect()
}

fn variable(path: &[impl AsRef<str>]) -> String {
    let parts: Vec<String> = path.iter().map(|part| part.as_ref().to_uppercase()).collect();
    format!("{PREFIX}{}", parts.join("_"))
}

/// Every key with its value, sections in front.
pub(super) fn leaves(table: &Table) -> Vec<(Vec<String>, Value)> {
    let of_entry = |(name, value): (&String, &Value)| match value {
        Value::Table(section) => {
            let prefixed = |(path, value)| ([vec![name.clone()], path].concat(), value);
            leaves(section).into_iter().map(prefixed).collect()
        }
        value => vec![(vec![name.clone()], value.clone())],
    };
    table.iter().flat_map(of_entry).collect()
}

/// The configuration with one value changed.
fn with(config: &Config, path: &[String], text: &str) -> Result<Config, String> {
    let mut table = Table::try_from(config).map_err(|error| error.to_string())?;
    let (key, sections) = path.split_last().ok_or("it names no key")?;
    let section = sections.iter().try_fold(&mut table, |table, name| table.get_mut(name)?.as_table_mut());
    let slot = section.and_then(|section| section.get_mut(key)).ok_or("it names no key")?;
    *slot = parse(slot, text)?;
    table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

/// The text as a value of the same type as the present one.
fn parse(present: &Value, text: &str) -> Result<Value, String> {
    let parsed = match present {
        Value::Integer(_) => {
            text.replace('_', "").parse().map(Value::Integer).map_err(|_| "expected an integer")
        }
        Value::Float(_) => text.parse().map(Value::Float).map_err(|_| "expected a number"),
        Value::Boolean(_) => text.parse().map(Value::Boolean).map_err(|_| "expected true or false"),
        Value::String(_) => Ok(Value::String(text.to_owned())),
        Value::Array(_) => list(text).ok_or("expected a list as in TOML, such as [\"a\", \"b\"]"),
        _ => Err("only the configuration file can say this"),
    };
    parsed.map_err(str::to_owned)
}

fn list(text: &str) -> Option<Value> {
    let document: Table = toml::from_str(&format!("list = {text}")).ok()?;
    let list = document.get("list").filter(|value| value.is_array() && document.len() == 1);
    list.cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_variable_of_its_own() {
        let table = Table::try_from(Config::default()).unwrap();
        let variables = variables(&table);
        assert_eq!(variables.len(), leaves(&table).len());
        assert_eq!(variables["MODELHOST_RUNTIME_LIMITS_MEMORY_BYTES"], ["runtime", "limits", "memory_bytes"]);
        assert_eq!(variables["MODELHOST_SERVER_MAX_BODY_BYTES"], ["server", "max_body_bytes"]);
        assert_eq!(variables["MODELHOST_DATA_DIR"], ["data_dir"]);
    }

    #[test]
    fn every_variable_is_taken() {
        let table = Table::try_from(Config::default()).unwrap();
        for (path, value) in leaves(&table) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(with(&Config::default(), &path, &text), Ok(Config::default()), "{path:?}");
        }
    }
}
