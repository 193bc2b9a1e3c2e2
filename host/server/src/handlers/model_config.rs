//! `GET /v2/models/{model}[/versions/{version}]/config`: Triton's extension "model configuration", for clients that read
//! from it what batches a model takes. What an operator sets is `/v1/models/{model}/configuration`.

use http::StatusCode;
use modelhost_core::{Datatype, Signature, TensorDescription};
use modelhost_registry::Version;
use modelhost_serving::Scheduled;
use serde::Serialize;

use super::metadata::{platform, version_in_service};
use super::{model_name, version_selector};
use crate::error::ApiError;
use crate::reply::{Reply, json};
use crate::service::Call;

/// The fields of Triton's `ModelConfig` that are true of a model here.
#[derive(Serialize)]
pub(crate) struct ModelConfig<'a> {
    pub(crate) name: &'a str,
    pub(crate) platform: &'static str,
    pub(crate) backend: &'static str,
    version_policy: VersionPolicy,
    pub(crate) max_batch_size: u32,
    input: Vec<Input<'a>>,
    output: Vec<Output<'a>>,
    instance_group: [InstanceGroup<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    dynamic_batching: Option<DynamicBatching>,
    model_transaction_policy: TransactionPolicy,
}

impl<'a> ModelConfig<'a> {
    /// Name, data type and dimensions of each input.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = (&'a str, &'static str, &'a [i64])> {
        self.input.iter().map(|input| (input.name, input.data_type, input.dims))
    }

    /// The same of each output.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (&'a str, &'static str, &'a [i64])> {
        self.output.iter().map(|output| (output.name, output.data_type, output.dims))
    }

    /// How long a request waits for others at most; none where none does.
    pub(crate) fn max_queue_delay_microseconds(&self) -> Option<u64> {
        self.dynamic_batching.as_ref().map(|batching| batching.max_queue_delay_microseconds)
    }

    /// How many requests run at one moment.
    pub(crate) fn instances(&self) -> usize {
        self.instance_group.iter().map(|group| group.count).sum()
    }

    /// Whether one request may have several responses.
    pub(crate) fn is_decoupled(&self) -> bool {
        self.model_transaction_policy.decoupled
    }
}

/// Every version answers by its number.
#[derive(Serialize)]
struct VersionPolicy {
    all: Nothing,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Input<'a> {
    name: &'a str,
    data_type: &'static str,
    dims: &'a [i64],
    /// Every input is required.
    optional: bool,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    data_type: &'static str,
    dims: &'a [i64],
}

#[derive(Serialize)]
struct InstanceGroup<'a> {
    name: &'a str,
    kind: &'static str,
    /// Requests of the model that run at one moment.
    count: usize,
}

#[derive(Serialize)]
struct DynamicBatching {
    preferred_batch_size: [u32; 0],
    max_queue_delay_microseconds: u64,
}

#[derive(Serialize)]
struct TransactionPolicy {
    decoupled: bool,
}

/// From the records: nothing is loaded for it.
pub(super) async fn config(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = model_name(call)?;
    let selector = version_selector(call)?;
    let host = &call.shared.host;
    let version = version_in_service(host, &name, &selector).await?;
    let scheduled = host.scheduled(&name)?;
    let reply = json(StatusCode::OK, &model_config(name.as_str(), &version, scheduled));
    call.record.version = Some(version.number);
    call.record.model = Some(name);
    Ok(reply)
}

/// With a `max_batch_size` above 0 clients take the dimensions without the first one, and send requests with it in front.
/// That is true here only where every input and output leaves its first dimension free: if one has a fixed first
/// extent, its client would put a dimension in front that the model does not have. What is above 0 is then the largest
/// batch that the host runs at once; a request may have more rows than that.
pub(crate) fn model_config<'a>(name: &'a str, version: &'a Version, scheduled: Scheduled) -> ModelConfig<'a> {
    described(name, platform(version), &version.signature, version.capabilities.streaming, scheduled)
}

