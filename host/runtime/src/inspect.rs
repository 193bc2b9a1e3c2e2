//! Reads an uploaded component without running it: is it one, what does it import and export, which graphs
//! and samples does it carry, what does it say about itself. Reads only; every byte is assumed to be hostile.

use std::ops::Range;

use modelhost_core::{Capabilities, ComponentMetadata};
use wasmparser::{BinaryReaderError, Encoding, Parser, Payload};

use crate::refusal::Refusal;

/// The custom sections whose names begin like this are graphs, named by the rest.
pub const GRAPH_SECTION_PREFIX: &str = "modelhost:graph/";

/// The custom sections whose names begin like this are samples, named by the rest: requests that the plugin answers.
pub const SAMPLE_SECTION_PREFIX: &str = "modelhost:sample/";

/// The custom sections whose names begin like this declare a task, named by the rest.
pub const TASK_SECTION_PREFIX: &str = "modelhost:task/";

/// What a component exports that answers one request with many responses.
pub(crate) const STREAMING_PREDICTOR: &str = "modelhost:plugin/streaming-predictor@0.1.0";

const PREDICTOR: &str = "modelhost:plugin/predictor@0.1.0";
const MAX_NAME_BYTES: usize = 128;

/// One kind of what a component carries in custom sections.
#[derive(Clone, Copy)]
struct Kind {
    /// Such as "graph".
    noun: &'static str,
    prefix: &'static str,
    max_count: usize,
    max_bytes: usize,
}

/// The bytes of a graph are bounded by those of the upload.
const GRAPH: Kind =
    Kind { noun: "graph", prefix: GRAPH_SECTION_PREFIX, max_count: 64, max_bytes: usize::MAX };
/// Samples are run whenever a version is loaded: some, and of the size of a request.
const SAMPLE: Kind =
    Kind { noun: "sample", prefix: SAMPLE_SECTION_PREFIX, max_count: 16, max_bytes: 1 << 20 };
/// Only the names count.
const TASK: Kind = Kind { noun: "task", prefix: TASK_SECTION_PREFIX, max_count: 16, max_bytes: 1 << 10 };

/// Interfaces that every plugin may import: inference, tensors and logging, the parts of WASI that a standard
/// library needs, which are linked to an empty world, and the lookup of predictions, which answers nothing before an
/// operator grants a table. A package ends in `/`.
const GRANTED: [&str; 12] = [
    "modelhost:plugin/tensors@0.1.0",
    "modelhost:plugin/graphs@0.1.0",
    "modelhost:plugin/logging@0.1.0",
    "modelhost:plugin/predictions@0.1.0",
    "modelhost:plugin/requests@0.1.0",
    "modelhost:plugin/streams@0.1.0",
    "wasi:nn/",
    "wasi:cli/",
    "wasi:io/",
    "wasi:clocks/",
    "wasi:random/",
    "wasi:filesystem/",
];

/// Names, and where the bytes of each are.
pub type Sections = Vec<(String, Range<usize>)>;

/// What is in a component.
#[derive(Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The graphs that it carries: name, and where the bytes are.
    pub graphs: Sections,
    /// The samples that it carries: name, and where the bytes are.
    pub samples: Sections,
    /// What it can do beside answering one request with one response.
    pub capabilities: Capabilities,
    /// What it says about itself.
    pub metadata: ComponentMetadata,
}

/// Inspects the bytes of an upload.
///
/// # Errors
/// [`Refusal`] says what is wrong with them.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, Refusal> {
    check_header(bytes)?;
    let outline = outline(bytes)?;
    let refused: Vec<String> = outline.imports.iter().filter(|name| !is_granted(name)).cloned().collect();
    if !refused.is_empty() {
        return Err(Refusal::ImportsRefused { imports: refused });
    }
    if !outline.exports.iter().any(|name| name == PREDICTOR) {
        return Err(Refusal::NoPredictor { expected: PREDICTOR, exports: outline.exports });
    }
    let Outline { imports, exports, graphs, samples, tasks } = outline;
    let capabilities = Capabilities {
        streaming: exports.iter().any(|name| name == STREAMING_PREDICTOR),
        tasks: tasks.into_iter().map(|(name, _)| name).collect(),
    };
    Ok(Inspection { imports, graphs, samples, capabilities, metadata: metadata(bytes) })
}

fn is_granted(import: &str) -> bool {
    GRANTED
        .iter()
        .any(|granted| if granted.ends_with('/') { import.starts_with(granted) } else { import == *granted })
}

