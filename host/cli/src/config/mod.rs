//! The configuration of a host: defaults, one file, the environment, flags; what comes later wins. What the
//! single settings mean is said by the crates that they belong to, and in `docs/configuration.md`.

#[cfg(test)]
mod documentation_tests;
mod environment;

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use modelhost_batch::BatchSettings;
use modelhost_inference::InferenceSettings;
use modelhost_runtime::RuntimeSettings;
use modelhost_server::ServerSettings;
use modelhost_serving::ServingSettings;
use serde::{Deserialize, Serialize};

use crate::logging::LogSettings;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder that holds everything: records, components, networks, machine code. Default `modelhost-data`
    /// in the current folder.
    pub data_dir: PathBuf,
    /// Listening, and limits of connections and requests.
    pub server: ServerSettings,
    /// Queues, uploads and what stays loaded.
    pub serving: ServingSettings,
    /// Engines and batches.
    pub inference: InferenceSettings,
    /// Sandboxes, limits of a call, compilation.
    pub runtime: RuntimeSettings,
    /// Datasets, and what is done with them.
    pub batch: BatchSettings,
    /// The log.
    pub log: LogSettings,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dir: "modelhost-data".into(),
            server: ServerSettings::default(),
            serving: ServingSettings::default(),
            inference: InferenceSettings::default(),
            runtime: RuntimeSettings::default(),
            batch: BatchSettings::default(),
            log: LogSettings::default(),
        }
    }
}

/// Where the configuration is, and what of it was typed.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArguments {
    /// The configuration file (TOML)
    #[arg(long, env = "MODELHOST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder that holds everything [default: modelhost-data]
    #[arg(long, env = "MODELHOST_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A configuration, and what is odd about where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// What is to be used.
    pub config: Config,
    /// A sentence each, to be logged.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the file, the environment and these arguments.
    ///
    /// # Errors
    /// A file that cannot be read, and values that are none: each with the name of the key or variable.
    pub fn load(arguments: &ConfigArguments) -> anyhow::Result<Loaded> {
        Config::load_with(arguments, None, std::env::vars_os())
    }

    /// As [`Config::load`], with a typed address and any environment.
    pub fn load_with(
        arguments: &ConfigArguments,
        listen: Option<SocketAddr>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> anyhow::Result<Loaded> {
        let mut config = match &arguments.config {
            Some(path) => {
                let text =
                    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                toml::from_str(&text)
                    .with_context(|| format!("in the configuration file {}", path.display()))?
            }
            None => Config::default(),
        };
        let warnings = environment::apply(&mut config, environment)?;
        if let Some(data_dir) = &arguments.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Some(listen) = listen {
            config.server.listen = listen;
        }
        config.runtime.check().context("in the section [runtime]")?;
        config.server.check().context("in the section [server]")?;
        config.batch.check().context("in the section [batch]")?;
        Ok(Loaded { config, warnings })
    }

    /// The configuration as a file that would give it.
    ///
    /// # Errors
    /// A data folder whose name is not UTF-8.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string_pretty(self).context("the configuration cannot be written as TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], data_dir: Option<&str>) -> anyhow::Result<Loaded> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("modelhost.toml");
        fs::write(&path, file).unwrap();
        let arguments = ConfigArguments { config: Some(path), data_dir: data_dir.map(PathBuf::from) };
        let environment =
            environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::load_with(&arguments, None, environment)
    }

    fn complaint(file: &str, environment: &[(&str, &str)]) -> String {
        format!("{:#}", load(file, environment, None).unwrap_err())
    }

    #[test]
    fn later_sources_win() {
        let file = "data_dir = 'file'\n[serving]\nloaded_bytes = 1\nmax_upload_bytes = 2\n[runtime.limits]\nhandles = 3";
        let environment =
            [("MODELHOST_DATA_DIR", "environment"), ("MODELHOST_SERVING_MAX_UPLOAD_BYTES", "20")];
        let config = load(file, &environment, Some("flag")).unwrap().config;
        assert_eq!(config.data_dir, PathBuf::from("flag"));
        assert_eq!(config.serving.max_upload_bytes, 20);
        assert_eq!(config.serving.loaded_bytes, 1);
        assert_eq!(config.runtime.limits.handles, 3);
        assert_eq!(config.server, ServerSettings::default());
        assert_eq!(load(file, &environment, None).unwrap().config.data_dir, PathBuf::from("environment"));
        assert_eq!(load(file, &[], None).unwrap().config.data_dir, PathBuf::from("file"));
        assert_eq!(load("", &[], None).unwrap().config, Config::default());
    }

    #[test]
    fn a_typed_address_wins() {
        let listen = "127.0.0.1:1".parse().unwrap();
        let environment = [("MODELHOST_SERVER_LISTEN".into(), "127.0.0.1:2".into())].into_iter();
        let loaded = Config::load_with(&ConfigArguments::default(), Some(listen), environment).unwrap();
        assert_eq!(loaded.config.server.listen, listen);
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        let unknown = complaint("[server]\nlisten_on = 'x'", &[]);
        assert!(
            unknown.contains("line 2") && unknown.contains("listen_on") && unknown.contains("max_body_bytes"),
            "{unknown}"
        );
        let mistyped = complaint("[runtime.limits]\nmemory_bytes = 'much'", &[]);
        assert!(mistyped.contains("memory_bytes = 'much'") && mistyped.contains("line 2"), "{mistyped}");
        assert!(complaint("[sevrer]", &[]).contains("sevrer"));
        assert!(
            complaint("[server]\nmax_body_bytes = 0", &[])
                .contains("max_body_bytes is 0: expected at least 1")
        );
        let arguments = ConfigArguments { config: Some("/nowhere.toml".into()), data_dir: None };
        let missing = Config::load_with(&arguments, None, std::iter::empty()).unwrap_err();
        assert!(missing.to_string().contains("/nowhere.toml"));
    }

    #[test]
    fn mistakes_in_the_environment_are_named() {
        let number = complaint("", &[("MODELHOST_SERVER_MAX_BODY_BYTES", "1 MiB")]);
        assert_eq!(
            number,
            "environment variable MODELHOST_SERVER_MAX_BODY_BYTES is \"1 MiB\": expected an integer"
        );
        let negative = complaint("", &[("MODELHOST_RUNTIME_LIMITS_HANDLES", "-1")]);
        assert!(negative.contains("MODELHOST_RUNTIME_LIMITS_HANDLES"), "{negative}");
        let address = complaint("", &[("MODELHOST_SERVER_LISTEN", "somewhere")]);
        assert!(address.contains("MODELHOST_SERVER_LISTEN") && address.contains("somewhere"), "{address}");
        assert!(complaint("", &[("MODELHOST_LOG_FORMAT", "xml")]).contains("MODELHOST_LOG_FORMAT"));
        assert!(
            complaint("", &[("MODELHOST_RUNTIME_ALLOW_GRAPH_LOAD", "yes")])
                .contains("expected true or false")
        );
    }

    #[test]
    fn variables_that_mean_nothing_are_warned_about() {
        let odd =
            [("MODELHOST_SERVER_MAX_BODY", "1"), ("MODELHOST_PORT", "tcp://10.0.0.1:80"), ("HOME", "/")];
        let warnings = load("", &odd, None).unwrap().warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("MODELHOST_SERVER_MAX_BODY"));
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let mut config = Config::default();
        config.runtime.limits.handles = 7;
        config.data_dir = "elsewhere".into();
        assert_eq!(toml::from_str::<Config>(&config.to_toml().unwrap()).unwrap(), config);
    }
}
