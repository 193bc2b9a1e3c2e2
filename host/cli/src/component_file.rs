//! The files that authors hand over: what they are by their first bytes, and how a plain network becomes a
//! component. Everything else about a component is for the host to judge.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use modelhost_inference::external_data;
use modelhost_runtime::{add_graph_section, add_sample_section};

include!(concat!(env!("OUT_DIR"), "/generic_plugin.rs"));

const WASM_MAGIC: &[u8] = b"\0asm";
/// The magic and the version field of a component; a core module has another version.
const COMPONENT_HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";
/// What the one network of the generic plugin is called; the plugin takes whichever there is.
const GENERIC_GRAPH_NAME: &str = "model";

/// Bytes that are ready to be uploaded.
pub struct Upload {
    /// How many.
    pub length: u64,
    /// The bytes.
    pub bytes: Box<dyn Read>,
}

/// A request that goes into a component.
pub struct Sample {
    /// The name of its file, without the extension.
    pub name: String,
    /// The whole file.
    pub json: Vec<u8>,
}

/// Reads files of samples; what is in them is for the host to judge.
///
/// # Errors
/// A file that cannot be read, or has no usable name, or the name of another.
pub fn read_samples(paths: &[PathBuf]) -> anyhow::Result<Vec<Sample>> {
    let mut samples: Vec<Sample> = Vec::with_capacity(paths.len());
    for path in paths {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let name = stem.with_context(|| format!("{} has no usable name", path.display()))?.to_owned();
        if samples.iter().any(|known| known.name == name) {
            bail!("two samples are named {name:?}: rename one of the files");
        }
        let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        samples.push(Sample { name, json });
    }
    Ok(samples)
}

/// Opens a file for an upload: Wasm as it is, an ONNX network inside the generic plugin; either with these samples.
///
/// # Errors
/// A file that cannot be read or is neither, or a binary without the generic plugin.
pub fn open(path: &Path, samples: &[PathBuf]) -> anyhow::Result<Upload> {
    let upload = open_alone(path)?;
    if samples.is_empty() {
        return Ok(upload);
    }
    let mut component = Vec::new();
    let Upload { mut bytes, .. } = upload;
    bytes.read_to_end(&mut component).with_context(|| format!("cannot read {}", path.display()))?;
    check_component(path, &component)?;
    for Sample { name, json } in read_samples(samples)? {
        component = add_sample_section(component, &name, &json);
    }
    Ok(in_memory(component))
}

fn in_memory(component: Vec<u8>) -> Upload {
    Upload { length: component.len() as u64, bytes: Box::new(io::Cursor::new(component)) }
}

fn open_alone(path: &Path) -> anyhow::Result<Upload> {
    let context = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let metadata = file.metadata().with_context(context)?;
    if !metadata.is_file() {
        bail!("{} is not a file", path.display());
    }
    let mut start = Vec::new();
    file.by_ref().take(WASM_MAGIC.len() as u64).read_to_end(&mut start).with_context(context)?;
    let has_extension =
        |wanted: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted));
    // What claims to be Wasm and is not goes to the host too, which says what is wrong with it.
    if start == WASM_MAGIC || has_extension("wasm") {
        return Ok(Upload { length: metadata.len(), bytes: Box::new(io::Cursor::new(start).chain(file)) });
    }
    if !has_extension("onnx") {
        bail!("{} is neither a Wasm component nor an .onnx file", path.display());
    }
    let network = external_data::read_whole(path)?;
    Ok(in_memory(wrap(&network)?))
}

fn wrap(network: &[u8]) -> anyhow::Result<Vec<u8>> {
    let Some(generic) = BYTES else {
        bail!(
            "this modelhost was built without the generic onnx plugin: run `cargo xtask plugins`, then build modelhost again"
        );
    };
    Ok(add_graph_section(generic.to_vec(), GENERIC_GRAPH_NAME, network))
}

/// Reads a finished component.
///
/// # Errors
/// A file that cannot be read, or holds something else.
pub fn read_component(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    check_component(path, &bytes)?;
    Ok(bytes)
}

/// Only a component can be added to.
fn check_component(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if bytes.starts_with(&COMPONENT_HEADER) {
        return Ok(());
    }
    if bytes.starts_with(WASM_MAGIC) {
        bail!("{} is a core module: a component is expected (target wasm32-wasip2)", path.display());
    }
    bail!("{} is no Wasm component", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn uploaded(name: &str, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let (_folder, path) = file(name, bytes);
        let mut upload = open(&path, &[])?;
        let mut sent = Vec::new();
        upload.bytes.read_to_end(&mut sent)?;
        assert_eq!(sent.len() as u64, upload.length);
        Ok(sent)
    }

    #[test]
    fn wasm_is_sent_as_it_is_whatever_its_name() {
        let component = [&COMPONENT_HEADER[..], b"rest"].concat();
        assert_eq!(uploaded("a.wasm", &component).unwrap(), component);
        assert_eq!(uploaded("a.onnx", &component).unwrap(), component);
        assert_eq!(uploaded("a.wasm", b"PK").unwrap(), b"PK");
    }

    #[test]
    fn a_network_is_wrapped_or_it_is_said_what_is_missing() {
        let outcome = uploaded("a.onnx", b"\x08\x07network");
        match BYTES {
            Some(generic) => {
                let sent = outcome.unwrap();
                assert!(sent.starts_with(generic) && sent.ends_with(b"modelhost:graph/model\x08\x07network"));
            }
            None => assert!(outcome.unwrap_err().to_string().contains("cargo xtask plugins")),
        }
    }

    #[test]
    fn samples_are_added_to_a_component() {
        let component = [&COMPONENT_HEADER[..], b"rest"].concat();
        let (folder, path) = file("a.wasm", &component);
        let sample = folder.path().join("usual.json");
        std::fs::write(&sample, b"{}").unwrap();
        let mut sent = Vec::new();
        open(&path, std::slice::from_ref(&sample)).unwrap().bytes.read_to_end(&mut sent).unwrap();
        assert_eq!(sent, add_sample_section(component, "usual", b"{}"));
        assert!(
            open(&path, &[sample.clone(), sample])
                .is_err_and(|error| error.to_string().contains("two samples"))
        );
    }

    #[test]
    fn other_files_are_refused() {
        assert!(uploaded("a.txt", b"text").unwrap_err().to_string().contains("neither"));
        assert!(open(Path::new("/"), &[]).is_err_and(|error| error.to_string().contains("is not a file")));
        let (_folder, module) = file("m.wasm", b"\0asm\x01\0\0\0");
        assert!(read_component(&module).unwrap_err().to_string().contains("core module"));
    }
}
