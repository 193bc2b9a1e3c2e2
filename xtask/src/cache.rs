//! Owns where things lie in the user's cache folder that are made once for all checkouts.
//!
//! It must not know what they are.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// `modelhost/NAME` in the user's cache folder.
pub fn folder(name: &str) -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    let base = match (set("XDG_CACHE_HOME").filter(|path| path.is_absolute()), set("HOME")) {
        (Some(cache), _) => cache,
        (None, Some(home)) => home.join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME says where the cache folder is"),
    };
    Ok(base.join("modelhost").join(name))
}
