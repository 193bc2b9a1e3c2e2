//! Which library of ONNX Runtime the tests use, and what happens where there is none.

use std::env;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use modelhost_inference::OnnxRuntimeEngine;
use modelhost_inference::onnxruntime::discovery;

/// Names the library's file, or is `off`.
const VARIABLE: &str = "MODELHOST_ONNXRUNTIME";

/// The library's file; none where the variable says so, which is printed.
///
/// # Panics
/// Where there is no library and nobody said that these tests are to be left out.
pub fn file() -> Option<PathBuf> {
    match env::var_os(VARIABLE) {
        Some(value) if value == "off" => {
            // Past the capture of the test's output: nobody should believe that it ran.
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            let _ = writeln!(std::io::stderr(), "LEFT OUT, {VARIABLE}=off: {name}");
            None
        }
        Some(value) => Some(value.into()),
        None => {
            let found = discovery::anywhere();
            let found =
                found.unwrap_or_else(|reason| panic!("{reason}; {VARIABLE}=off leaves these tests out"));
            Some(found.file)
        }
    }
}

/// The engine; none where the variable says so.
#[allow(dead_code, reason = "one of the tests opens the library in its own way")]
pub fn engine() -> Option<&'static OnnxRuntimeEngine> {
    static ENGINE: OnceLock<OnnxRuntimeEngine> = OnceLock::new();
    let file = file()?;
    let open = || OnnxRuntimeEngine::open(&file, 1);
    Some(ENGINE.get_or_init(|| open().unwrap_or_else(|reason| panic!("{}: {reason}", file.display()))))
}
