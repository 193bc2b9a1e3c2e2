//! Rust types and traits generated from the contract in `wit/`. Nothing is written by hand here.

#![allow(missing_docs, reason = "generated; the contract itself is documented in wit/")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "modelhost:plugin/plugin",
    imports: {
        "wasi:nn/inference.[method]graph-execution-context.compute": async | trappable,
        "wasi:nn/graph.load": async | trappable,
        "modelhost:plugin/predictions.lookup": async | trappable,
        "modelhost:plugin/streams.[method]response-sender.send": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "wasi:nn/tensor.tensor": crate::state::NnTensor,
        "wasi:nn/graph.graph": crate::state::NnGraph,
        "wasi:nn/inference.graph-execution-context": crate::state::NnContext,
        "wasi:nn/errors.error": crate::state::NnError,
        "modelhost:plugin/tensors.tensor": crate::state::PluginTensor,
        "modelhost:plugin/streams.response-sender": crate::streaming::ResponseSender,
    },
});
