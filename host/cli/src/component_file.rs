//! The files that authors hand over: what they are by their first bytes or their names, how a plain network becomes a
//! component, and how a declared ensemble is sent. Everything else is for the host to judge.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use modelhost_inference::external_data;
use modelhost_runtime::{add_graph_section, add_sample_section};

include!(concat!(env!("OUT_DIR"), "/generic_plugin.rs"));

/// The content type of a component.
const COMPONENT: &str = "application/wasm";
/// The content type of a declared ensemble.
const ENSEMBLE: &str = "application/vnd.modelhost.ensemble+json";

const WASM_MAGIC: &[u8] = b"\0asm";
/// The magic and the version field of a component; a core module has another version.
const COMPONENT_HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";
/// What the one network of the generic plugin is called; the plugin takes whichever there is.
const GENERIC_GRAPH_NAME: &str = "model";

/// Bytes that are ready to be uploaded.
pub struct Upload {
    /// How many.
    pub length: u64,
    /// What they are.
    pub content_type: &'static str,
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
    if upload.content_type != COMPONENT {
        bail!("{} declares an ensemble, which takes no samples: its steps have their own", path.display());
    }
    let Upload { mut bytes, .. } = upload;
    bytes.read_to_end(&mut component).with_context(|| format!("cannot read {}", path.display()))?;
    check_component(path, &component)?;
    for Sample { name, json } in read_samples(samples)? {
        component = add_sample_section(component, &name, &json);
    }
    Ok(in_memory(component))
}

fn in_memory(component: Vec<u8>) -> Upload {
    sent_as(COMPONENT, component)
}

fn sent_as(content_type: &'static str, bytes: Vec<u8>) -> Upload {
    Upload { length: bytes.len() as u64, content_type, bytes: Box::new(io::Cursor::new(bytes)) }
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
        let bytes = Box::new(io::Cursor::new(start).chain(file));
        return Ok(Upload { length: metadata.len(), content_type: COMPONENT, bytes });
    }
    if has_extension("json") {
        return Ok(sent_as(ENSEMBLE, std::fs::read(path).with_context(context)?));
    }
    if has_extension("toml") {
        return Ok(sent_as(ENSEMBLE, json_of_toml(path)?));
    }
    if !has_extension("onnx") {
        bail!(
            "{} is neither a Wasm component, nor an .onnx file, nor an ensemble (.json, .toml)",
            path.display()
        );
    }
    let network = external_data::read_whole(path)?;
    Ok(in_memory(wrap(&network)?))
}

/// An ensemble may be written in TOML; the host reads JSON.
fn json_of_toml(path: &Path) -> anyhow::Result<Vec<u8>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let declaration: serde_json::Value =
        toml::from_str(&text).with_context(|| format!("{} is no TOML", path.display()))?;
    Ok(serde_json::to_vec(&declaration)?)
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
    fn an_ensemble_is_sent_as_json() {
        let written =
            [("a.json", r#"{"ensemble":{"inputs":["x"]}}"#), ("a.toml", "[ensemble]\ninputs = [\"x\"]")];
        for (name, text) in written {
            let (folder, path) = file(name, text.as_bytes());
            let mut upload = open(&path, &[]).unwrap();
            let mut sent = String::new();
            upload.bytes.read_to_string(&mut sent).unwrap();
            assert_eq!((sent.as_str(), upload.content_type), (r#"{"ensemble":{"inputs":["x"]}}"#, ENSEMBLE));
            let sample = folder.path().join("usual.json");
            std::fs::write(&sample, b"{}").unwrap();
            assert!(
                open(&path, &[sample]).is_err_and(|error| error.to_string().contains("takes no samples"))
            );
        }
        assert!(uploaded("a.toml", b"[").unwrap_err().to_string().contains("is no TOML"));
    }

    #[test]
    fn other_files_are_refused() {
        assert!(uploaded("a.txt", b"text").unwrap_err().to_string().contains("neither"));
        assert!(open(Path::new("/"), &[]).is_err_and(|error| error.to_string().contains("is not a file")));
        let (_folder, module) = file("m.wasm", b"\0asm\x01\0\0\0");
        assert!(read_component(&module).unwrap_err().to_string().contains("core module"));
    }
}
