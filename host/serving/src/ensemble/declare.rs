//! From a declaration to a version: every name is looked up once and stands for that version from then on, the steps are
//! checked against each other, and only then it is stored and recorded.

use std::sync::Arc;

use modelhost_core::{
    Capabilities, ComponentMetadata, DeclaredEnsemble, DeclaredStep, Digest, Ensemble, EnsembleDeclaration,
    EnsembleStep, ErrorCode, MAX_ENSEMBLE_DEPTH, MAX_ENSEMBLE_STEPS, ModelName, Signature,
};
use modelhost_registry::{NewVersion, Version, ensemble_file};

use crate::error::Error;
use crate::host::ModelHost;
use crate::operate::finish;
use crate::reference::ModelReference;
use crate::upload::{Staged, UploadOptions, UploadOutcome};

/// Bytes of a declaration: names of a great many tensors.
pub(super) const MAX_DESCRIPTION_BYTES: usize = 16 << 10;

/// Calls that one request may lead to, of all ensembles within it.
const MAX_CALLS: usize = 4 * MAX_ENSEMBLE_STEPS;

impl ModelHost {
    /// Makes a version of a declared ensemble, and deploys it if that is asked for. Runs to its end even where the caller goes
    /// away. The same steps of the same versions are the version that is there already.
    ///
    /// # Errors
    /// [`ErrorCode::Unprocessable`] for steps that are not known or do not fit together, in one sentence.
    pub async fn declare_ensemble(
        self: &Arc<Self>,
        model: ModelName,
        declaration: EnsembleDeclaration,
        options: UploadOptions,
    ) -> Result<UploadOutcome, Error> {
        let host = self.clone();
        finish(async move {
            let version = host.ensemble_version(declaration, options.by.clone())?;
            let digest = version.digest;
            host.admit(model, digest, Some(Staged::Ensemble(Box::new(version))), options).await
        })
        .await
    }

    fn ensemble_version(
        &self,
        declaration: EnsembleDeclaration,
        uploaded_by: Option<String>,
    ) -> Result<NewVersion, Error> {
        let EnsembleDeclaration { description, ensemble } = declaration;
        if description.as_ref().is_some_and(|text| text.len() > MAX_DESCRIPTION_BYTES) {
            return Err(refused(format!("the description is longer than {MAX_DESCRIPTION_BYTES} bytes")));
        }
        let (ensemble, versions) = self.resolve(ensemble)?;
        let signatures: Vec<&Signature> = versions.iter().map(|version| &version.signature).collect();
        let signature = ensemble.signature(&signatures).map_err(|error| refused(error.to_string()))?;
        self.check_extent(&ensemble)?;
        let file = ensemble_file(description.as_deref(), &ensemble);
        Ok(NewVersion {
            digest: Digest::of(&file),
            size_bytes: file.len() as u64,
            uploaded_by,
            signature,
            graphs: Vec::new(),
            samples: Vec::new(),
            capabilities: Capabilities::default(),
            metadata: ComponentMetadata { description, ..ComponentMetadata::default() },
            compiled_size_bytes: 0,
            ensemble: Some(ensemble),
        })
    }

    /// The same with a number in place of each name, and the versions of all steps.
    fn resolve(&self, declared: DeclaredEnsemble) -> Result<(Ensemble, Vec<Version>), Error> {
        let DeclaredEnsemble { inputs, outputs, steps } = declared;
        // Before anything is looked up for each of them.
        if steps.len() > MAX_ENSEMBLE_STEPS {
            let steps = steps.len();
            return Err(refused(format!(
                "the ensemble has {steps} steps: at most {MAX_ENSEMBLE_STEPS} are supported"
            )));
        }
        let (mut resolved, mut versions) = (Vec::with_capacity(steps.len()), Vec::with_capacity(steps.len()));
        for (index, DeclaredStep { model: name, inputs, outputs }) in steps.into_iter().enumerate() {
            let in_step = |reason: &dyn std::fmt::Display| refused(format!("step {}: {reason}", index + 1));
            let reference: ModelReference = name.parse().map_err(|error| in_step(&error))?;
            let ModelReference { model, version: selector } = reference;
            let version = self.version_now(&model, &selector).map_err(|error| in_step(&error))?;
            let (number, digest) = (version.number, version.digest);
            resolved.push(EnsembleStep { model, version: number, digest, inputs, outputs });
            versions.push(version);
        }
        Ok((Ensemble { inputs, outputs, steps: resolved }, versions))
    }

    /// Ensembles of ensembles are soon large.
    fn check_extent(&self, ensemble: &Ensemble) -> Result<(), Error> {
        let (depth, calls) = self.extent(ensemble, 1);
        if depth > MAX_ENSEMBLE_DEPTH {
            return Err(refused(format!(
                "the ensemble holds ensembles more than {MAX_ENSEMBLE_DEPTH} deep: expected at most that"
            )));
        }
        if calls > MAX_CALLS {
            return Err(refused(format!(
                "a request of the ensemble makes {calls} calls, with those of ensembles within it: at most {MAX_CALLS} are supported"
            )));
        }
        Ok(())
    }

    /// How deep ensembles are within this one, itself counted, and how many calls a request makes. Those that exist are within
    /// the limits, so that this ends soon.
    fn extent(&self, ensemble: &Ensemble, depth: usize) -> (usize, usize) {
        let within = |step: &EnsembleStep| {
            let record = self.live.get(&step.model)?.state().record.clone()?;
            let inner = record.version(step.version)?.ensemble.as_ref()?;
            Some(self.extent(inner, depth + 1))
        };
        let extents = ensemble.steps.iter().map(|step| within(step).unwrap_or((depth, 1)));
        extents.fold((depth, 0), |(deepest, calls), (depth, more)| (deepest.max(depth), calls + more))
    }
}

fn refused(sentence: String) -> Error {
    Error::new(ErrorCode::Unprocessable, sentence)
}
