//! What an operator may set about batch, with defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::store_options::StoreOptions;

/// Settings of datasets and what is done with them. Every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// Jobs that run at one moment; others are queued. Default 1.
    pub max_running_jobs: usize,
    /// Bytes that queries over datasets may hold in memory, over all of them; what does not fit is written to the data
    /// folder meanwhile. Default 512 MiB.
    pub query_memory_bytes: u64,
    /// Bytes that these queries may write to the data folder meanwhile, over all of them. Default 16 GiB.
    pub max_spill_bytes: u64,
    /// Bytes of address space of the process that looks into the files of a dataset before a version is made of them.
    /// Files that take more are refused. Default 2 GiB.
    pub inspection_memory_bytes: u64,
    /// Seconds of processor time of that process. Default 3,600.
    pub inspection_seconds: u64,
    /// Such processes at one moment; more wait. Default 2.
    pub concurrent_inspections: usize,
    /// Bytes of all files of one uploaded dataset version. Default 64 GiB. More is refused with 413.
    pub max_dataset_bytes: u64,
    /// Files of one dataset version. Default 10,000.
    pub max_dataset_files: usize,
    /// URLs below which objects may be registered as datasets, such as `s3://bucket/` or `file:///srv/data/`. Default
    /// none: whoever reaches the API could otherwise read everything that this host may read.
    pub allowed_urls: Vec<String>,
    /// Options for object stores by the beginning of their URLs, such as `s3://bucket`, or `s3://` for all buckets:
    /// `endpoint`, `region` and so on, by the names that the crate `object_store` gives them. They go before the environment variables (`AWS_…`,
    /// `GOOGLE_…`, `AZURE_…`). Default none.
    pub object_stores: BTreeMap<String, StoreOptions>,
}

impl Default for BatchSettings {
    fn default() -> BatchSettings {
        BatchSettings {
            max_running_jobs: 1,
            query_memory_bytes: 512 << 20,
            max_spill_bytes: 16 << 30,
            inspection_memory_bytes: 2 << 30,
            inspection_seconds: 3_600,
            concurrent_inspections: 2,
            max_dataset_bytes: 64 << 30,
            max_dataset_files: 10_000,
            allowed_urls: Vec::new(),
            object_stores: BTreeMap::new(),
        }
    }
}

/// Settings that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}: expected {expected}")]
pub struct InvalidBatchSetting {
    name: &'static str,
    value: String,
    expected: &'static str,
}

impl BatchSettings {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), InvalidBatchSetting> {
        let refuse = |name, value: &dyn ToString, expected| {
            Err(InvalidBatchSetting { name, value: value.to_string(), expected })
        };
        if self.query_memory_bytes < 16 << 20 {
            return refuse("query_memory_bytes", &self.query_memory_bytes, "at least 16777216");
        }
        if self.inspection_memory_bytes < 256 << 20 {
            return refuse("inspection_memory_bytes", &self.inspection_memory_bytes, "at least 268435456");
        }
        if self.inspection_seconds == 0 {
            return refuse("inspection_seconds", &0, "at least 1");
        }
        if self.concurrent_inspections == 0 {
            return refuse("concurrent_inspections", &0, "at least 1");
        }
        if self.max_dataset_files == 0 {
            return refuse("max_dataset_files", &0, "at least 1");
        }
        let problem = self.object_stores.iter().find_map(|(place, options)| options.problem(place));
        if let Some(problem) = problem {
            return refuse("object_stores", &problem, "the names that the crate object_store gives them");
        }
        match self.allowed_urls.iter().find(|allowed| !is_url_prefix(allowed)) {
            Some(wrong) => refuse("allowed_urls", wrong, "URLs that end in a slash, such as s3://bucket/"),
            None => Ok(()),
        }
    }
}

/// Without the slash, `s3://bucket` would allow `s3://bucket-of-somebody-else` too.
fn is_url_prefix(text: &str) -> bool {
    text.ends_with('/') && url::Url::parse(text).is_ok_and(|url| url.as_str() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert_eq!(BatchSettings::default().check(), Ok(()));
        let allowing = |url: &str| BatchSettings { allowed_urls: vec![url.to_owned()], ..Default::default() };
        for url in ["s3://bucket/", "s3://bucket/folder/", "file:///srv/data/"] {
            assert_eq!(allowing(url).check(), Ok(()), "{url}");
        }
        for url in ["", "/srv/data/", "s3://bucket", "file:///srv/data", "s3://bucket/a/../"] {
            assert!(allowing(url).check().is_err(), "{url}");
        }
        let refused = BatchSettings { max_dataset_files: 0, ..Default::default() }.check().unwrap_err();
        assert_eq!(refused.to_string(), "max_dataset_files is 0: expected at least 1");
    }
}
