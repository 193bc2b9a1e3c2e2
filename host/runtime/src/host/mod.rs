//! The host's side of the contract: what a plugin's imports do. Each module answers one family of imports.
//! Everything here runs on behalf of hostile code: whatever it passes, the answer is a value, an error for
//! the guest, or a trap of this one call.

mod nn;
mod plugin;
mod predictions;
mod streams;

use bytes::Bytes;
use modelhost_core::Tensor;
use modelhost_inference::TensorBuffer;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, Resource, WasmList};

use crate::bindings::Plugin;
use crate::bindings::modelhost::plugin::tensors::Datatype;
use crate::bindings::wasi::nn::tensor::TensorType;
use crate::state::{CallState, NnTensor, PluginTensor};

/// Everything that a plugin may import.
///
/// # Errors
/// Only where two of the definitions clash, which a test would show.
pub fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Plugin::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    // The generated bindings copy the elements once more than these do, on their way in and on their way out.
    linker.allow_shadowing(true);
    let mut tensors = linker.instance("modelhost:plugin/tensors@0.1.0")?;
    tensors.func_wrap("[static]tensor.create", create_plugin_tensor)?;
    tensors.func_wrap("[method]tensor.data", plugin_tensor_data)?;
    let mut tensors = linker.instance("wasi:nn/tensor@0.2.0-rc-2024-10-28")?;
    tensors.func_wrap("[constructor]tensor", new_nn_tensor)?;
    tensors.func_wrap("[method]tensor.data", nn_tensor_data)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

fn create_plugin_tensor(
    mut store: StoreContextMut<'_, CallState>,
    (datatype, shape, data): (Datatype, Vec<u64>, WasmList<u8>),
) -> wasmtime::Result<(Result<Resource<PluginTensor>, String>,)> {
    match TensorBuffer::copy_of(datatype.into(), shape, data.as_le_slice(&store)) {
        Ok(tensor) => Ok((Ok(store.data_mut().push_tensor(tensor, PluginTensor)?),)),
        Err(invalid) => Ok((Err(invalid.to_string()),)),
    }
}

fn new_nn_tensor(
    mut store: StoreContextMut<'_, CallState>,
    (dimensions, ty, data): (Vec<u32>, TensorType, WasmList<u8>),
) -> wasmtime::Result<(Resource<NnTensor>,)> {
    let shape = dimensions.into_iter().map(u64::from).collect();
    let tensor = TensorBuffer::copy_of(nn::datatype_of(ty), shape, data.as_le_slice(&store))
        .map_err(|invalid| wasmtime::Error::msg(format!("wasi:nn tensor: {invalid}")))?;
    Ok((store.data_mut().push_tensor(tensor, NnTensor)?,))
}

fn plugin_tensor_data(
    store: StoreContextMut<'_, CallState>,
    (tensor,): (Resource<PluginTensor>,),
) -> wasmtime::Result<(Bytes,)> {
    let PluginTensor(tensor) = store.data().table.get(&tensor)?;
    Ok((shared_data(tensor),))
}

fn nn_tensor_data(
    store: StoreContextMut<'_, CallState>,
    (tensor,): (Resource<NnTensor>,),
) -> wasmtime::Result<(Bytes,)> {
    let NnTensor(tensor) = store.data().table.get(&tensor)?;
    Ok((shared_data(tensor),))
}

fn shared_data(tensor: &Tensor) -> Bytes {
    tensor.data().clone()
}
