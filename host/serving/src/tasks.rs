//! What models declare that they are good for, and what the host asks of those that do: under which names and types it
//! finds their inputs and outputs. Knows no API that uses it.

use modelhost_core::{Capabilities, Datatype, ErrorCode, Signature, TensorDescription};

use crate::error::Error;

/// A task for which the host has an API of its own. Others may be declared too, and are only shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Goes on with each of some texts.
    TextGeneration,
    /// Answers a conversation.
    Chat,
    /// Turns each of some texts into numbers, such that those of similar texts are near each other.
    FeatureExtraction,
}

/// The input of a task: one text a row.
pub const TEXT_INPUT: &str = "text_input";
/// What was generated: one text a row.
pub const TEXT_OUTPUT: &str = "text_output";

impl Task {
    const ALL: [Task; 3] = [Task::TextGeneration, Task::Chat, Task::FeatureExtraction];

    /// The name under which it is declared.
    pub const fn as_str(self) -> &'static str {
        match self {
            Task::TextGeneration => "text-generation",
            Task::Chat => "chat",
            Task::FeatureExtraction => "feature-extraction",
        }
    }

    /// Whether a model declares it.
    pub fn is_declared(self, capabilities: &Capabilities) -> bool {
        capabilities.tasks.contains(self.as_str())
    }

    fn fits(self, signature: &Signature) -> bool {
        let has_text = matches!(&signature.inputs[..], [input] if is_text(input, TEXT_INPUT));
        has_text
            && match self {
                Task::TextGeneration | Task::Chat => {
                    signature.outputs.iter().any(|output| is_text(output, TEXT_OUTPUT))
                }
                Task::FeatureExtraction => embedding(signature).is_some(),
            }
    }

    const fn expected(self) -> &'static str {
        match self {
            Task::TextGeneration | Task::Chat => {
                "one input \"text_input\" and an output \"text_output\", both BYTES[-1]"
            }
            Task::FeatureExtraction => {
                "one input \"text_input\", BYTES[-1], and one output of FP32 with two dimensions, of which the first is -1"
            }
        }
    }
}

fn is_text(tensor: &TensorDescription, name: &str) -> bool {
    tensor.name == name && tensor.datatype == Datatype::Bytes && tensor.shape == [-1]
}

/// The output that holds a row of numbers for each text: the only one of FP32 with two dimensions.
pub(crate) fn embedding(signature: &Signature) -> Option<&TensorDescription> {
    let is_table = |output: &&TensorDescription| {
        output.datatype == Datatype::Fp32 && matches!(&output.shape[..], [-1, _])
    };
    let mut tables = signature.outputs.iter().filter(is_table);
    tables.next().filter(|_| tables.next().is_none())
}

/// Checks that a model has the inputs and outputs of the tasks that it declares.
///
/// # Errors
/// [`ErrorCode::Unprocessable`] with the first task that it cannot have.
pub(crate) fn check_tasks(capabilities: &Capabilities, signature: &Signature) -> Result<(), Error> {
    let declared = Task::ALL.into_iter().filter(|task| task.is_declared(capabilities));
    for task in declared {
        if !task.fits(signature) {
            let message = format!(
                "the plugin declares the task {:?}, which its signature does not fit: expected {}",
                task.as_str(),
                task.expected()
            );
            return Err(Error::new(ErrorCode::Unprocessable, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> TensorDescription {
        TensorDescription { name: name.into(), datatype: Datatype::Bytes, shape: vec![-1] }
    }

    fn table(name: &str) -> TensorDescription {
        TensorDescription { name: name.into(), datatype: Datatype::Fp32, shape: vec![-1, 8] }
    }

    fn check(task: &str, inputs: &[TensorDescription], outputs: &[TensorDescription]) -> Result<(), String> {
        let capabilities = Capabilities { streaming: false, tasks: [task.to_owned()].into() };
        let signature = Signature { inputs: inputs.to_vec(), outputs: outputs.to_vec() };
        check_tasks(&capabilities, &signature).map_err(|error| error.message)
    }

    #[test]
    fn a_task_has_its_inputs_and_outputs() {
        let (input, output) = (&[text("text_input")][..], &[text("text_output"), table("scores")][..]);
        for task in ["chat", "text-generation", "feature-extraction"] {
            assert_eq!(check(task, input, output), Ok(()));
            assert!(check(task, &[], output).is_err());
            assert!(check(task, input, &[text("text")]).is_err());
            assert!(check(task, &[text("text_input"), text("more")], output).is_err());
        }
        assert!(check("feature-extraction", input, &[table("a"), table("b")]).is_err());
        assert_eq!(check("something-else", &[], &[]), Ok(()));
    }
}
