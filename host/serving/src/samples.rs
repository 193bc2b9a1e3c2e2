//! The samples of a version: requests that its author gave along. Reads them from the component's file and decodes
//! them. It does not run them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use modelhost_core::{ErrorCode, Parameter, SampleSection, Signature, TensorDescription};
use modelhost_protocol::{InferRequest, decode_sample};
use modelhost_runtime::NamedTensors;

use crate::error::Error;

/// A request that a plugin is known to answer.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) inputs: NamedTensors,
    pub(crate) parameters: Vec<(String, Parameter)>,
}

/// Reads samples from the file of their component.
///
/// # Errors
/// [`ErrorCode::Unprocessable`] for one that is no request, or does not fit the signature; a file that cannot be read.
pub(crate) fn read_samples(
    component: &Path,
    sections: &[SampleSection],
    signature: &Signature,
) -> Result<Vec<Sample>, Error> {
    if sections.is_empty() {
        return Ok(Vec::new());
    }
    let file = File::open(component).map_err(Error::internal)?;
    sections.iter().map(|section| read_sample(&file, section, signature)).collect()
}

fn read_sample(file: &File, section: &SampleSection, signature: &Signature) -> Result<Sample, Error> {
    // The section was found in this file, and its size checked, when the component was inspected.
    let mut json = vec![0; usize::try_from(section.size_bytes).map_err(Error::internal)?];
    file.read_exact_at(&mut json, section.offset).map_err(Error::internal)?;
    let request = decode_sample(&json).map_err(|error| unusable(&section.name, &error))?;
    let InferRequest { inputs, parameters, .. } = request;
    TensorDescription::check_all(&signature.inputs, "input", &inputs)
        .map_err(|mismatch| unusable(&section.name, &mismatch))?;
    Ok(Sample { name: section.name.clone(), inputs, parameters })
}

/// The error of a sample that is refused.
pub(crate) fn unusable(sample: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorCode::Unprocessable, format!("sample {sample:?} cannot be answered: {reason}"))
}
