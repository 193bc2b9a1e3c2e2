//! The import `streams`: where a call puts its responses. While it waits for a slow client its fiber is suspended: it
//! holds its sandbox and nothing else.

use wasmtime::component::Resource;

use crate::bindings::modelhost::plugin::{requests, streams};
use crate::sandbox::take_outputs;
use crate::state::{CallState, PluginTensor};
use crate::streaming::ResponseSender;

/// Only names of types.
impl requests::Host for CallState {}

impl streams::Host for CallState {}

impl streams::HostResponseSender for CallState {
    async fn send(
        &mut self,
        sender: Resource<ResponseSender>,
        outputs: Vec<(String, Resource<PluginTensor>)>,
    ) -> wasmtime::Result<()> {
        let outputs = take_outputs(self, outputs).map_err(wasmtime::Error::new)?;
        let delivery = self.table.get_mut(&sender)?.next(outputs).map_err(wasmtime::Error::new)?;
        let waited = delivery.deliver().await.map_err(wasmtime::Error::new)?;
        self.table.get_mut(&sender)?.delivered(waited);
        Ok(())
    }

    fn drop(&mut self, sender: Resource<ResponseSender>) -> wasmtime::Result<()> {
        // The guest only borrows it.
        self.table.delete(sender)?;
        Ok(())
    }
}
