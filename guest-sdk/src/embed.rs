//! Files inside the component: as custom sections, which the host reads at upload, and never in the plugin's own
//! memory.

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
        $crate::embed_graph!(@section "modelhost:graph/", $name, $path);
    };
    (@section $prefix:literal, $name:literal, $path:literal) => {
        const _: () = {
            const BYTES: &[u8] =
                ::core::include_bytes!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/", $path));

            // Without `#[used]`, which would place the bytes in linear memory too.
            #[cfg_attr(target_arch = "wasm32", unsafe(link_section = ::core::concat!($prefix, $name)))]
            static _SECTION: [u8; BYTES.len()] = {
                let mut bytes = [0; BYTES.len()];
                bytes.copy_from_slice(BYTES);
                bytes
            };
        };
    };
}

/// Declares what the plugin is good for, under the name that model hubs use for it, so that the host's further APIs answer
/// with it. The host checks at upload that the signature fits:
///
/// | task | signature | API |
/// | --- | --- | --- |
/// | `text-generation` | an input `text_input` and an output `text_output`, both BYTES `[ANY]` | `/v1/completions` |
/// | `chat` | the same; the conversation comes as JSON in `text_input` | `/v1/chat/completions` |
/// | `feature-extraction` | an input `text_input`, BYTES `[ANY]`, and one output of FP32 `[ANY, n]` | `/v1/embeddings` |
///
/// Other names are shown and mean nothing to the host. Call it once for each, in the crate that is built into the
/// component.
///
/// ```
/// modelhost_guest::declare_task!("text-generation");
/// ```
#[macro_export]
macro_rules! declare_task {
    ($name:literal) => {
        const _: () = {
            // A section without any content would be left out.
            #[cfg_attr(target_arch = "wasm32", unsafe(link_section = ::core::concat!("modelhost:task/", $name)))]
            static _SECTION: [u8; 1] = [b'1'];
        };
    };
}

/// Puts a sample into the component: a request that the plugin answers, in a JSON file.
///
/// The host sends its samples to a plugin at upload, which fails if one is refused; again before a version takes
/// requests, so that its first one is as fast as any; and to compare and time the engines that can run its graphs. So
/// a sample should look like a usual request, also in the number of its rows.
///
/// The file holds the body of an inference request of the Open Inference Protocol, or an object with such a body as
/// its field `request`, whose other fields are left alone (an expected `response`, say). It has at most 1 MiB, and a
/// component has at most 16 of them. The path is relative to the folder of the calling crate's `Cargo.toml`; the bytes
/// become the custom section `modelhost:sample/NAME`, and cost a request nothing. As with
/// [`embed_graph!`](crate::embed_graph): once per name, in the crate that is built into the component.
///
/// ```
/// modelhost_guest::embed_sample!("two-flowers", "../examples/author-plugin/example.json");
/// ```
#[macro_export]
macro_rules! embed_sample {
    ($name:literal, $path:literal) => {
        $crate::embed_graph!(@section "modelhost:sample/", $name, $path);
    };
}
