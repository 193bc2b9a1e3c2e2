//! A component with its imports linked, and where its exports are: found once, so that no call looks for them.

use wasmtime::Store;
use wasmtime::component::{
    Component, ComponentExportIndex, Instance, InstancePre, Linker, Resource, TypedFunc,
};

use crate::bindings::PluginIndices;
use crate::bindings::modelhost::plugin::requests::{Error, Parameter};
use crate::inspect::STREAMING_PREDICTOR;
use crate::state::{CallState, PluginTensor};
use crate::streaming::ResponseSender;

/// A component that is ready to be instantiated.
pub(crate) struct Linked {
    pub(crate) pre: InstancePre<CallState>,
    pub(crate) indices: PluginIndices,
    /// Where it answers with many responses, if it does.
    pub(crate) predict_stream: Option<ComponentExportIndex>,
}

type NamedHandles<'a> = &'a [(String, Resource<PluginTensor>)];
type NamedParameters<'a> = &'a [(String, Parameter)];

/// `predict-stream`.
pub(crate) type PredictStream<'a> =
    TypedFunc<(NamedHandles<'a>, NamedParameters<'a>, Resource<ResponseSender>), (Result<(), Error>,)>;

impl Linked {
    /// Links a component.
    ///
    /// # Errors
    /// What does not fit the contract.
    pub(crate) fn new(linker: &Linker<CallState>, component: &Component) -> wasmtime::Result<Linked> {
        let pre = linker.instantiate_pre(component)?;
        let indices = PluginIndices::new(&pre)?;
        let predict_stream = component
            .get_export_index(None, STREAMING_PREDICTOR)
            .and_then(|interface| component.get_export_index(Some(&interface), "predict-stream"));
        Ok(Linked { pre, indices, predict_stream })
    }
}

/// The function behind an index of [`Linked::predict_stream`].
///
/// # Errors
/// Where its type is not the contract's.
pub(crate) fn predict_stream<'a>(
    store: &mut Store<CallState>,
    instance: &Instance,
    index: &ComponentExportIndex,
) -> wasmtime::Result<PredictStream<'a>> {
    instance.get_typed_func(store, index)
}
