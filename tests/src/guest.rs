//! Plugins of a few hundred bytes, written in WebAssembly's text form against the contract itself: quick to upload
//! by the hundred, and free to break what no compiler would let an author break.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::artifacts;

/// A plugin that takes a column `x` of FP32 and answers it under a name of its own.
#[derive(Clone, Debug)]
pub struct Guest {
    output: String,
    output_extent: i64,
    pages: u32,
    items: String,
    signature: String,
    predict: String,
}

/// Where things lie in the plugin's memory. The layouts are those of the component model's canonical ABI.
const INPUT_NAME: usize = 1024;
const OUTPUT_NAME: usize = 1088;
const INPUT_SHAPE: usize = 1416;
const OUTPUT_SHAPE: usize = 1424;
const INPUT_DESCRIPTION: usize = 1440;
const OUTPUT_DESCRIPTION: usize = 1472;
const SIGNATURE: usize = 1504;
const ANSWER_TENSOR: usize = 1536;
const ANSWER: usize = 1552;
const FP32: u32 = 11;

impl Guest {
    /// A plugin whose output has this name.
    pub fn answering(output: &str) -> Guest {
        assert!(output.len() < INPUT_SHAPE - OUTPUT_NAME, "the name does not fit its place");
        Guest {
            output: output.to_owned(),
            output_extent: -1,
            pages: 2,
            items: String::new(),
            signature: String::new(),
            predict: String::new(),
        }
    }

    /// One whose module has further items, such as tables.
    pub fn with_items(self, items: &str) -> Guest {
        Guest { items: items.to_owned(), ..self }
    }

    /// One that executes this before it answers its signature.
    pub fn before_signature(self, instructions: &str) -> Guest {
        Guest { signature: instructions.to_owned(), ..self }
    }

    /// One that executes this before it answers a request.
    pub fn before_predict(self, instructions: &str) -> Guest {
        Guest { predict: instructions.to_owned(), ..self }
    }

    /// One that promises this extent for its output.
    pub fn promising_extent(self, extent: i64) -> Guest {
        Guest { output_extent: extent, ..self }
    }

    /// One whose memory has this many pages of 64 KiB from the start.
    pub fn with_memory(self, pages: u32) -> Guest {
        Guest { pages, ..self }
    }

    /// The component.
    pub fn component(&self) -> Vec<u8> {
        component(&self.module(), None)
    }

    fn module(&self) -> String {
        let Guest { output, pages, items, signature, predict, .. } = self;
        let bytes = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
        let words =
            |words: &[u32]| bytes(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
        let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let description = |name: usize, length: usize, shape: usize| {
            words(&[word(name), word(length), FP32, word(shape), 1])
        };
        format!(
            r#"(module
              (memory (export "memory") {pages})
              (global $next (mut i32) (i32.const 65536))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $address i32)
                (local.set $address (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $address) (local.get 3)))
                (local.get $address))
              {items}
              (func (export "modelhost:plugin/predictor@0.1.0#get-signature") (result i32)
                {signature}
                (i32.const {SIGNATURE}))
              (func (export "modelhost:plugin/predictor@0.1.0#predict")
                (param $inputs i32) (param i32 i32 i32) (result i32)
                {predict}
                (i32.store (i32.const {handle}) (i32.load offset=8 (local.get $inputs)))
                (i32.const {ANSWER}))
              (data (i32.const {INPUT_NAME}) "x")
              (data (i32.const {OUTPUT_NAME}) "{output_name}")
              (data (i32.const {INPUT_SHAPE}) "{any}")
              (data (i32.const {OUTPUT_SHAPE}) "{output_extent}")
              (data (i32.const {INPUT_DESCRIPTION}) "{input}")
              (data (i32.const {OUTPUT_DESCRIPTION}) "{output}")
              (data (i32.const {SIGNATURE}) "{answered_signature}")
              (data (i32.const {ANSWER_TENSOR}) "{answered_name}")
              (data (i32.const {ANSWER}) "{answer}"))"#,
            handle = ANSWER_TENSOR + 8,
            output_name = bytes(output.as_bytes()),
            any = bytes(&(-1_i64).to_le_bytes()),
            output_extent = bytes(&self.output_extent.to_le_bytes()),
            input = description(INPUT_NAME, 1, INPUT_SHAPE),
            output = description(OUTPUT_NAME, output.len(), OUTPUT_SHAPE),
            answered_signature = words(&[0, word(INPUT_DESCRIPTION), 1, word(OUTPUT_DESCRIPTION), 1]),
            answered_name = words(&[word(OUTPUT_NAME), word(output.len())]),
            answer = words(&[0, word(ANSWER_TENSOR), 1]),
        )
    }
}

/// Makes a component of a core module in text form. The world is the contract's, or the one in `wit`.
pub fn component(module: &str, wit: Option<&str>) -> Vec<u8> {
    let mut core = wat::parse_str(module).unwrap_or_else(|error| panic!("{error}\n{module}"));
    let mut resolve = Resolve::default();
    let package = match wit {
        Some(text) => resolve.push_str("test.wit", text).unwrap(),
        None => resolve.push_dir(contract()).unwrap().0,
    };
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&core).unwrap().encode().unwrap()
}

fn contract() -> impl AsRef<Path> {
    artifacts::checkout("wit")
}
