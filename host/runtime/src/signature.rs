//! Which signatures a plugin may declare, and whether its outputs are what it declared.

use std::collections::HashSet;

use modelhost_core::{MAX_RANK, Signature, TensorDescription};

use crate::call::CallError;
use crate::refusal::Refusal;
use crate::sandbox::NamedTensors;

const MAX_TENSORS: usize = 1_024;
const MAX_NAME_BYTES: usize = 256;

/// Checks that names are unique and usable and that shapes make sense.
///
/// # Errors
/// [`Refusal::InvalidSignature`] with the first rule that is broken.
pub fn check_signature(signature: &Signature) -> Result<(), Refusal> {
    let invalid = |reason| Refusal::InvalidSignature { reason };
    check_tensors("input", &signature.inputs).map_err(invalid)?;
    check_tensors("output", &signature.outputs).map_err(invalid)?;
    if signature.outputs.is_empty() {
        return Err(invalid("it has no outputs".to_owned()));
    }
    Ok(())
}

/// Checks outputs, and puts them into the order of the signature.
///
/// # Errors
/// [`CallError::ContractViolation`] with the first output that does not fit.
pub(crate) fn in_signature_order(
    signature: &Signature,
    mut outputs: NamedTensors,
) -> Result<NamedTensors, CallError> {
    TensorDescription::check_all(&signature.outputs, "output", &outputs)
        .map_err(|mismatch| CallError::ContractViolation { reason: mismatch.to_string() })?;
    let position = |name: &str| signature.outputs.iter().position(|described| described.name == name);
    outputs.sort_by_key(|(name, _)| position(name));
    Ok(outputs)
}

fn check_tensors(role: &str, tensors: &[TensorDescription]) -> Result<(), String> {
    if tensors.len() > MAX_TENSORS {
        return Err(format!("it has {} {role}s: at most {MAX_TENSORS} are supported", tensors.len()));
    }
    let mut names = HashSet::new();
    for tensor in tensors {
        let name = tensor.name.as_str();
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(format!(
                "an {role} needs a name of 1 to {MAX_NAME_BYTES} bytes without control characters"
            ));
        }
        if !names.insert(name) {
            return Err(format!("it has two {role}s named {name:?}"));
        }
        if tensor.shape.len() > MAX_RANK {
            return Err(format!("{role} {name:?} has {} dimensions: at most {MAX_RANK}", tensor.shape.len()));
        }
        if let Some(extent) = tensor.shape.iter().find(|extent| **extent < -1) {
            return Err(format!("{role} {name:?} has the extent {extent}: expected -1 or a size"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelhost_core::Datatype;

    fn tensor(name: &str, shape: &[i64]) -> TensorDescription {
        TensorDescription { name: name.into(), datatype: Datatype::Fp32, shape: shape.to_vec() }
    }

    #[test]
    fn rules() {
        let signature =
            |outputs: &[TensorDescription]| Signature { inputs: vec![], outputs: outputs.to_vec() };
        assert!(check_signature(&signature(&[tensor("y", &[-1, 3])])).is_ok());
        for outputs in [
            vec![],
            vec![tensor("", &[])],
            vec![tensor("a\nb", &[])],
            vec![tensor("y", &[]), tensor("y", &[])],
            vec![tensor("y", &[-2])],
            vec![tensor("y", &[1; 17])],
        ] {
            assert!(check_signature(&signature(&outputs)).is_err(), "{outputs:?}");
        }
    }
}
