//! What a plugin or a graph takes and answers, and whether given tensors fit it.

use serde::{Deserialize, Serialize};

use crate::{Datatype, Tensor};

/// What a tensor is called and what it may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorDescription {
    /// The name, unique among the inputs or the outputs.
    pub name: String,
    /// The element type.
    pub datatype: Datatype,
    /// The extent of each dimension, outermost first; -1 where any extent is accepted.
    pub shape: Vec<i64>,
}

/// The typed inputs and outputs of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// What `predict` takes; every one is required.
    pub inputs: Vec<TensorDescription>,
    /// What `predict` answers; every one is always there.
    pub outputs: Vec<TensorDescription>,
}

/// The typed inputs and outputs of a network that a plugin carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphDescription {
    /// The name under which the plugin loads it.
    pub name: String,
    /// The inputs, in the order of the network's file.
    pub inputs: Vec<TensorDescription>,
    /// The outputs, in the order of the network's file.
    pub outputs: Vec<TensorDescription>,
}

/// Why named tensors do not fit a list of descriptions. `role` is "input" or "output".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureMismatch {
    /// A described tensor is not there.
    #[error("{role} {name:?} is missing: expected {expected}")]
    Missing {
        /// "input" or "output".
        role: &'static str,
        /// The tensor.
        name: String,
        /// The names that must be there.
        expected: String,
    },
    /// A tensor that nothing describes.
    #[error("{role} {name:?} is not known: expected {expected}")]
    Unknown {
        /// "input" or "output".
        role: &'static str,
        /// The tensor.
        name: String,
        /// The names that are known.
        expected: String,
    },
    /// The same name twice.
    #[error("{role} {name:?} is given more than once")]
    Repeated {
        /// "input" or "output".
        role: &'static str,
        /// The tensor.
        name: String,
    },
    /// Another element type than described.
    #[error("{role} {name:?} has datatype {actual}: expected {expected}")]
    Datatype {
        /// "input" or "output".
        role: &'static str,
        /// The tensor.
        name: String,
        /// What was given.
        actual: Datatype,
        /// What is described.
        expected: Datatype,
    },
    /// Another shape than described.
    #[error("{role} {name:?} has shape {actual:?}: expected {expected:?}, where -1 is any extent")]
    Shape {
        /// "input" or "output".
        role: &'static str,
        /// The tensor.
        name: String,
        /// What was given.
        actual: Vec<u64>,
        /// What is described.
        expected: Vec<i64>,
    },
}

impl Signature {
    /// Whether the first dimension of every tensor counts the rows of a batch: it is left free by all of them. Where one
    /// tensor has a fixed first extent, or no dimension, a request is not a list of rows, whatever the others say.
    pub fn has_batch_dimension(&self) -> bool {
        let mut tensors = self.inputs.iter().chain(&self.outputs).peekable();
        tensors.peek().is_some() && tensors.all(|tensor| tensor.shape.first() == Some(&-1))
    }
}

impl TensorDescription {
    /// Whether a tensor of this shape is accepted.
    pub fn accepts_shape(&self, shape: &[u64]) -> bool {
        self.shape.len() == shape.len()
            && self.shape.iter().zip(shape).all(|(&expected, &actual)| match u64::try_from(expected) {
                Ok(expected) => expected == actual,
                Err(_) => true,
            })
    }

    /// Checks datatype and shape of a tensor of this name.
    ///
    /// # Errors
    /// [`SignatureMismatch::Datatype`] or [`SignatureMismatch::Shape`].
    pub fn check(&self, role: &'static str, tensor: &Tensor) -> Result<(), SignatureMismatch> {
        if self.datatype != tensor.datatype() {
            return Err(SignatureMismatch::Datatype {
                role,
                name: self.name.clone(),
                actual: tensor.datatype(),
                expected: self.datatype,
            });
        }
        if !self.accepts_shape(tensor.shape()) {
            return Err(SignatureMismatch::Shape {
                role,
                name: self.name.clone(),
                actual: tensor.shape().to_vec(),
                expected: self.shape.clone(),
            });
        }
        Ok(())
    }

