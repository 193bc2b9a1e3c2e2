//! Owns asking apt: which versions there are, what depends on what, and getting package files.
//!
//! It must not know what the packages are for. apt translates its labels, so every question is
//! asked in the C locale.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::{self, Log};

/// The version that apt would take, if it knows the package.
pub fn candidate(package: &str) -> Result<Option<String>> {
    let policy = environment::read(in_c_locale("apt-cache").args(["policy", package]))?;
    Ok(parse_candidate(&policy))
}

/// The packages that a package needs directly.
pub fn depends(package: &str) -> Result<Vec<String>> {
    let listing = environment::read(in_c_locale("apt-cache").args(["depends", package]))?;
    Ok(parse_depends(&listing))
}

/// What a package needs, directly or not, as far as it is not installed here.
pub fn missing_dependencies(package: &str) -> Result<Vec<String>> {
    let mut query = in_c_locale("apt-cache");
    query.args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"]);
    query.args(["--no-breaks", "--no-replaces", "--no-enhances", package]);
    let needed = parse_closure(&environment::read(&mut query)?);
    let installed =
        environment::read(in_c_locale("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]))?;
    let installed = parse_installed(&installed);
    Ok(needed.into_iter().filter(|name| name != package && !installed.contains(name)).collect())
}

/// Fetches the lists of packages, which takes root.
pub fn update(log: &Log) -> Result<()> {
    log.run(in_c_locale("apt-get").arg("update")).context("apt-get update failed (it usually takes root)")
}

/// Downloads package files into a folder; no root needed, nothing is installed.
pub fn download(packages: &[String], folder: &Path, log: &Log) -> Result<()> {
    log.run(in_c_locale("apt-get").arg("download").args(packages).current_dir(folder))
}

fn in_c_locale(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C");
    command
}

fn parse_candidate(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)" && !version.is_empty()).then(|| version.to_owned())
}

/// Names in angle brackets are virtual: nothing to download.
fn parse_depends(listing: &str) -> Vec<String> {
    let names = listing.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches('|');
        line.strip_prefix("Depends:").map(str::trim)
    });
    names.filter(|name| !name.starts_with('<')).map(str::to_owned).collect()
}

/// In a recursive listing each package has a line of its own, its relations are indented.
fn parse_closure(listing: &str) -> BTreeSet<String> {
    let names = listing.lines().filter(|line| !line.starts_with([' ', '|', '<']) && !line.is_empty());
    names.map(|name| name.trim().to_owned()).collect()
}

fn parse_installed(listing: &str) -> BTreeSet<String> {
    let names = listing.lines().filter_map(|line| line.strip_suffix(" installed"));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod proofs {
    use super::*;

    #[test]
    fn candidate_is_read_from_a_policy() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n     1.85.0 500\n";
        assert_eq!(parse_candidate(policy).as_deref(), Some("1.96.0+dfsg1-1~deb12u2"));
    }

    #[test]
    fn no_candidate_means_none() {
        assert_eq!(parse_candidate("rustc-web:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }

    #[test]
    fn depends_leaves_virtual_packages_and_other_relations_out() {
        let listing = "libstd-rust-web-1.96\n  Depends: libc6\n |Depends: libllvm22\n  Depends: <libc-dev>\n    libc6-dev\n  Conflicts: <rustup>\n  Recommends: cargo-web\n";
        assert_eq!(parse_depends(listing), ["libc6", "libllvm22"]);
    }

    #[test]
    fn a_closure_is_its_unindented_lines() {
        let listing = "libllvm22\n  Depends: libedit2\nlibedit2\n  Depends: <x>\n<x>\n";
        assert_eq!(parse_closure(listing).into_iter().collect::<Vec<_>>(), ["libedit2", "libllvm22"]);
    }

    #[test]
    fn only_what_is_installed_counts_as_installed() {
        let listing = "libz3-4 installed\nold config-files\n";
        assert_eq!(parse_installed(listing).into_iter().collect::<Vec<_>>(), ["libz3-4"]);
    }
}
