//! Owns the way without rustup's server: Debian's packaged Rust, unpacked beside the system, with
//! the target's standard library built once from its sources.
//!
//! Debian's compiler knows the target but ships neither its standard library nor its linkers; the
//! linkers come from the checkout's own toolchain. Nothing is installed and the system's own files
//! stay as they are. A folder with its final name is complete: it got that name last. It must not
//! know about plugins.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

use super::{GuestToolchain, TARGET, apt, holds_std, own_rustc_prints, std_in};
use crate::environment::{self, Log};
use crate::steps;
use crate::workspace::Workspace;

/// Guests declare this as the oldest compiler that they accept.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// A hidden folder in which a toolchain is being built; the process number follows.
const ASIDE: &str = ".building-";

/// A toolchain that an earlier run completed; the newest of several.
pub fn finished(cache: &Path) -> Result<Option<GuestToolchain>> {
    let Ok(entries) = fs::read_dir(cache) else { return Ok(None) };
    let prefixes = entries.flatten().map(|entry| entry.path());
    let newest = prefixes.filter(|prefix| is_complete(prefix)).max_by_key(|prefix| {
        let version = name_of(prefix);
        (release(&version), version)
    });
    newest.map(|prefix| toolchain(&prefix)).transpose()
}

/// Removes what runs left that were ended midway. A program that such a run had started may still
/// write there: what cannot be removed now is left to the next run.
fn remove_leftovers(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    for leftover in entries.flatten().map(|entry| entry.path()) {
        if name_of(&leftover).starts_with(ASIDE) {
            let _ = fs::remove_dir_all(&leftover);
        }
    }
}

/// Folders that are being built are hidden ones.
fn is_complete(prefix: &Path) -> bool {
    let version = name_of(prefix);
    !version.starts_with('.') && new_enough(&version) && holds_std(&target_libraries(prefix))
}

/// Builds the toolchain; the caller holds the lock.
pub fn build(workspace: &Workspace, cache: &Path) -> Result<GuestToolchain> {
    let log = Log::create(workspace.logs().join("guest-target.log"))?;
    let host = Host::of(&workspace.root)?;
    let version = steps::quiet("asking apt for rustc-web", || available_version(&log))?;
    remove_leftovers(cache);
    let aside = cache.join(format!("{ASIDE}{}", std::process::id()));
    remove_folder(&aside)?;
    let prefix = cache.join(&version);
    let result = assemble(workspace, &host, &version, &aside, &log);
    if let Err(error) = result {
        remove_folder(&aside)?;
        return Err(error);
    }
    remove_folder(&prefix)?;
    fs::rename(aside.join("prefix"), &prefix)
        .with_context(|| format!("cannot rename to {}", prefix.display()))?;
    remove_folder(&aside)?;
    toolchain(&prefix)
}

fn assemble(workspace: &Workspace, host: &Host, version: &str, aside: &Path, log: &Log) -> Result<()> {
    let prefix = aside.join("prefix");
    steps::quiet(&format!("downloading Debian's Rust {version}"), || download(version, aside, log))?;
    steps::quiet("unpacking it", || unpack(aside, &prefix, log))?;
    copy_linkers(workspace, host, &prefix)?;
    copy_c_library(&prefix)?;
    steps::quiet(&format!("building the standard library for {TARGET}"), || {
        build_std(workspace, aside, &prefix, log)
    })?;
    trim(&prefix)
}

/// What the machine is, as Rust names it.
struct Host {
    triple: String,
}

impl Host {
    fn of(root: &Path) -> Result<Self> {
        let about = own_rustc_prints(root, &["-vV"])?;
        let triple = about.lines().find_map(|line| line.strip_prefix("host: "));
        let triple = triple.context("rustc -vV names no host")?.to_owned();
        let debian = environment::read(std::process::Command::new("dpkg").arg("--print-architecture"))
            .context("this is no Debian system")?;
        let expected = match debian.trim() {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        };
        ensure!(
            triple.starts_with(&format!("{expected}-")),
            "dpkg's architecture {} is not that of the toolchain {triple}",
            debian.trim()
        );
        Ok(Self { triple })
    }
}

