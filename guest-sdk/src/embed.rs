//! Graph files inside the component: as custom sections, which the host reads at upload, and never in the
//! plugin's own memory.

/// Puts a graph file into the component, under the name that [`Graph::load`](crate::Graph::load) takes.
///
/// The path is relative to the folder of the calling crate's `Cargo.toml`. The bytes become the custom section
/// `modelhost:graph/NAME`; they do not enter the plugin's linear memory, so that a graph's size costs a request
/// nothing. Call it once per name, in the crate that is built into the component (a section of a library may be
/// left out by the linker, and sections of the same name are joined into one).
///
/// ```
/// modelhost_guest::embed_graph!("iris", "../examples/iris.onnx");
/// ```
#[macro_export]
macro_rules! embed_graph {
    ($name:literal, $path:literal) => {
        const _: () = {
            const BYTES: &[u8] =
                ::core::include_bytes!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/", $path));

            // Without `#[used]`, which would place the bytes in linear memory too.
            #[cfg_attr(target_arch = "wasm32", unsafe(link_section = ::core::concat!("modelhost:graph/", $name)))]
            static _GRAPH: [u8; BYTES.len()] = {
                let mut bytes = [0; BYTES.len()];
                bytes.copy_from_slice(BYTES);
                bytes
            };
        };
    };
}
