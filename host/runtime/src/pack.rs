//! Adds graphs to a finished component, so that a model without code of its own, or in a language whose tools
//! know no custom sections, becomes one file too.

use std::borrow::Cow;

use wasm_encoder::{ComponentSection, ComponentSectionId, CustomSection, Encode};

use crate::inspect::GRAPH_SECTION_PREFIX;

/// The component with one more graph, at its end.
pub fn add_graph_section(mut component: Vec<u8>, name: &str, graph: &[u8]) -> Vec<u8> {
    let section = CustomSection {
        name: Cow::Owned(format!("{GRAPH_SECTION_PREFIX}{name}")),
        data: Cow::Borrowed(graph),
    };
    component.push(ComponentSectionId::CoreCustom as u8);
    debug_assert_eq!(ComponentSection::id(&section), ComponentSectionId::CoreCustom as u8);
    section.encode(&mut component);
    component
}
