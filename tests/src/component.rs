//! What is done to finished components, and components that nobody should upload.

use crate::onnx::varint;
use wasm_encoder::{
    CodeSection, Component, Function, FunctionSection, Module, ModuleSection, TypeSection, ValType,
};

use crate::guest;

/// The same component with a network in it, as `modelhost pack` would put it there.
pub fn with_graph(component: Vec<u8>, name: &str, network: &[u8]) -> Vec<u8> {
    with_section(component, &format!("modelhost:graph/{name}"), network)
}

/// The same component with another custom section, which changes its digest and nothing else.
pub fn with_section(mut component: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
    let content = [varint(name.len() as u64), name.as_bytes().to_vec(), data.to_vec()].concat();
    component.push(0);
    component.extend(varint(content.len() as u64));
    component.extend(content);
    component
}

/// A component in text form.
pub fn from_text(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A component that exports an interface of the contract's name with other functions in it.
pub fn with_another_predictor() -> Vec<u8> {
    let wit = "package modelhost:plugin@0.1.0;
        interface predictor { get-signature: func() -> u32; predict: func(x: u32) -> u32; }
        world plugin { export predictor; }";
    let module = r#"(module
        (func (export "modelhost:plugin/predictor@0.1.0#get-signature") (result i32) (i32.const 7))
        (func (export "modelhost:plugin/predictor@0.1.0#predict") (param i32) (result i32) (local.get 0)))"#;
    guest::component(module, Some(wit))
}

/// A component with a module of `functions` functions of `size` steps each, all of whose values depend on each
/// other: little to upload, much to compile.
pub fn expensive(component: Vec<u8>, functions: u32, size: u32) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I64; 8], [ValType::I64]);
    let mut declared = FunctionSection::new();
    let mut code = CodeSection::new();
    for seed in 0..functions {
        declared.function(0);
        code.function(&tangle(seed, size));
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    let mut outer = Component::new();
    outer.section(&ModuleSection(&module));
    let module_section = outer.finish().split_off(8);
    [component, module_section].concat()
}

fn tangle(seed: u32, size: u32) -> Function {
    let mut function = Function::new([(64, ValType::I64)]);
    let mut body = function.instructions();
    for step in 0..size {
        let mixed = step.wrapping_mul(2_654_435_761).wrapping_add(seed);
        body.local_get(mixed % 72)
            .local_get((mixed >> 8) % 72)
            .i64_mul()
            .local_get((mixed >> 16) % 72)
            .i64_xor()
            .local_tee((mixed >> 20) % 72)
            .i64_eqz()
            .if_(wasm_encoder::BlockType::Empty)
            .local_get((mixed >> 4) % 72)
            .local_set((mixed >> 12) % 72)
            .end();
    }
    body.local_get(0).end();
    function
}
