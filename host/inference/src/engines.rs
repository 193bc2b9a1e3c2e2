//! The engines of a host: the one that is built in, and those that this machine has beside it. Knows neither graphs nor
//! where a library may lie.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use modelhost_core::EngineName;
use serde::Serialize;

use crate::engine::Engine;
use crate::onnxruntime::{OnnxRuntimeEngine, discovery};
use crate::settings::InferenceSettings;
use crate::tract::TractEngine;

/// The engines that can run graphs here, and why the others cannot.
#[derive(Clone)]
pub struct Engines {
    embedded: Arc<dyn Engine>,
    onnxruntime: Result<Arc<dyn Engine>, String>,
}

/// What is known of an engine on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineStatus {
    /// Its name.
    pub name: EngineName,
    /// Whether graphs can run on it.
    pub available: bool,
    /// Its version, where it is available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why it is not available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The file of its library, where it is not built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
}

impl Engines {
    /// The built-in engine, and ONNX Runtime or the reason why it is not there.
    pub fn new(embedded: Arc<dyn Engine>, onnxruntime: Result<Arc<dyn Engine>, String>) -> Engines {
        Engines { embedded, onnxruntime }
    }

    /// The built-in engine and no other.
    pub fn embedded_only() -> Engines {
        Engines::new(Arc::new(TractEngine::new()), Err("it is switched off".to_owned()))
    }

    /// The built-in engine, and ONNX Runtime as the settings say.
    ///
    /// # Errors
    /// Where the settings name a library that cannot be used. That none is found is no error: the status says it.
    pub fn discover(settings: &InferenceSettings) -> Result<Engines, String> {
        let found = match settings.onnxruntime.as_str() {
            "off" => Err("it is switched off by inference.onnxruntime".to_owned()),
            "auto" => discovery::anywhere(),
            file => Ok(discovery::at(Path::new(file)).map_err(|reason| setting_refused(&reason))?),
        };
        let opened = found.and_then(|found| {
            OnnxRuntimeEngine::open(&found.file, settings.onnxruntime_intra_op_threads)
                .map_err(|reason| format!("{}: {reason}", found.file.display()))
        });
        match opened {
            Err(reason) if !matches!(settings.onnxruntime.as_str(), "auto" | "off") => {
                Err(setting_refused(&reason))
            }
            opened => {
                Ok(Engines::new(Arc::new(TractEngine::new()), opened.map(|engine| Arc::new(engine) as _)))
            }
        }
    }

    /// The built-in engine, and ONNX Runtime from this file or the reason why it cannot be used.
    pub fn with_onnxruntime(file: &Path) -> Engines {
        let opened = OnnxRuntimeEngine::open(file, 1).map(|engine| Arc::new(engine) as _);
        Engines::new(Arc::new(TractEngine::new()), opened)
    }

    /// The engine of this name.
    ///
    /// # Errors
    /// The reason why it is not available.
    pub fn get(&self, name: EngineName) -> Result<&Arc<dyn Engine>, &str> {
        match name {
            EngineName::Tract => Ok(&self.embedded),
            EngineName::OnnxRuntime => self.onnxruntime.as_ref().map_err(String::as_str),
        }
    }

    /// The engines that are available, the built-in one first.
    pub fn available(&self) -> impl Iterator<Item = &Arc<dyn Engine>> {
        EngineName::ALL.into_iter().filter_map(|name| self.get(name).ok())
    }

    /// What is known of every engine.
    pub fn status(&self) -> Vec<EngineStatus> {
        let status = |name| match self.get(name) {
            Ok(engine) => EngineStatus {
                name,
                available: true,
                version: Some(engine.version()),
                reason: None,
                library: engine.library().map(Path::to_owned),
            },
            Err(reason) => EngineStatus {
                name,
                available: false,
                version: None,
                reason: Some(reason.to_owned()),
                library: None,
            },
        };
        EngineName::ALL.into_iter().map(status).collect()
    }
}

fn setting_refused(reason: &str) -> String {
    format!("inference.onnxruntime names a library that cannot be used: {reason}")
}
