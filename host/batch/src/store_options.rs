//! What an operator says of an object store. It may hold secrets: it is read, and never shown.

use std::collections::BTreeMap;
use std::fmt;

use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;
use serde::{Deserialize, Serialize, Serializer};

/// Stands for every value.
const HIDDEN: &str = "(hidden)";

/// Options of an object store, by the names that the crate `object_store` gives them.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct StoreOptions(BTreeMap<String, String>);

impl StoreOptions {
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Why these cannot be the options of the stores whose URLs begin so, in half a sentence that holds no value.
    pub(crate) fn problem(&self, place: &str) -> Option<String> {
        let is_place = place.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'));
        let is_known: fn(&str) -> bool = match place.split("://").next() {
            Some("s3") if is_place => |name| name.parse::<AmazonS3ConfigKey>().is_ok(),
            Some("gs") if is_place => |name| name.parse::<GoogleConfigKey>().is_ok(),
            Some("az" | "abfs" | "abfss") if is_place => |name| name.parse::<AzureConfigKey>().is_ok(),
            _ => {
                return Some(format!(
                    "{place:?}, which is no beginning of URLs such as s3:// or s3://bucket"
                ));
            }
        };
        let unknown = self.0.keys().find(|name| !is_known(&name.to_ascii_lowercase()))?;
        Some(format!("{unknown:?} for {place}, which is no option of that store"))
    }
}

impl<const COUNT: usize> From<[(String, String); COUNT]> for StoreOptions {
    fn from(options: [(String, String); COUNT]) -> StoreOptions {
        StoreOptions(options.into())
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.0.keys().map(|name| (name, HIDDEN))).finish()
    }
}

impl Serialize for StoreOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.keys().map(|name| (name, HIDDEN)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(name: &str) -> StoreOptions {
        StoreOptions::from([(name.to_owned(), "very secret".to_owned())])
    }

    #[test]
    fn values_are_not_shown() {
        let options = options("secret_access_key");
        let shown = format!("{options:?} {}", serde_json::to_string(&options).unwrap());
        assert_eq!(shown, r#"{"secret_access_key": "(hidden)"} {"secret_access_key":"(hidden)"}"#);
    }

    #[test]
    fn misspelt_options_are_named() {
        for (place, name) in [
            ("s3://", "endpoint"),
            ("s3://bucket", "AWS_SECRET_ACCESS_KEY"),
            ("s3://bucket", "allow_http"),
            ("gs://", "service_account"),
            ("az://container", "account_key"),
            ("abfss://container@account.dfs.core.windows.net", "account_key"),
        ] {
            assert_eq!(options(name).problem(place), None, "{place} {name}");
        }
        for (place, name) in [
            ("s3://", "endpiont"),
            ("gs://", "secret_access_key"),
            ("s3://bucket/", "endpoint"),
            ("bucket", "endpoint"),
            ("file://", "endpoint"),
        ] {
            let problem = options(name).problem(place).unwrap();
            assert!(problem.contains(place) && !problem.contains("very secret"), "{problem}");
        }
    }
}
