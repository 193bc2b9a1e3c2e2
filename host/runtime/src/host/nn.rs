//! wasi:nn. Computing suspends the call and never blocks the thread that it runs on; a computation takes and
//! gives handles, so elements are not copied.

use std::sync::Arc;
use std::time::Instant;

use modelhost_core::{Datatype, Digest, EngineName, InvalidTensor, Tensor};
use modelhost_inference::{ComputeError, ComputeOptions, Graph, LoadError, RunLimits};
use wasmtime::component::Resource;

use crate::bindings::wasi::nn::errors::{self, ErrorCode};
use crate::bindings::wasi::nn::graph::{self, ExecutionTarget, GraphEncoding};
use crate::bindings::wasi::nn::inference;
use crate::bindings::wasi::nn::tensor::{self, TensorType};
use crate::state::{CallState, InferenceEnded, NnContext, NnError, NnGraph, NnTensor};

type NnResult<T> = wasmtime::Result<Result<Resource<T>, Resource<NnError>>>;

impl CallState {
    fn fail<T>(
        &mut self,
        code: ErrorCode,
        message: impl Into<String>,
    ) -> wasmtime::Result<Result<T, Resource<NnError>>> {
        Ok(Err(self.push(NnError { code, message: message.into() })?))
    }
}

impl tensor::Host for CallState {}

impl tensor::HostTensor for CallState {
    fn new(
        &mut self,
        dimensions: Vec<u32>,
        ty: TensorType,
        data: Vec<u8>,
    ) -> wasmtime::Result<Resource<NnTensor>> {
        // Shadowed in the linker by a function that copies once less.
        let shape = dimensions.into_iter().map(u64::from).collect();
        let tensor = Tensor::new(datatype_of(ty), shape, data.into())
            .map_err(|invalid| wasmtime::Error::msg(format!("wasi:nn tensor: {invalid}")))?;
        self.push_tensor(tensor, NnTensor)
    }

    fn dimensions(&mut self, tensor: Resource<NnTensor>) -> wasmtime::Result<Vec<u32>> {
        let NnTensor(tensor) = self.table.get(&tensor)?;
        // `as_nn_tensor` lets no larger extent in, and graphs compute within the limits of memory.
        nn_shape(tensor).ok_or_else(|| wasmtime::Error::msg("extent does not fit 32 bits"))
    }

    fn ty(&mut self, tensor: Resource<NnTensor>) -> wasmtime::Result<TensorType> {
        let NnTensor(tensor) = self.table.get(&tensor)?;
        type_of(tensor.datatype()).ok_or_else(|| wasmtime::Error::msg("datatype is not one of wasi:nn"))
    }

    fn data(&mut self, tensor: Resource<NnTensor>) -> wasmtime::Result<Vec<u8>> {
        // Shadowed in the linker by a function that copies once less.
        let NnTensor(tensor) = self.table.get(&tensor)?;
        Ok(tensor.data().to_vec())
    }

    fn drop(&mut self, tensor: Resource<NnTensor>) -> wasmtime::Result<()> {
        self.take_nn_tensor(tensor)?;
        Ok(())
    }
}

impl graph::Host for CallState {
    async fn load(
        &mut self,
        builder: Vec<Vec<u8>>,
        encoding: GraphEncoding,
        _target: ExecutionTarget,
    ) -> NnResult<NnGraph> {
        if !self.services.allow_graph_load {
            return self.fail(
                ErrorCode::Security,
                "loading a graph from bytes is switched off on this host: carry it in a custom section and use load-by-name",
            );
        }
        if !matches!(encoding, GraphEncoding::Onnx | GraphEncoding::Autodetect) {
            return self.fail(ErrorCode::InvalidEncoding, "only ONNX graphs are supported");
        }
        let Ok([onnx]) = <[Vec<u8>; 1]>::try_from(builder) else {
            return self.fail(ErrorCode::InvalidArgument, "an ONNX graph is exactly one file");
        };
        let limit = self.limits().graph_load_bytes;
        if onnx.len() > limit {
            return self.fail(ErrorCode::TooLarge, format!("a graph may have at most {limit} bytes"));
        }
        let cache = self.services.graph_cache.clone();
        let load = move || cache.get_or_load(&Digest::of(&onnx), EngineName::Tract, || Ok(onnx));
        match tokio::task::spawn_blocking(load).await? {
            Ok(graph) => {
                // Counted until the call ends, whether or not the guest drops it before.
                self.hold(usize::try_from(graph.resident_bytes()).unwrap_or(usize::MAX))?;
                let batching = self.scheduling.batching;
                Ok(Ok(self.push(NnGraph { graph, batching })?))
            }
            Err(error) => self.fail(load_error_code(&error), error.to_string()),
        }
    }

