//! Object stores that an operator allowed: from a URL to what reads it, with credentials and endpoints from the
//! configuration and the environment.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Arc;

use modelhost_core::ErrorCode;
use object_store::path::Path;
use object_store::{ObjectStore, parse_url_opts};
use parking_lot::Mutex;
use url::Url;

use crate::Error;
use crate::settings::{BatchSettings, StoreOptions};

const SCHEMES: [&str; 6] = ["s3", "gs", "az", "abfs", "abfss", "file"];
/// Of these the name before the host is that of a container.
const CONTAINER_BEFORE_ACCOUNT: [&str; 2] = ["abfs", "abfss"];
/// Environment variables whose names begin so are options of the stores that these schemes mean.
const ENVIRONMENT: [(&str, &[&str]); 3] =
    [("AWS_", &["s3"]), ("GOOGLE_", &["gs"]), ("AZURE_", &["az", "abfs", "abfss"])];

/// The stores that were opened, and what they are opened with.
pub(super) struct ObjectStores {
    allowed: Vec<String>,
    options: BTreeMap<String, StoreOptions>,
    /// By scheme and authority: a store keeps its connections.
    open: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl ObjectStores {
    pub(super) fn new(settings: &BatchSettings) -> ObjectStores {
        ObjectStores {
            allowed: settings.allowed_urls.clone(),
            options: settings.object_stores.clone(),
            open: Mutex::default(),
        }
    }

    /// The store of a URL, and the path in it.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for a URL that is none of an object, or is not allowed.
    pub(super) fn open(&self, url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
        self.check(url)?;
        let path = Path::from_url_path(url.path()).map_err(|error| {
            Error::new(ErrorCode::InvalidArgument, format!("{url} cannot be used: {error}"))
        })?;
        let key = url[..url::Position::BeforePath].to_owned();
        if let Some(store) = self.open.lock().get(&key) {
            return Ok((store.clone(), path));
        }
        let (store, path) = parse_url_opts(url, self.options_for(url)).map_err(|error| {
            // It may quote what the operator set.
            tracing::warn!(%url, %error, "an object store cannot be used");
            let sentence = format!("{url} cannot be used: is this host configured for it?");
            Error::new(ErrorCode::InvalidArgument, sentence)
        })?;
        let store: Arc<dyn ObjectStore> = Arc::from(store);
        self.open.lock().insert(key, store.clone());
        Ok((store, path))
    }

    fn check(&self, url: &Url) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::new(ErrorCode::InvalidArgument, message));
        if !SCHEMES.contains(&url.scheme()) {
            return refuse(format!(
                "{url} is no URL of an object: expected {}",
                SCHEMES.map(|s| format!("{s}://")).join(", ")
            ));
        }
        if url.query().is_some()
            || url.fragment().is_some()
            || !(url.username().is_empty() || CONTAINER_BEFORE_ACCOUNT.contains(&url.scheme()))
            || url.password().is_some()
            || url.path().ends_with('/')
        {
            return refuse(format!(
                "{url} is no URL of an object: expected a place and a path, such as s3://bucket/folder/file.parquet"
            ));
        }
        // The parser has resolved "..", also where it is written with percent signs.
        if !self.allowed.iter().any(|allowed| url.as_str().starts_with(allowed)) {
            return refuse(format!("{url} is below no URL that batch.allowed_urls of this host names"));
        }
        if url.scheme() == "file" { self.check_links(url) } else { Ok(()) }
    }

    /// A symbolic link may not lead out of what is allowed.
    fn check_links(&self, url: &Url) -> Result<(), Error> {
        let missing = || Error::new(ErrorCode::NotFound, format!("{url} does not exist"));
        let path = url.to_file_path().map_err(|()| missing())?;
        let real = fs::canonicalize(path).map_err(|_| missing())?;
        let folders = self.allowed.iter().filter_map(|allowed| Url::parse(allowed).ok()?.to_file_path().ok());
        let is_below =
            folders.filter_map(|folder| fs::canonicalize(folder).ok()).any(|folder| real.starts_with(folder));
        if is_below { Ok(()) } else { Err(missing()) }
    }

    /// The environment first: what comes later wins.
    fn options_for(&self, url: &Url) -> Vec<(String, String)> {
        let prefixes = ENVIRONMENT.iter().filter(|(_, schemes)| schemes.contains(&url.scheme()));
        let prefixes: Vec<&str> = prefixes.map(|(prefix, _)| *prefix).collect();
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let is_option = prefixes.iter().any(|prefix| name.starts_with(prefix));
            is_option.then_some((name.to_ascii_lowercase(), value.into_string().ok()?))
        });
        let mut options: Vec<(String, String)> = variables.collect();
        // For all stores of a kind, then for one.
        let places = [format!("{}://", url.scheme()), url[..url::Position::BeforePath].to_owned()];
        options.extend(
            places
                .iter()
                .filter_map(|place| self.options.get(place))
                .flat_map(StoreOptions::all)
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())),
        );
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(allowed: &str) -> ObjectStores {
        let settings = BatchSettings { allowed_urls: vec![allowed.to_owned()], ..Default::default() };
        settings.check().unwrap();
        ObjectStores::new(&settings)
    }

    #[test]
    fn urls_of_every_kind_of_store_are_understood() {
        for (allowed, url, path) in [
            ("s3://bucket/", "s3://bucket/folder/a%20b.csv", "folder/a b.csv"),
            ("gs://bucket/", "gs://bucket/folder/a.csv", "folder/a.csv"),
            ("az://container/", "az://container/folder/a.csv", "folder/a.csv"),
            (
                "abfss://container@account.dfs.core.windows.net/",
                "abfss://container@account.dfs.core.windows.net/folder/a.csv",
                "folder/a.csv",
            ),
            (
                "abfs://container@account.dfs.core.windows.net/x/",
                "abfs://container@account.dfs.core.windows.net/x/a.csv",
                "x/a.csv",
            ),
        ] {
            let mut stores = stores(allowed);
            // An account has to be known, as it would be from the environment.
            let account = StoreOptions::from([("account_name".to_owned(), "account".to_owned())]);
            stores.options.insert("az://".to_owned(), account);
            for _ in 0..2 {
                let (_, found) =
                    stores.open(&url.parse().unwrap()).unwrap_or_else(|error| panic!("{url}: {error}"));
                assert_eq!(found.as_ref(), path, "{url}");
            }
        }
    }

    #[test]
    fn only_azure_has_names_before_a_host() {
        for (allowed, url) in [
            ("s3://bucket/", "s3://user@bucket/a.csv"),
            ("s3://bucket/", "s3://user:word@bucket/a.csv"),
            ("gs://bucket/", "gs://user@bucket/a.csv"),
            (
                "abfss://container@account.dfs.core.windows.net/",
                "abfss://container:word@account.dfs.core.windows.net/a.csv",
            ),
            (
                "abfss://container@account.dfs.core.windows.net/",
                "abfss://other@account.dfs.core.windows.net/a.csv",
            ),
        ] {
            let refused = stores(allowed).open(&url.parse().unwrap()).err().unwrap();
            assert_eq!(refused.code, ErrorCode::InvalidArgument, "{url}");
        }
    }
}
