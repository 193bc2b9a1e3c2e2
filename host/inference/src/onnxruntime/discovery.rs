//! Where the shared library of ONNX Runtime is on this machine. Looks at names of files and asks a candidate for its
//! version; opens nothing for use and runs no other program.

use std::env;
use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};

use libloading::{Library, Symbol};
use ort::sys::{ORT_API_VERSION, OrtApiBase};

/// The interface is there from 1.17 on. Older versions than this one compute constants of any size while they load a
/// graph, and end the process at some hostile shapes.
const OLDEST_MINOR_VERSION: u32 = 24;

/// A library that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its file.
    pub file: PathBuf,
    /// Its version.
    pub version: String,
}

/// The library in this file.
///
/// # Errors
/// Why it cannot be used, in one sentence that names the file.
pub fn at(file: &Path) -> Result<Found, String> {
    let file = fs::canonicalize(file).map_err(|error| format!("{}: {error}", file.display()))?;
    match version_of(&file) {
        Ok(version) => Ok(Found { file, version }),
        Err(reason) => Err(format!("{}: {reason}", file.display())),
    }
}

/// The first usable library in the usual places.
///
/// # Errors
/// That there is none, with the reason of the first that was found and cannot be used.
pub fn anywhere() -> Result<Found, String> {
    let mut unusable = None;
    for file in places().into_iter().flat_map(|place| libraries_in(&place)) {
        match at(&file) {
            Ok(found) => return Ok(found),
            Err(reason) => unusable.get_or_insert(reason),
        };
    }
    Err(unusable.unwrap_or_else(|| {
        "no library of ONNX Runtime was found in the usual places: name its file in inference.onnxruntime, or run \
         `cargo xtask onnxruntime`"
            .to_owned()
    }))
}

/// The folder in the user's cache in which `cargo xtask onnxruntime` puts one folder for each version.
pub fn cache_folder() -> Option<PathBuf> {
    let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("modelhost").join("onnxruntime"))
}

/// The version of the library in this file.
pub(super) fn version_of(file: &Path) -> Result<String, String> {
    // SAFETY: opening a library runs its initialisers. The file was named by the operator, or lies where only the
    // operator of this machine, or the user of this process, puts libraries.
    let library = unsafe { Library::new(file) }
        .map_err(|_| "it cannot be opened as a shared library of this platform".to_owned())?;
    // SAFETY: this is the type of the function in every version.
    let base: Symbol<'_, unsafe extern "C" fn() -> *const OrtApiBase> =
        unsafe { library.get(b"OrtGetApiBase\0") }.map_err(|_| "it is not ONNX Runtime".to_owned())?;
    // SAFETY: the function takes nothing and gives a static structure.
    let Some(base) = (unsafe { base().as_ref() }) else { return Err("it is not ONNX Runtime".to_owned()) };
    // SAFETY: the function gives a static string that ends in a zero.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
    // SAFETY: the function gives a static structure, or null for a version that it does not know.
    let is_new_enough = minor(&version).is_some_and(|minor| minor >= OLDEST_MINOR_VERSION)
        && !unsafe { (base.GetApi)(ORT_API_VERSION) }.is_null();
    // Closing it would unload a library that registers destructors at the end of the process.
    std::mem::forget(library);
    if is_new_enough {
        Ok(version)
    } else {
        Err(format!("it has version {version}: at least 1.{OLDEST_MINOR_VERSION} is needed"))
    }
}

fn minor(version: &str) -> Option<u32> {
    let mut parts = version.split('.');
    if parts.next()? != "1" {
        return None;
    }
    parts.next()?.parse().ok()
}

/// Files and folders to look at, the most deliberate first.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = env::var_os("ORT_DYLIB_PATH").into_iter().map(PathBuf::from).collect();
    if let Some(folder) = env::current_exe().ok().as_deref().and_then(Path::parent) {
        places.extend([folder.to_owned(), folder.join("../lib")]);
    }
    places.extend(cache_folder().iter().flat_map(|folder| newest_first(folders_in(folder))));
    for environment in ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(env::var_os) {
        places.extend(python_packages(&PathBuf::from(environment).join("lib")));
    }
    places.extend(env::var_os("LD_LIBRARY_PATH").iter().flat_map(env::split_paths));
    places.extend(["/usr/local/lib", "/usr/lib", "/usr/lib64", "/opt/homebrew/lib"].map(PathBuf::from));
    places.extend(linker_folders());
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/lib"));
    let python = ["/usr/local/lib", "/usr/lib"].map(PathBuf::from).into_iter().chain(home);
    places.extend(python.flat_map(|lib| python_packages(&lib)));
    places
}

