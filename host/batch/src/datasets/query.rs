//! How datasets are queried: the settings of DataFusion that all queries share, and a version as a table.

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use url::Url;

use super::store::DatasetStore;
use super::version::{DataFormat, DatasetVersion};
use crate::settings::BatchSettings;

/// The address under which DataFusion finds the store of all datasets.
const STORE_URL: &str = "dataset://files/";

/// What all queries share: memory, where they put what does not fit, and the files.
pub(super) fn environment(
    settings: &BatchSettings,
    spill: &Path,
    store: Arc<DatasetStore>,
) -> Result<Arc<RuntimeEnv>> {
    let memory = usize::try_from(settings.query_memory_bytes).unwrap_or(usize::MAX);
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill.to_owned()]))
        .with_max_temp_directory_size(settings.max_spill_bytes);
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(memory)))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    environment.register_object_store(&store_url(), store);
    Ok(environment)
}

/// A session for one query, in which names are taken as they are written.
pub(super) fn session(environment: Arc<RuntimeEnv>) -> SessionContext {
    let mut config = SessionConfig::new().with_information_schema(false);
    config.options_mut().sql_parser.enable_ident_normalization = false;
    // A value may hold a line feed, so that a CSV file cannot be cut just anywhere.
    config.options_mut().catalog.newlines_in_values = true;
    SessionContext::new_with_config_rt(config, environment)
}

/// A version as a table. Its files are known to the store under `folder`.
pub(super) fn table(version: &DatasetVersion, folder: &str) -> Result<Arc<dyn TableProvider>> {
    let mut url = store_url();
    url.set_path(&format!("/{folder}/"));
    let options = ListingOptions::new(format(version.format)).with_file_extension(extension(version.format));
    let config = ListingTableConfig::new(ListingTableUrl::try_new(url, None)?)
        .with_listing_options(options)
        .with_schema(version.schema.to_arrow());
    Ok(Arc::new(ListingTable::try_new(config)?))
}

fn extension(format: DataFormat) -> String {
    format!(".{}", format.extension())
}

fn format(format: DataFormat) -> Arc<dyn FileFormat> {
    match format {
        DataFormat::Parquet => Arc::new(ParquetFormat::default()),
        DataFormat::Csv => Arc::new(CsvFormat::default().with_has_header(true).with_newlines_in_values(true)),
        DataFormat::Jsonl => Arc::new(JsonFormat::default()),
    }
}

fn store_url() -> Url {
    // A constant that parses.
    STORE_URL.parse().expect("the address of the store is one: bug")
}