    fn load_by_name(&mut self, name: String) -> NnResult<NnGraph> {
        match self.graphs.get(&name).cloned() {
            Some(graph) => {
                let batching = self.scheduling.batching_of(&name);
                Ok(Ok(self.push(NnGraph { graph, batching })?))
            }
            None => {
                let known: Vec<&str> = self.graphs.keys().map(String::as_str).collect();
                let message =
                    format!("the plugin carries no graph of this name: it carries [{}]", known.join(", "));
                self.fail(ErrorCode::NotFound, message)
            }
        }
    }
}

impl graph::HostGraph for CallState {
    fn init_execution_context(&mut self, graph: Resource<NnGraph>) -> NnResult<NnContext> {
        let NnGraph { graph, batching } = self.table.get(&graph)?;
        let context = NnContext { graph: graph.clone(), batching: *batching };
        Ok(Ok(self.push(context)?))
    }

    fn drop(&mut self, graph: Resource<NnGraph>) -> wasmtime::Result<()> {
        self.table.delete(graph)?;
        Ok(())
    }
}

impl inference::Host for CallState {}

type NamedHandles = Vec<(String, Resource<NnTensor>)>;

impl inference::HostGraphExecutionContext for CallState {
    async fn compute(
        &mut self,
        context: Resource<NnContext>,
        inputs: NamedHandles,
    ) -> wasmtime::Result<Result<NamedHandles, Resource<NnError>>> {
        let NnContext { graph, batching } = self.table.get(&context)?;
        let (graph, batching): (Arc<Graph>, _) = (graph.clone(), *batching);
        let mut tensors = Vec::with_capacity(inputs.len());
        for (name, handle) in inputs {
            let tensor = self.take_nn_tensor(handle)?;
            match as_graph_input(&graph, &name, tensor) {
                Ok(tensor) => tensors.push((name, tensor)),
                Err(invalid) => {
                    return self.fail(ErrorCode::InvalidArgument, format!("input {name:?}: {invalid}"));
                }
            }
        }
        if let Some(recorder) = &self.recorder {
            recorder.record(graph.digest(), &tensors);
        }
        let options = ComputeOptions {
            limits: RunLimits::new(self.deadline, self.limits().graph_memory_bytes),
            batching,
            priority: self.priority,
            weight: self.scheduling.weight,
            threads: Some(self.threads.clone()),
        };
        let services = self.services.clone();
        let began = Instant::now();
        self.inference.first.get_or_insert(began);
        let computed = services.executor.compute(&graph, tensors, options).await;
        self.inference.total += began.elapsed();
        let computed = match computed {
            Ok(computed) => computed,
            // wasi:nn has no word for the one, and the other leaves the plugin no time to do anything about it: both
            // are the host's to answer.
            Err(ComputeError::Overloaded { .. }) => {
                return Err(wasmtime::Error::new(InferenceEnded::Overloaded));
            }
            Err(ComputeError::DeadlineExceeded) => {
                return Err(wasmtime::Error::new(InferenceEnded::DeadlineExceeded));
            }
            Err(error) => return self.fail(compute_error_code(&error), error.to_string()),
        };
        self.inference.queued += computed.queued;
        self.inference.executions += computed.executions;
        let mut handles = Vec::with_capacity(computed.outputs.len());
        for (name, tensor) in computed.outputs {
            match as_nn_tensor(tensor) {
                Ok(tensor) => handles.push((name, self.push_tensor(tensor, NnTensor)?)),
                Err(sentence) => return self.fail(ErrorCode::UnsupportedOperation, sentence),
            }
        }
        Ok(Ok(handles))
    }