fn described<'a>(
    name: &'a str,
    platform: &'static str,
    signature: &'a Signature,
    decoupled: bool,
    scheduled: Scheduled,
) -> ModelConfig<'a> {
    let is_batched = signature.has_batch_dimension();
    let dims = |tensor: &'a TensorDescription| match tensor.shape.as_slice() {
        [_, rest @ ..] if is_batched => rest,
        all => all,
    };
    let input = |tensor: &'a TensorDescription| Input {
        name: &tensor.name,
        data_type: data_type(tensor.datatype),
        dims: dims(tensor),
        optional: false,
    };
    let output = |tensor: &'a TensorDescription| Output {
        name: &tensor.name,
        data_type: data_type(tensor.datatype),
        dims: dims(tensor),
    };
    let batching = DynamicBatching {
        preferred_batch_size: [],
        max_queue_delay_microseconds: scheduled.max_queue_delay_microseconds,
    };
    ModelConfig {
        name,
        platform,
        backend: "modelhost",
        version_policy: VersionPolicy { all: Nothing {} },
        max_batch_size: if is_batched { scheduled.max_batch_size.min(i32::MAX.unsigned_abs()) } else { 0 },
        input: signature.inputs.iter().map(input).collect(),
        output: signature.outputs.iter().map(output).collect(),
        instance_group: [InstanceGroup { name, kind: "KIND_CPU", count: scheduled.max_concurrent_requests }],
        dynamic_batching: (is_batched && scheduled.max_batch_size > 1).then_some(batching),
        model_transaction_policy: TransactionPolicy { decoupled },
    }
}

fn data_type(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "TYPE_BOOL",
        Datatype::Uint8 => "TYPE_UINT8",
        Datatype::Uint16 => "TYPE_UINT16",
        Datatype::Uint32 => "TYPE_UINT32",
        Datatype::Uint64 => "TYPE_UINT64",
        Datatype::Int8 => "TYPE_INT8",
        Datatype::Int16 => "TYPE_INT16",
        Datatype::Int32 => "TYPE_INT32",
        Datatype::Int64 => "TYPE_INT64",
        Datatype::Fp16 => "TYPE_FP16",
        Datatype::Bf16 => "TYPE_BF16",
        Datatype::Fp32 => "TYPE_FP32",
        Datatype::Fp64 => "TYPE_FP64",
        Datatype::Bytes => "TYPE_STRING",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(inputs: &[&[i64]], outputs: &[&[i64]], max_batch_size: u32) -> Value {
        let describe = |shapes: &[&[i64]]| {
            let tensor = |shape: &&[i64]| TensorDescription {
                name: "x".to_owned(),
                datatype: Datatype::Bytes,
                shape: shape.to_vec(),
            };
            shapes.iter().map(tensor).collect()
        };
        let signature = Signature { inputs: describe(inputs), outputs: describe(outputs) };
        let scheduled =
            Scheduled { max_batch_size, max_queue_delay_microseconds: 50, max_concurrent_requests: 4 };
        serde_json::to_value(described("m", "modelhost_component", &signature, false, scheduled)).unwrap()
    }

    #[test]
    fn a_batch_dimension_is_left_out() {
        let config = config(&[&[-1, 3, -1], &[-1]], &[&[-1, 2]], 32);
        assert_eq!(config["max_batch_size"], 32);
        assert_eq!(config["input"][0]["dims"], json!([3, -1]));
        assert_eq!(config["input"][1]["dims"], json!([]));
        assert_eq!(config["output"][0]["dims"], json!([2]));
        assert_eq!(config["input"][0]["data_type"], "TYPE_STRING");
        assert_eq!(config["dynamic_batching"]["max_queue_delay_microseconds"], 50);
    }

    #[test]
    fn without_one_everything_is_a_dimension() {
        let config = config(&[&[-1, 3]], &[&[2]], 32);
        assert_eq!(config["max_batch_size"], 0);
        assert_eq!(config["input"][0]["dims"], json!([-1, 3]));
        assert_eq!(config.get("dynamic_batching"), None);
    }

    #[test]
    fn a_model_that_runs_every_call_alone_has_no_dynamic_batching() {
        let config = config(&[&[-1]], &[&[-1]], 1);
        assert_eq!((&config["max_batch_size"], config.get("dynamic_batching")), (&json!(1), None));
    }
}
