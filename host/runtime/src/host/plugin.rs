//! The imports of the contract itself: tensors, graphs and logging.

use modelhost_core::{Datatype as CoreDatatype, Tensor, TensorDescription as CoreTensorDescription};
use wasmtime::component::Resource;

use crate::bindings::modelhost::plugin::graphs::{self, GraphDescription};
use crate::bindings::modelhost::plugin::logging::{self, Level};
use crate::bindings::modelhost::plugin::tensors::{self, Datatype, TensorDescription};
use crate::host::nn;
use crate::log::LogLevel;
use crate::state::{CallState, NnTensor, PluginTensor};

impl tensors::Host for CallState {}

impl tensors::HostTensor for CallState {
    fn create(
        &mut self,
        datatype: Datatype,
        shape: Vec<u64>,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<Resource<PluginTensor>, String>> {
        // Shadowed in the linker by a function that copies once less.
        match Tensor::new(datatype.into(), shape, data.into()) {
            Ok(tensor) => Ok(Ok(self.push_tensor(tensor, PluginTensor)?)),
            Err(invalid) => Ok(Err(invalid.to_string())),
        }
    }

    fn datatype(&mut self, tensor: Resource<PluginTensor>) -> wasmtime::Result<Datatype> {
        let PluginTensor(tensor) = self.table.get(&tensor)?;
        Ok(tensor.datatype().into())
    }

    fn shape(&mut self, tensor: Resource<PluginTensor>) -> wasmtime::Result<Vec<u64>> {
        let PluginTensor(tensor) = self.table.get(&tensor)?;
        Ok(tensor.shape().to_vec())
    }

    fn data(&mut self, tensor: Resource<PluginTensor>) -> wasmtime::Result<Vec<u8>> {
        // Shadowed in the linker by a function that copies once less.
        let PluginTensor(tensor) = self.table.get(&tensor)?;
        Ok(tensor.data().to_vec())
    }

    fn from_nn(&mut self, tensor: Resource<NnTensor>) -> wasmtime::Result<Resource<PluginTensor>> {
        let tensor = self.take_nn_tensor(tensor)?;
        self.push_tensor(tensor, PluginTensor)
    }

    fn into_nn(
        &mut self,
        tensor: Resource<PluginTensor>,
    ) -> wasmtime::Result<Result<Resource<NnTensor>, String>> {
        let tensor = self.take_plugin_tensor(tensor)?;
        match nn::as_nn_tensor(tensor) {
            Ok(tensor) => Ok(Ok(self.push_tensor(tensor, NnTensor)?)),
            Err(sentence) => Ok(Err(sentence)),
        }
    }

    fn share(&mut self, tensor: Resource<PluginTensor>) -> wasmtime::Result<Resource<PluginTensor>> {
        let PluginTensor(tensor) = self.table.get(&tensor)?;
        let shared = tensor.clone();
        self.push_tensor(shared, PluginTensor)
    }

    fn drop(&mut self, tensor: Resource<PluginTensor>) -> wasmtime::Result<()> {
        self.take_plugin_tensor(tensor)?;
        Ok(())
    }
}

impl graphs::Host for CallState {
    fn list(&mut self) -> wasmtime::Result<Vec<GraphDescription>> {
        let describe =
            |(name, graph): (&String, &std::sync::Arc<modelhost_inference::Graph>)| GraphDescription {
                name: name.clone(),
                inputs: graph.inputs().iter().map(TensorDescription::from).collect(),
                outputs: graph.outputs().iter().map(TensorDescription::from).collect(),
            };
        Ok(self.graphs.iter().map(describe).collect())
    }
}

impl logging::Host for CallState {
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        self.log.write(level, &message);
        Ok(())
    }
}

impl From<&CoreTensorDescription> for TensorDescription {
    fn from(description: &CoreTensorDescription) -> TensorDescription {
        TensorDescription {
            name: description.name.clone(),
            datatype: description.datatype.into(),
            shape: description.shape.clone(),
        }
    }
}

impl From<TensorDescription> for CoreTensorDescription {
    fn from(description: TensorDescription) -> CoreTensorDescription {
        CoreTensorDescription {
            name: description.name,
            datatype: description.datatype.into(),
            shape: description.shape,
        }
    }
}

macro_rules! same_datatypes {
    ($($name:ident),*) => {
        impl From<Datatype> for CoreDatatype {
            fn from(datatype: Datatype) -> CoreDatatype {
                match datatype { $(Datatype::$name => CoreDatatype::$name),* }
            }
        }

        impl From<CoreDatatype> for Datatype {
            fn from(datatype: CoreDatatype) -> Datatype {
                match datatype { $(CoreDatatype::$name => Datatype::$name),* }
            }
        }
    };
}

same_datatypes!(
    Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64, Bytes
);