fn check_header(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    if !b"\0asm".starts_with(&bytes[..bytes.len().min(4)]) {
        return Err(Refusal::NotWebAssembly);
    }
    if bytes.len() < 8 {
        return Err(Refusal::Truncated { offset: bytes.len() });
    }
    if Parser::is_core_wasm(bytes) {
        return Err(Refusal::CoreModule);
    }
    Ok(())
}

#[derive(Default)]
struct Outline {
    imports: Vec<String>,
    exports: Vec<String>,
    graphs: Sections,
    samples: Sections,
    tasks: Sections,
}

fn outline(bytes: &[u8]) -> Result<Outline, Refusal> {
    let mut outline = Outline::default();
    // 1 inside the component itself, more inside what is nested in it.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding == Encoding::Module {
                    return Err(Refusal::CoreModule);
                }
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    outline.imports.push(import.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports {
                    outline.exports.push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) => {
                let bytes = section.data_offset()..section.data_offset() + section.data().len();
                let kinds = [
                    (GRAPH, &mut outline.graphs),
                    (SAMPLE, &mut outline.samples),
                    (TASK, &mut outline.tasks),
                ];
                for (kind, known) in kinds {
                    if let Some(name) = section.name().strip_prefix(kind.prefix) {
                        add_section(kind, known, name, bytes.clone())?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(outline)
}

fn add_section(kind: Kind, known: &mut Sections, name: &str, bytes: Range<usize>) -> Result<(), Refusal> {
    let Kind { noun, max_count, max_bytes, .. } = kind;
    let is_plain = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
    if !is_plain {
        return Err(Refusal::SectionName { noun, limit: MAX_NAME_BYTES });
    }
    let name = name.to_owned();
    if known.iter().any(|(other, _)| *other == name) {
        return Err(Refusal::SectionTwice { noun, name });
    }
    if known.len() == max_count {
        return Err(Refusal::TooManySections { noun, limit: max_count });
    }
    if bytes.len() > max_bytes {
        return Err(Refusal::SectionTooLarge { noun, name, bytes: bytes.len(), limit: max_bytes });
    }
    known.push((name, bytes));
    Ok(())
}

fn malformed(error: BinaryReaderError) -> Refusal {
    let reason = error.message().to_owned();
    if reason.contains("unexpected end") {
        Refusal::Truncated { offset: error.offset() }
    } else {
        Refusal::Malformed { reason: format!("{reason} at byte {}", error.offset()) }
    }
}

/// Metadata that cannot be read is as good as none: it decides nothing.
fn metadata(bytes: &[u8]) -> ComponentMetadata {
    let Ok(payload) = wasm_metadata::Payload::from_binary(bytes) else {
        return ComponentMetadata::default();
    };
    let metadata = payload.metadata();
    let shortened = |text: String| text.chars().take(1_000).collect::<String>();
    let text = |field: Option<String>| field.map(shortened);
    ComponentMetadata {
        name: text(metadata.name.clone()),
        version: text(metadata.version.as_ref().map(ToString::to_string)),
        description: text(metadata.description.as_ref().map(ToString::to_string)),
        authors: text(metadata.authors.as_ref().map(ToString::to_string)),
        licenses: text(metadata.licenses.as_ref().map(ToString::to_string)),
        source: text(metadata.source.as_ref().map(ToString::to_string)),
        homepage: text(metadata.homepage.as_ref().map(ToString::to_string)),
        revision: text(metadata.revision.as_ref().map(ToString::to_string)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{add_graph_section, add_sample_section};
    use proptest::prelude::*;
    use wasm_encoder::{Component, CustomSection, Module, ModuleSection};

    const EMPTY_COMPONENT: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

    fn graphs_of(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let graphs = outline(bytes)?.graphs;
        Ok(graphs.into_iter().map(|(name, range)| (name, bytes[range].to_vec())).collect())
    }

    #[test]
    fn says_what_is_not_a_component() {
        assert_eq!(inspect(b""), Err(Refusal::Empty));
        assert_eq!(inspect(b"PK\x03\x04 zip"), Err(Refusal::NotWebAssembly));
        assert_eq!(inspect(b"\0as"), Err(Refusal::Truncated { offset: 3 }));
        assert_eq!(inspect(&Module::new().finish()), Err(Refusal::CoreModule));
        assert!(matches!(inspect(&EMPTY_COMPONENT), Err(Refusal::NoPredictor { .. })));
        assert!(matches!(
            inspect(&[&EMPTY_COMPONENT[..], &[1, 50, 0]].concat()),
            Err(Refusal::Truncated { .. })
        ));
    }

    #[test]
    fn imports_that_reach_out_are_refused() {
        assert!(is_granted("wasi:io/streams@0.2.6"));
        assert!(is_granted("modelhost:plugin/tensors@0.1.0"));
        for import in [
            "wasi:sockets/tcp@0.2.0",
            "wasi:http/types@0.2.0",
            "modelhost:plugin/secrets@0.1.0",
            "wasi:nnx/a",
            "f",
        ] {
            assert!(!is_granted(import), "{import}");
        }
    }

    #[test]
    fn graphs_are_found_in_nested_modules() {
        let mut module = Module::new();
        module
            .section(&CustomSection { name: "modelhost:graph/inner".into(), data: b"abc".as_slice().into() });
        let mut component = Component::new();
        component.section(&ModuleSection(&module));
        let bytes = add_graph_section(component.finish(), "outer", b"defg");
        assert_eq!(
            graphs_of(&bytes).unwrap(),
            [("inner".to_owned(), b"abc".to_vec()), ("outer".to_owned(), b"defg".to_vec())]
        );
        let twice = add_graph_section(bytes, "inner", b"");
        assert_eq!(graphs_of(&twice), Err(Refusal::SectionTwice { noun: "graph", name: "inner".to_owned() }));
    }

    #[test]
    fn tasks_are_names() {
        let section = |name: &'static str| CustomSection { name: name.into(), data: b"1".as_slice().into() };
        let mut component = Component::new();
        component
            .section(&section("modelhost:task/chat"))
            .section(&section("modelhost:task/text-generation"));
        let tasks = outline(&component.finish()).unwrap().tasks;
        let names: Vec<String> = tasks.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["chat", "text-generation"]);
    }

    #[test]
    fn samples_are_few_small_and_named() {
        let with =
            |name: &str, data: &[u8]| outline(&add_sample_section(EMPTY_COMPONENT.to_vec(), name, data));
        let samples = with("a", b"{}").unwrap().samples;
        assert_eq!(samples, [("a".to_owned(), 29..31)]);
        assert_eq!(with("a", &vec![b' '; SAMPLE.max_bytes]).unwrap().samples.len(), 1);
        let large = with("a", &vec![b' '; SAMPLE.max_bytes + 1]).err().unwrap();
        assert_eq!(large.to_string(), "sample \"a\" has 1048577 bytes: at most 1048576 are allowed");
        for name in ["", "a\nb", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(
                matches!(with(name, b"{}"), Err(Refusal::SectionName { noun: "sample", .. })),
                "{name:?}"
            );
        }
        let many = |count: usize| {
            let add = |bytes, index: usize| add_sample_section(bytes, &index.to_string(), b"{}");
            outline(&(0..count).fold(EMPTY_COMPONENT.to_vec(), add)).map(|outline| outline.samples.len())
        };
        assert_eq!(many(SAMPLE.max_count), Ok(SAMPLE.max_count));
        assert_eq!(
            many(SAMPLE.max_count + 1),
            Err(Refusal::TooManySections { noun: "sample", limit: SAMPLE.max_count })
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = inspect(&bytes);
            let _ = inspect(&[&EMPTY_COMPONENT[..], &bytes].concat());
        }

        #[test]
        fn graphs_and_samples_are_told_apart(
            sections in proptest::collection::btree_map("[a-z]{1,8}", (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..100)), 0..16),
        ) {
            let mut bytes = EMPTY_COMPONENT.to_vec();
            for (name, (is_sample, data)) in &sections {
                let add = if *is_sample { add_sample_section } else { add_graph_section };
                bytes = add(bytes, name, data);
            }
            let found = outline(&bytes).unwrap();
            for (kind, expected) in [(&found.samples, true), (&found.graphs, false)] {
                let found: Vec<(&str, &[u8])> =
                    kind.iter().map(|(name, range)| (name.as_str(), &bytes[range.clone()])).collect();
                let of_kind = sections.iter().filter(|(_, (is_sample, _))| *is_sample == expected);
                let expected: Vec<(&str, &[u8])> =
                    of_kind.map(|(name, (_, data))| (name.as_str(), data.as_slice())).collect();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn every_graph_comes_back_and_truncation_is_noticed(
            graphs in proptest::collection::btree_map("[a-z]{1,20}", proptest::collection::vec(any::<u8>(), 0..200), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = EMPTY_COMPONENT.to_vec();
            for (name, data) in &graphs {
                bytes = add_graph_section(bytes, name, data);
            }
            let found = graphs_of(&bytes).unwrap();
            prop_assert_eq!(found, graphs.clone().into_iter().collect::<Vec<_>>());
            let length = cut.index(bytes.len());
            if let Ok(found) = graphs_of(&bytes[..length]) {
                // Cut exactly between two sections: what is left is whole.
                for (name, data) in found {
                    prop_assert_eq!(&graphs[&name], &data);
                }
            }
        }
    }
}
