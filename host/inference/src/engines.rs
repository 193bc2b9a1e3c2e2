//! The engines of a host: the one that is built in, and those that this machine has beside it. Knows neither graphs nor
//! how an engine is found.

use std::sync::Arc;

use modelhost_core::EngineName;
use serde::Serialize;

use crate::engine::Engine;
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
            Ok(engine) => {
                EngineStatus { name, available: true, version: Some(engine.version()), reason: None }
            }
            Err(reason) => {
                EngineStatus { name, available: false, version: None, reason: Some(reason.to_owned()) }
            }
        };
        EngineName::ALL.into_iter().map(status).collect()
    }
}