/// Where the package `onnxruntime` keeps the library, for each Python below this folder.
fn python_packages(lib: &Path) -> Vec<PathBuf> {
    let pythons = folders_in(lib).into_iter().filter(|folder| starts_with(folder, "python3"));
    let packages =
        pythons.flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name)));
    packages.map(|packages| packages.join("onnxruntime").join("capi")).collect()
}

/// What the dynamic linker is told, without the folders that it is told by patterns of files other than these.
fn linker_folders() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/ld.so.conf")];
    let included =
        fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten().flatten().map(|entry| entry.path());
    files.extend(included.filter(|path| path.extension().is_some_and(|extension| extension == "conf")));
    let lines = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    lines
        .flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>())
        .filter(|line| line.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// The libraries in this folder, the newest first; or the file itself.
fn libraries_in(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let entries = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    let libraries = entries.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_versioned = name.starts_with("libonnxruntime.so.") || name == "libonnxruntime.so";
        (is_versioned || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"))) && path.is_file()
    });
    newest_first(libraries.collect())
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

fn starts_with(path: &Path, start: &str) -> bool {
    path.file_name().unwrap_or_default().to_string_lossy().starts_with(start)
}

/// By the numbers in the names: 1.9 is older than 1.32.
fn newest_first(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let numbers = |path: &PathBuf| -> Vec<u64> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split(|character: char| !character.is_ascii_digit())
            .filter_map(|part| part.parse().ok())
            .collect()
    };
    paths.sort_by_key(|path| std::cmp::Reverse(numbers(path)));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_come_first() {
        let paths = ["/a/libonnxruntime.so", "/a/libonnxruntime.so.1.9.0", "/a/libonnxruntime.so.1.32.0"];
        let sorted = newest_first(paths.map(PathBuf::from).to_vec());
        assert_eq!(sorted, [paths[2], paths[1], paths[0]].map(PathBuf::from));
    }

    #[test]
    fn only_libraries_are_candidates() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "libonnxruntime.so.1.20.1",
            "libonnxruntime.so",
            "libonnxruntime_providers_shared.so",
            "onnxruntime_pybind11_state.so",
        ];
        names.iter().for_each(|name| fs::write(folder.path().join(name), "no library").unwrap());
        let found = libraries_in(folder.path());
        assert_eq!(found, [folder.path().join(names[0]), folder.path().join(names[1])]);
    }

    #[test]
    fn what_is_no_library_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libonnxruntime.so");
        fs::write(&file, "no library").unwrap();
        let reason = at(&file).unwrap_err();
        assert!(reason.contains("libonnxruntime.so") && reason.contains("cannot be opened"), "{reason}");
        let missing = at(&folder.path().join("nothing.so")).unwrap_err();
        assert!(missing.contains("nothing.so"), "{missing}");
    }

    #[test]
    fn another_library_is_not_onnx_runtime() {
        // The C library is there wherever this test runs; its file is found through the process's own mappings.
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let libc = maps.split_whitespace().find(|word| word.contains("libc.so") || word.contains("libc-"));
        let Some(libc) = libc else { return };
        assert!(at(Path::new(libc)).unwrap_err().ends_with("it is not ONNX Runtime"));
    }

    #[test]
    fn only_versions_of_the_first_generation_count() {
        assert_eq!(minor("1.32.0"), Some(32));
        assert_eq!(minor("2.1.0"), None);
        assert_eq!(minor("1"), None);
        assert_eq!(minor(""), None);
    }

    #[test]
    fn python_packages_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let capi = folder.path().join("python3.11/site-packages/onnxruntime/capi");
        fs::create_dir_all(&capi).unwrap();
        assert!(python_packages(folder.path()).contains(&capi));
    }
}