/// The version of rustc-web to take: new enough for the guests, with fresh lists where needed.
fn available_version(log: &Log) -> Result<String> {
    let known = apt::candidate("rustc-web")?;
    if let Some(version) = known.filter(|version| new_enough(version)) {
        return Ok(version);
    }
    apt::update(log)?;
    match apt::candidate("rustc-web")? {
        Some(version) if new_enough(&version) => Ok(version),
        Some(version) => bail!("rustc-web is {version}, guests need {OLDEST}"),
        None => bail!("apt knows no package rustc-web"),
    }
}

fn new_enough(version: &str) -> bool {
    release(version) >= release(OLDEST)
}

/// Major and minor number of a Debian or Rust version.
fn release(version: &str) -> (u32, u32) {
    let upstream = version.split_once(':').map_or(version, |(_epoch, rest)| rest);
    let mut numbers = upstream.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn download(version: &str, aside: &Path, log: &Log) -> Result<()> {
    let folder = aside.join("packages");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let packages = packages(version)?;
    if apt::download(&packages, &folder, log).is_ok() {
        return Ok(());
    }
    // A mirror drops a version when the next one is there: the lists may be older than that.
    apt::update(log)?;
    apt::download(&packages, &folder, log)
}

/// Compiler, its standard library for the host, their sources, LLVM and what LLVM needs, and WASI's C library.
fn packages(version: &str) -> Result<Vec<String>> {
    let runtime = dependency("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = dependency(&runtime, "libllvm")?;
    let of_this_version = ["rustc-web", &runtime, "libstd-rust-web-dev", "rust-web-src"];
    let mut packages: Vec<String> = of_this_version.iter().map(|name| format!("{name}={version}")).collect();
    packages.extend(apt::missing_dependencies(&llvm)?);
    packages.extend([llvm, "wasi-libc".to_owned()]);
    Ok(packages)
}

fn dependency(package: &str, prefix: &str) -> Result<String> {
    let found = apt::depends(package)?.into_iter().find(|name| name.starts_with(prefix));
    found.with_context(|| format!("{package} depends on no {prefix}*"))
}

fn unpack(aside: &Path, prefix: &Path, log: &Log) -> Result<()> {
    for package in files_of(&aside.join("packages"))? {
        log.run(std::process::Command::new("dpkg").arg("-x").arg(&package).arg(prefix))?;
    }
    Ok(())
}

/// The linkers of the checkout's toolchain, with the LLVM that they are linked to.
fn copy_linkers(workspace: &Workspace, host: &Host, prefix: &Path) -> Result<()> {
    let sysroot = PathBuf::from(own_rustc_prints(&workspace.root, &["--print", "sysroot"])?);
    let tools = sysroot.join("lib/rustlib").join(&host.triple).join("bin");
    let destination = prefix.join("usr/lib/rustlib").join(&host.triple).join("bin");
    for name in ["rust-lld", "wasm-component-ld"] {
        place(&tools.join(name), &destination)?;
    }
    for linker in files_of(&tools.join("gcc-ld"))? {
        place(&linker, &destination.join("gcc-ld"))?;
    }
    for library in files_of(&sysroot.join("lib"))? {
        if name_of(&library).starts_with("libLLVM") {
            place(&library, &prefix.join("usr/lib"))?;
        }
    }
    Ok(())
}

fn copy_c_library(prefix: &Path) -> Result<()> {
    let source = prefix.join("usr/lib/wasm32-wasi");
    for name in ["crt1-command.o", "crt1-reactor.o", "libc.a"] {
        place(&source.join(name), &target_libraries(prefix).join("self-contained"))?;
    }
    Ok(())
}

/// Builds an empty guest together with its standard library, and keeps the latter.
fn build_std(workspace: &Workspace, aside: &Path, prefix: &Path, log: &Log) -> Result<()> {
    let seed = aside.join("seed");
    fs::create_dir_all(seed.join("src")).with_context(|| format!("cannot create {}", seed.display()))?;
    fs::write(seed.join("src/lib.rs"), "").context("cannot write the seed crate")?;
    fs::write(seed.join("Cargo.toml"), SEED).context("cannot write the seed crate")?;
    let mut cargo = environment::guest_cargo(&workspace.root);
    toolchain(prefix)?.apply(&mut cargo);
    // The places of panics end up in components: without this, with this user's folders in them.
    let sources = prefix.join("usr/lib/rustlib/src/rust");
    cargo.env("RUSTFLAGS", format!("--remap-path-prefix={}=/rust", sources.display()));
    cargo.env("RUSTC_BOOTSTRAP", "1").args(["build", "--release", "--target", TARGET]);
    cargo.arg("-Zbuild-std=std,panic_abort").arg("--manifest-path").arg(seed.join("Cargo.toml"));
    log.run(cargo.arg("--target-dir").arg(seed.join("target")))?;
    let built = seed.join("target").join(TARGET).join("release/deps");
    for library in files_of(&built)?.iter().filter(|path| path.extension().is_some_and(|e| e == "rlib")) {
        place(library, &target_libraries(prefix))?;
    }
    ensure!(
        holds_std(&target_libraries(prefix)),
        "the build left no standard library in {}",
        built.display()
    );
    Ok(())
}

/// It has no dependencies, so every library beside it is one of the standard library.
const SEED: &str = r#"[package]
name = "seed"
version = "0.0.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[workspace]
"#;

/// Removes what only the build needed: most of the size.
fn trim(prefix: &Path) -> Result<()> {
    for folder in ["usr/src", "usr/share", "usr/include", "usr/lib/rustlib/src", "usr/lib/wasm32-wasi"] {
        remove_folder(&prefix.join(folder))?;
    }
    Ok(())
}

fn toolchain(prefix: &Path) -> Result<GuestToolchain> {
    // Debian puts libraries into folders named after the machine: there is one, whatever its name.
    let mut libraries = Vec::new();
    for base in ["usr/lib", "lib"] {
        let Ok(entries) = fs::read_dir(prefix.join(base)) else { continue };
        let named = entries.flatten().map(|entry| entry.path());
        libraries.extend(named.filter(|path| path.is_dir() && name_of(path).contains("-linux-gnu")));
    }
    let rustc = prefix.join("usr/bin/rustc");
    let toolchain = GuestToolchain { rustc: Some(rustc.clone()), libraries, identity: identity(prefix)? };
    let mut asked = std::process::Command::new(&rustc);
    toolchain.apply_libraries(&mut asked);
    environment::read(asked.arg("-vV")).with_context(|| {
        format!("Debian's compiler does not run here; remove {} to start again", prefix.display())
    })?;
    Ok(toolchain)
}

/// The name of the standard library and when it was built; empty while it is not.
fn identity(prefix: &Path) -> Result<String> {
    let Some(library) = std_in(&target_libraries(prefix)) else { return Ok(String::new()) };
    let modified = fs::metadata(&library).and_then(|metadata| metadata.modified());
    let modified = modified.with_context(|| format!("cannot look at {}", library.display()))?;
    let built = modified.duration_since(SystemTime::UNIX_EPOCH).context("a file from before 1970")?;
    Ok(format!("{} {}", name_of(&library), built.as_nanos()))
}

fn target_libraries(prefix: &Path) -> PathBuf {
    prefix.join("usr/lib/rustlib").join(TARGET).join("lib")
}

/// A hard link where possible: a copy that takes no space and outlives the original.
fn place(file: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let destination = folder.join(name_of(file));
    if fs::hard_link(file, &destination).is_ok() {
        return Ok(());
    }
    fs::copy(file, &destination).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}

/// Also removes a link, and is content with what is not there.
fn remove_folder(folder: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(folder) else { return Ok(()) };
    let removed = if metadata.is_symlink() { fs::remove_file(folder) } else { fs::remove_dir_all(folder) };
    removed.with_context(|| format!("cannot remove {}", folder.display()))
}

#[cfg(test)]
mod proofs {
    use super::{new_enough, release};

    #[test]
    fn releases_are_read_from_debian_versions() {
        assert_eq!(release("1.96.0+dfsg1-1~deb12u2"), (1, 96));
        assert_eq!(release("1:2.5-1"), (2, 5));
        assert_eq!(release("1.95"), (1, 95));
    }

    #[test]
    fn an_older_compiler_is_refused() {
        assert!(new_enough("1.96.0+dfsg1-1~deb12u2"));
        assert!(!new_enough("1.85.0+dfsg3-1~deb12u3"));
    }
}
