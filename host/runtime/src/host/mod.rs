//! The host's side of the contract: what a plugin's imports do. Each module answers one family of imports.
//! Everything here runs on behalf of hostile code: whatever it passes, the answer is a value, an error for
//! the guest, or a trap of this one call.

mod nn;
mod plugin;

use bytes::Bytes;
use modelhost_core::Tensor;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, Resource};

use crate::bindings::Plugin;
use crate::state::{CallState, NnTensor, PluginTensor};

/// Everything that a plugin may import.
///
/// # Errors
/// Only where two of the definitions clash, which a test would show.
pub fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Plugin::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    // The generated bindings copy the elements once more on their way into the guest.
    linker.allow_shadowing(true);
    linker
        .instance("modelhost:plugin/tensors@0.1.0")?
        .func_wrap("[method]tensor.data", plugin_tensor_data)?;
    linker
        .instance("wasi:nn/tensor@0.2.0-rc-2024-10-28")?
        .func_wrap("[method]tensor.data", nn_tensor_data)?;
    linker.allow_shadowing(false);
    Ok(linker)
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
