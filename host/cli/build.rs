//! Finds the generic plugin that `cargo xtask plugins` leaves in the target folder, so that the binary carries
//! it. Without one the binary is whole too, but cannot turn a plain network into a component.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where the generic plugin lies in the target folder.
const PLUGIN: &str = "plugins/onnx.wasm";

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let plugin = find(&out);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", plugin.display());
    let bytes =
        if plugin.is_file() { format!("Some(include_bytes!({plugin:?}))") } else { "None".to_owned() };
    fs::write(out.join("generic_plugin.rs"), format!("static BYTES: Option<&[u8]> = {bytes};\n"))
}

/// The output folder is `TARGET[/TRIPLE]/PROFILE/build/NAME/out`: the target folder is the ancestor that has the
/// plugin, or else the one that would have it when nothing is cross-compiled.
fn find(out: &Path) -> PathBuf {
    let candidates = || out.ancestors().skip(4).take(2).map(|folder| folder.join(PLUGIN));
    candidates().find(|path| path.is_file()).or_else(|| candidates().next()).unwrap_or_else(|| PLUGIN.into())
}