    /// Checks that exactly the described tensors are there, each once, each of the right datatype and shape.
    ///
    /// # Errors
    /// The first mismatch, in the order of `tensors`; then what is missing.
    pub fn check_all(
        descriptions: &[TensorDescription],
        role: &'static str,
        tensors: &[(String, Tensor)],
    ) -> Result<(), SignatureMismatch> {
        let mut seen = vec![false; descriptions.len()];
        for (name, tensor) in tensors {
            let index =
                descriptions.iter().position(|description| description.name == *name).ok_or_else(|| {
                    SignatureMismatch::Unknown {
                        role,
                        name: shortened(name),
                        expected: names_of(descriptions),
                    }
                })?;
            if std::mem::replace(&mut seen[index], true) {
                return Err(SignatureMismatch::Repeated { role, name: name.clone() });
            }
            descriptions[index].check(role, tensor)?;
        }
        match descriptions.iter().zip(&seen).find(|(_, seen)| !**seen) {
            Some((missing, _)) => Err(SignatureMismatch::Missing {
                role,
                name: missing.name.clone(),
                expected: names_of(descriptions),
            }),
            None => Ok(()),
        }
    }
}

fn names_of(descriptions: &[TensorDescription]) -> String {
    let names: Vec<&str> = descriptions.iter().map(|description| description.name.as_str()).collect();
    names.join(", ")
}

/// A name from outside may be of any length; the start is enough to recognise it.
fn shortened(name: &str) -> String {
    name.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(name: &str, shape: &[i64]) -> TensorDescription {
        TensorDescription { name: name.into(), datatype: Datatype::Fp32, shape: shape.to_vec() }
    }

    fn tensor(shape: &[u64]) -> Tensor {
        let elements = shape.iter().product::<u64>() as usize;
        Tensor::new(Datatype::Fp32, shape.to_vec(), vec![0; 4 * elements].into()).unwrap()
    }

    #[test]
    fn free_dimensions_take_any_extent() {
        let description = description("x", &[-1, 3]);
        assert!(description.accepts_shape(&[0, 3]));
        assert!(description.accepts_shape(&[7, 3]));
        assert!(!description.accepts_shape(&[7, 4]));
        assert!(!description.accepts_shape(&[7]));
    }

    #[test]
    fn a_batch_needs_a_free_first_dimension_everywhere() {
        let signature = |inputs: &[&[i64]], outputs: &[&[i64]]| Signature {
            inputs: inputs.iter().map(|shape| description("x", shape)).collect(),
            outputs: outputs.iter().map(|shape| description("y", shape)).collect(),
        };
        assert!(signature(&[&[-1, 4], &[-1]], &[&[-1, -1]]).has_batch_dimension());
        for (inputs, outputs) in [([4, -1], [-1, 1]), ([-1, 4], [1, 4])] {
            assert!(!signature(&[&inputs], &[&outputs]).has_batch_dimension());
        }
        assert!(!signature(&[&[-1]], &[&[]]).has_batch_dimension());
        assert!(!Signature::default().has_batch_dimension());
    }

    #[test]
    fn every_described_tensor_is_needed_exactly_once() {
        let descriptions = [description("x", &[-1]), description("y", &[2])];
        let x = || ("x".to_owned(), tensor(&[5]));
        let y = || ("y".to_owned(), tensor(&[2]));
        let check =
            |tensors: &[(String, Tensor)]| TensorDescription::check_all(&descriptions, "input", tensors);
        assert_eq!(check(&[y(), x()]), Ok(()));
        assert!(matches!(check(&[x()]), Err(SignatureMismatch::Missing { name, .. }) if name == "y"));
        assert!(matches!(check(&[x(), x(), y()]), Err(SignatureMismatch::Repeated { .. })));
        assert!(matches!(
            check(&[("z".to_owned(), tensor(&[1])), x(), y()]),
            Err(SignatureMismatch::Unknown { .. })
        ));
    }
}
