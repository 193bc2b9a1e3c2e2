//! What the host says about models, as messages. Nothing is looked up here.

use modelhost_core::{Signature, TensorDescription};
use modelhost_grpc::inference::model_metadata_response::TensorMetadata;
use modelhost_grpc::inference::repository_index_response::ModelIndex;
use modelhost_grpc::inference::{
    DataType, InferBatchStatistics, InferResponseStatistics, InferStatistics, MemoryUsage, ModelConfig,
    ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOutput, ModelStatistics,
    ModelTransactionPolicy, ModelVersionPolicy, StatisticDuration, model_config, model_instance_group,
    model_version_policy,
};
use modelhost_serving::{IndexEntry, Timed, VersionState, VersionStatistics};

use crate::handlers::ModelConfig as Config;

pub(super) fn tensors(described: &[TensorDescription]) -> Vec<TensorMetadata> {
    let tensor = |described: &TensorDescription| TensorMetadata {
        name: described.name.clone(),
        datatype: described.datatype.name().to_owned(),
        shape: described.shape.clone(),
    };
    described.iter().map(tensor).collect()
}

pub(super) fn both(signature: &Signature) -> (Vec<TensorMetadata>, Vec<TensorMetadata>) {
    (tensors(&signature.inputs), tensors(&signature.outputs))
}

fn data_type(name: &str) -> i32 {
    DataType::from_str_name(name).unwrap_or(DataType::TypeInvalid).into()
}

pub(super) fn config(config: &Config<'_>) -> ModelConfig {
    let input = |(name, data_type_name, dims): (&str, &str, &[i64])| ModelInput {
        name: name.to_owned(),
        data_type: data_type(data_type_name),
        dims: dims.to_vec(),
    };
    let output = |(name, data_type_name, dims): (&str, &str, &[i64])| ModelOutput {
        name: name.to_owned(),
        data_type: data_type(data_type_name),
        dims: dims.to_vec(),
    };
    let batching = config.max_queue_delay_microseconds().map(|max_queue_delay_microseconds| {
        model_config::SchedulingChoice::DynamicBatching(ModelDynamicBatching {
            max_queue_delay_microseconds,
            ..ModelDynamicBatching::default()
        })
    });
    ModelConfig {
        name: config.name.to_owned(),
        platform: config.platform.to_owned(),
        backend: config.backend.to_owned(),
        version_policy: Some(ModelVersionPolicy {
            policy_choice: Some(model_version_policy::PolicyChoice::All(model_version_policy::All {})),
        }),
        max_batch_size: config.max_batch_size.cast_signed(),
        input: config.inputs().map(input).collect(),
        output: config.outputs().map(output).collect(),
        scheduling_choice: batching,
        instance_group: vec![ModelInstanceGroup {
            name: config.name.to_owned(),
            kind: model_instance_group::Kind::Cpu.into(),
            count: i32::try_from(config.instances()).unwrap_or(i32::MAX),
        }],
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: config.is_decoupled() }),
    }
}

pub(super) fn index(entry: IndexEntry) -> ModelIndex {
    let state = match entry.state {
        VersionState::Ready => "READY",
        VersionState::Loading => "LOADING",
        VersionState::Unavailable => "UNAVAILABLE",
    };
    ModelIndex {
        name: entry.name.to_string(),
        version: entry.version,
        state: state.to_owned(),
        reason: entry.reason,
    }
}

fn duration(timed: &Timed) -> Option<StatisticDuration> {
    Some(StatisticDuration { count: timed.count, ns: timed.ns })
}

pub(super) fn statistics(of: &VersionStatistics) -> ModelStatistics {
    let stats = &of.inference_stats;
    let responses = of.response_stats.iter().map(|(index, response)| {
        let response = InferResponseStatistics {
            compute_infer: duration(&response.compute_infer),
            compute_output: duration(&response.compute_output),
            success: duration(&response.success),
            fail: duration(&response.fail),
            empty_response: duration(&response.empty_response),
            cancel: duration(&response.cancel),
        };
        (index.clone(), response)
    });
    let batches = of.batch_stats.iter().map(|batch| InferBatchStatistics {
        batch_size: batch.batch_size,
        compute_input: duration(&batch.compute_input),
        compute_infer: duration(&batch.compute_infer),
        compute_output: duration(&batch.compute_output),
    });
    let memory = of.memory_usage.iter().map(|memory| MemoryUsage {
        r#type: memory.kind.clone(),
        id: memory.id.into(),
        byte_size: memory.byte_size,
    });
    ModelStatistics {
        name: of.name.to_string(),
        version: of.version.clone(),
        last_inference: of.last_inference,
        inference_count: of.inference_count,
        execution_count: of.execution_count,
        inference_stats: Some(InferStatistics {
            success: duration(&stats.success),
            fail: duration(&stats.fail),
            queue: duration(&stats.queue),
            compute_input: duration(&stats.compute_input),
            compute_infer: duration(&stats.compute_infer),
            compute_output: duration(&stats.compute_output),
            cache_hit: duration(&stats.cache_hit),
            cache_miss: duration(&stats.cache_miss),
        }),
        batch_stats: batches.collect(),
        memory_usage: memory.collect(),
        response_stats: responses.collect(),
    }
}
