//! Which library of ONNX Runtime the tests use, and what happens where there is none.

use std::env;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use modelhost_inference::OnnxRuntimeEngine;
use modelhost_inference::onnxruntime::discovery;

/// Names the library's file, or is `off`.
const VARIABLE: &str = "MODELHOST_ONNXRUNTIME";

/// The engine; none where the variable says so.
///
/// # Panics
/// Where there is no library and nobody said that these tests are to be left out.
pub fn engine() -> Option<&'static OnnxRuntimeEngine> {
    static ENGINE: OnceLock<Option<OnnxRuntimeEngine>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let file = match env::var_os(VARIABLE) {
            Some(value) if value == "off" => return None,
            Some(value) => PathBuf::from(value),
            None => {
                discovery::anywhere()
                    .unwrap_or_else(|reason| panic!("{reason}; {VARIABLE}=off leaves these tests out"))
                    .file
            }
        };
        Some(
            OnnxRuntimeEngine::open(&file, 1).unwrap_or_else(|reason| panic!("{}: {reason}", file.display())),
        )
    });
    if engine.is_none() {
        // Past the capture of the test's output: nobody should believe that it ran.
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let _ = writeln!(std::io::stderr(), "LEFT OUT, {VARIABLE}=off: {name}");
    }
    engine.as_ref()
}
