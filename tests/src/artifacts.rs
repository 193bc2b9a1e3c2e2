//! Where the binary and the components lie that the tests run. `cargo xtask test` builds them and says where.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The `modelhost` binary.
pub fn binary() -> PathBuf {
    path_from("MODELHOST_BINARY")
}

/// The bytes of a component of `plugins/`.
pub fn plugin(name: &str) -> Vec<u8> {
    read(&plugin_path(name))
}

/// Where a component of `plugins/` lies.
pub fn plugin_path(name: &str) -> PathBuf {
    path_from("MODELHOST_PLUGINS").join(format!("{name}.wasm"))
}

/// The bytes of a component of `tests/plugins/`.
pub fn test_plugin(name: &str) -> Vec<u8> {
    read(&path_from("MODELHOST_TEST_PLUGINS").join(format!("{name}.wasm")))
}

/// The shared library of ONNX Runtime, or `auto`; none where `cargo xtask test` could not install one, which is said.
pub fn onnxruntime() -> Option<String> {
    match std::env::var("MODELHOST_ONNXRUNTIME") {
        Ok(value) if value == "off" => {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            // Past the capture of the test's output: nobody should believe that it ran.
            let _ = writeln!(std::io::stderr(), "LEFT OUT, MODELHOST_ONNXRUNTIME=off: {name}");
            None
        }
        Ok(library) => Some(library),
        Err(_) => Some("auto".to_owned()),
    }
}

/// A file of the checkout.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn path_from(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => panic!(
            "{variable} is not set: run the end-to-end tests through `cargo xtask test`, which builds what they need"
        ),
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask test` builds it", path.display()))
}
