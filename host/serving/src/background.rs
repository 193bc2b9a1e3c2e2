//! Calls that nobody waits for: of a batch job. They run on threads that give way to all others, take no place from a
//! request, and are not counted as requests. What they need is held against deletion.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use modelhost_core::{ErrorCode, ModelName, Parameter, TensorDescription, VersionNumber};
use modelhost_inference::Priority;
use modelhost_runtime::{CallError, CallOptions, NamedTensors};
use parking_lot::Mutex;

use crate::error::Error;
use crate::host::ModelHost;
use crate::servable::Servable;

/// Why a call in the background gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackgroundError {
    /// The inputs do not fit the signature; a sentence.
    #[error("{0}")]
    Inputs(String),
    /// What the plugin did with them.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A step of an ensemble.
    #[error("{step}: {error}")]
    Step {
        /// Which one, in words.
        step: String,
        /// What happened there.
        error: Box<BackgroundError>,
    },
    /// It has nothing to do with the inputs: the version does not load, or is not there any more.
    #[error(transparent)]
    Version(#[from] Error),
}

/// Keeps a version from being deleted.
pub struct VersionHold {
    holds: Arc<Mutex<BTreeMap<VersionNumber, usize>>>,
    version: VersionNumber,
}

impl Servable {
    /// Answers one call for which nobody waits, in the order of the signature's outputs. Dropping the future ends it.
    ///
    /// # Errors
    /// [`BackgroundError`].
    pub async fn infer_in_background(
        self: &Arc<Self>,
        inputs: NamedTensors,
        parameters: Vec<(String, Parameter)>,
        timeout: Duration,
    ) -> Result<NamedTensors, BackgroundError> {
        TensorDescription::check_all(&self.signature.inputs, "input", &inputs)
            .map_err(|mismatch| BackgroundError::Inputs(mismatch.to_string()))?;
        if let Some(pipeline) = self.pipeline()? {
            return pipeline.infer_in_background(inputs, parameters, timeout).await;
        }
        let priority = Priority::BACKGROUND;
        let resident = self.resident().await?;
        let options = CallOptions { timeout, priority };
        let answer = resident.plugin.predict(&self.signature, inputs, parameters, options).await?;
        Ok(answer.outputs)
    }
}

impl ModelHost {
    /// Keeps a version from being deleted for as long as the hold is there.
    ///
    /// # Errors
    /// Unknown model or version.
    pub async fn hold_version(
        &self,
        model: &ModelName,
        version: VersionNumber,
    ) -> Result<VersionHold, Error> {
        let live = self.live_model(model)?;
        let _changing = live.changing.lock().await;
        live.state().version(model, version)?;
        *live.holds.lock().entry(version).or_default() += 1;
        Ok(VersionHold { holds: live.holds.clone(), version })
    }
}

/// Refuses to delete a version that is held.
pub(crate) fn refuse_if_held(
    holds: &Mutex<BTreeMap<VersionNumber, usize>>,
    version: VersionNumber,
) -> Result<(), Error> {
    if holds.lock().contains_key(&version) {
        let message =
            format!("version {version} is used by a batch job that has not ended: cancel the job first");
        return Err(Error::new(ErrorCode::Conflict, message));
    }
    Ok(())
}

impl Drop for VersionHold {
    fn drop(&mut self) {
        let mut holds = self.holds.lock();
        if let Some(count) = holds.get_mut(&self.version) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.version);
            }
        }
    }
}
