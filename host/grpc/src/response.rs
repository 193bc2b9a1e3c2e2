//! An inference response into its message. The elements are always raw: clients read typed numbers as nothing.

use modelhost_protocol::InferResponse;

use crate::inference::ModelInferResponse;
use crate::inference::model_infer_response::InferOutputTensor;

/// The message of a response. The elements are those of the tensors, and not copied.
pub fn encode_response(response: &InferResponse<'_>) -> ModelInferResponse {
    let describe = |output: &modelhost_protocol::ResponseOutput<'_>| InferOutputTensor {
        name: output.name.to_owned(),
        datatype: output.tensor.datatype().name().to_owned(),
        // No extent is larger than the memory of the tensor, or it is beside a zero: then it is as large as can be said.
        shape: output
            .tensor
            .shape()
            .iter()
            .map(|extent| i64::try_from(*extent).unwrap_or(i64::MAX))
            .collect(),
        ..InferOutputTensor::default()
    };
    ModelInferResponse {
        model_name: response.model.to_string(),
        model_version: response.version.to_string(),
        id: response.id.unwrap_or_default().to_owned(),
        outputs: response.outputs.iter().map(describe).collect(),
        raw_output_contents: response.outputs.iter().map(|output| output.tensor.data().clone()).collect(),
        ..ModelInferResponse::default()
    }
}
