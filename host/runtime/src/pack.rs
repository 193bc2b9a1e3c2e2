//! Adds graphs and samples to a finished component, so that a model without code of its own, or in a language whose
//! tools know no custom sections, becomes one file too.

use std::borrow::Cow;

use wasm_encoder::{ComponentSection, ComponentSectionId, CustomSection, Encode};

use crate::inspect::{GRAPH_SECTION_PREFIX, SAMPLE_SECTION_PREFIX};

/// The component with one more graph, at its end.
pub fn add_graph_section(component: Vec<u8>, name: &str, graph: &[u8]) -> Vec<u8> {
    add_section(component, &format!("{GRAPH_SECTION_PREFIX}{name}"), graph)
}

/// The component with one more sample, at its end: an inference request in JSON.
pub fn add_sample_section(component: Vec<u8>, name: &str, sample: &[u8]) -> Vec<u8> {
    add_section(component, &format!("{SAMPLE_SECTION_PREFIX}{name}"), sample)
}

fn add_section(mut component: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
    let section = CustomSection { name: Cow::Borrowed(name), data: Cow::Borrowed(data) };
    component.push(ComponentSectionId::CoreCustom as u8);
    debug_assert_eq!(ComponentSection::id(&section), ComponentSectionId::CoreCustom as u8);
    section.encode(&mut component);
    component
}