    fn drop(&mut self, context: Resource<NnContext>) -> wasmtime::Result<()> {
        self.table.delete(context)?;
        Ok(())
    }
}

impl errors::Host for CallState {}

impl errors::HostError for CallState {
    fn code(&mut self, error: Resource<NnError>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&error)?.code)
    }

    fn data(&mut self, error: Resource<NnError>) -> wasmtime::Result<String> {
        Ok(self.table.get(&error)?.message.clone())
    }

    fn drop(&mut self, error: Resource<NnError>) -> wasmtime::Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

/// wasi:nn has no BOOL: a guest that makes a tensor for a graph that takes it makes one of U8.
fn as_graph_input(graph: &Graph, name: &str, tensor: Tensor) -> Result<Tensor, InvalidTensor> {
    let takes_bool =
        graph.inputs().iter().any(|input| input.name == name && input.datatype == Datatype::Bool);
    if !(takes_bool && tensor.datatype() == Datatype::Uint8) {
        return Ok(tensor);
    }
    let (_, shape, data) = tensor.into_parts();
    Tensor::new(Datatype::Bool, shape, data)
}

/// The same tensor, if wasi:nn can describe it; a sentence where it cannot.
pub(super) fn as_nn_tensor(tensor: Tensor) -> Result<Tensor, String> {
    if nn_shape(&tensor).is_none() {
        return Err(format!("shape {:?} has an extent that does not fit wasi:nn's 32 bits", tensor.shape()));
    }
    if type_of(tensor.datatype()).is_none() {
        return Err(format!(
            "wasi:nn has no datatype {}: expected FP16, BF16, FP32, FP64, UINT8, INT32, INT64, BOOL or BYTES",
            tensor.datatype()
        ));
    }
    Ok(tensor)
}

/// The shape that a guest sees: of BYTES, whose elements have no size of their own, the number of encoded bytes.
fn nn_shape(tensor: &Tensor) -> Option<Vec<u32>> {
    match tensor.datatype() {
        Datatype::Bytes => Some(vec![u32::try_from(tensor.data().len()).ok()?]),
        _ => tensor.shape().iter().map(|extent| u32::try_from(*extent).ok()).collect(),
    }
}

pub(super) fn datatype_of(ty: TensorType) -> Datatype {
    match ty {
        TensorType::Fp16 => Datatype::Fp16,
        TensorType::Fp32 => Datatype::Fp32,
        TensorType::Fp64 => Datatype::Fp64,
        TensorType::Bf16 => Datatype::Bf16,
        TensorType::U8 => Datatype::Uint8,
        TensorType::I32 => Datatype::Int32,
        TensorType::I64 => Datatype::Int64,
    }
}

fn type_of(datatype: Datatype) -> Option<TensorType> {
    Some(match datatype {
        Datatype::Fp16 => TensorType::Fp16,
        Datatype::Fp32 => TensorType::Fp32,
        Datatype::Fp64 => TensorType::Fp64,
        Datatype::Bf16 => TensorType::Bf16,
        // Bytes. A BOOL or BYTES that came from a request or a graph is still one when it comes back.
        Datatype::Uint8 | Datatype::Bool | Datatype::Bytes => TensorType::U8,
        Datatype::Int32 => TensorType::I32,
        Datatype::Int64 => TensorType::I64,
        _ => return None,
    })
}

fn load_error_code(error: &LoadError) -> ErrorCode {
    match error {
        LoadError::Operators { .. } | LoadError::Unsupported { .. } => ErrorCode::UnsupportedOperation,
        LoadError::TooLarge { .. } => ErrorCode::TooLarge,
        _ => ErrorCode::InvalidEncoding,
    }
}

fn compute_error_code(error: &ComputeError) -> ErrorCode {
    match error {
        ComputeError::InvalidInput { .. } => ErrorCode::InvalidArgument,
        ComputeError::DeadlineExceeded | ComputeError::Cancelled => ErrorCode::Timeout,
        ComputeError::TooLarge { .. } => ErrorCode::TooLarge,
        _ => ErrorCode::RuntimeError,
    }
}
